// dx of max pooling: an element gets g of each window that covers it and of which it is the first maximum in row-major order;
// a NaN counts as maximum. Padding never is one.
struct Params {
    pool: Pool,
    x: Planes,
    y: Planes,
    g: Planes,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

// True if an element before tap number `mine` of window w has the window's maximum, too.
fn taken(plane: i32, w: vec3<i32>, mine: i32, top: f32) -> bool {
    let p = params.pool;
    let start = w * p.stride.xyz - p.lo.xyz;
    for (var t = 0; t < mine; t++) {
        let row = t / p.kernel.z;
        let tap = vec3<i32>(row / p.kernel.y, row % p.kernel.y, t % p.kernel.z);
        let at = start + tap * p.dilation.xyz;
        if (inside(at, p.size)) {
            let v = x[place(params.x, plane, at)];
            if (v == top || is_nan(v)) {
                return true;
            }
        }
    }
    return false;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params.pool;
    let i = group_index(group, groups) * WG + lane;
    if (i >= p.elems) {
        return;
    }
    let s = spot(i, p.size);
    let plane_x = plane_of(params.x, s);
    let plane_y = plane_of(params.y, s);
    let plane_g = plane_of(params.g, s);
    let v = x[place(params.x, plane_x, s.at)];
    var sum = 0.0;
    for (var tz = 0; tz < p.kernel.x; tz++) {
        for (var ty = 0; ty < p.kernel.y; ty++) {
            for (var tx = 0; tx < p.kernel.z; tx++) {
                let w = window_of(s.at, vec3<i32>(tz, ty, tx));
                if (inside(w, p.windows)) {
                    let top = y[place(params.y, plane_y, w)];
                    if ((v == top || is_nan(v)) && !taken(plane_x, w, (tz * p.kernel.y + ty) * p.kernel.z + tx, top)) {
                        sum += g[place(params.g, plane_g, w)];
                    }
                }
            }
        }
    }
    dx[i] = sum;
}
