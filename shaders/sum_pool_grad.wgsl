// dx of sum pooling: the sum of g over the windows that cover an element.
struct Params {
    pool: Pool,
    g: Planes,
}

@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = pool();
    let i = group_index(group, groups) * WG + lane;
    if (i >= p.elems) {
        return;
    }
    let s = spot(i, p.size);
    let plane = plane_of(params.g, s);
    var sum = 0.0;
    for (var tz = 0; tz < p.kernel.x; tz++) {
        for (var ty = 0; ty < p.kernel.y; ty++) {
            for (var tx = 0; tx < p.kernel.z; tx++) {
                let w = window_of(s.at, vec3<i32>(tz, ty, tx));
                if (inside(w, p.windows)) {
                    sum += g[place(params.g, plane, w)];
                }
            }
        }
    }
    dx[i] = sum;
}
