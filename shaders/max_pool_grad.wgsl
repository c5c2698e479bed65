// dx of max pooling: an element gets g of each window that covers it and of which it is the first maximum in row-major order;
// a NaN counts as maximum. Padding never is one.
// From the header: SINGLE (windows do not overlap, so an element has at most one, found by one division), BOXES (neither do they, and an
// invocation computes all elements from the start of one window to the next one's).
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
    let p = pool();
    let start = w * p.stride.xyz - p.lo.xyz;
    var tap = vec3<i32>();
    for (var t = 0; t < mine; t++) {
        let at = start + tap * p.dilation.xyz;
        if (inside(at, p.size)) {
            let v = x[place(params.x, plane, at)];
            if (v == top || is_nan(v)) {
                return true;
            }
        }
        tap.z += 1;
        if (tap.z == p.kernel.z) {
            tap = vec3<i32>(tap.x, tap.y + 1, 0);
            if (tap.y == p.kernel.y) {
                tap = vec3<i32>(tap.x + 1, 0, 0);
            }
        }
    }
    return false;
}

// What an element of value v, tap `tap` of window w, gets of the window's g.
fn share(s: Spot, w: vec3<i32>, tap: vec3<i32>, v: f32) -> f32 {
    let p = pool();
    if (!inside(w, p.windows)) {
        return 0.0;
    }
    let top = y[place(params.y, plane_of(params.y, s), w)];
    let mine = (tap.x * p.kernel.y + tap.y) * p.kernel.z + tap.z;
    if ((v == top || is_nan(v)) && !taken(plane_of(params.x, s), w, mine, top)) {
        return g[place(params.g, plane_of(params.g, s), w)];
    }
    return 0.0;
}

// The elements of the box of one stride that begins with window `s.at`, whether or not that window exists; elements behind a window
// that is smaller than its stride, and those before the first, are in none.
fn fill_box(s: Spot) {
    let p = pool();
    let exists = inside(s.at, p.windows);
    var top = 0.0;
    var left = 0.0;
    if (exists) {
        top = y[place(params.y, plane_of(params.y, s), s.at)];
        left = g[place(params.g, plane_of(params.g, s), s.at)];
    }
    let plane = plane_of(params.x, s);
    let start = s.at * p.stride.xyz - p.lo.xyz;
    let slice = (s.image * p.channels + s.channel) * p.size.x;
    for (var tz = 0; tz < p.stride.x; tz++) {
        for (var ty = 0; ty < p.stride.y; ty++) {
            for (var tx = 0; tx < p.stride.z; tx++) {
                let tap = vec3<i32>(tz, ty, tx);
                let at = start + tap;
                if (inside(at, p.size)) {
                    var value = 0.0;
                    if (exists && all(tap < p.kernel.xyz)) {
                        let v = x[place(params.x, plane, at)];
                        if (v == top || is_nan(v)) {
                            value = left;
                            left = 0.0;
                        }
                    }
                    dx[((slice + at.x) * p.size.y + at.y) * p.size.z + at.z] = value;
                }
            }
        }
    }
}

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
    if (BOXES) {
        let boxes = (p.size.xyz + p.lo.xyz + p.stride.xyz - 1) / p.stride.xyz;
        fill_box(spot(i, vec4<i32>(boxes, 0)));
        return;
    }
    let s = spot(i, p.size);
    let v = x[place(params.x, plane_of(params.x, s), s.at)];
    if (SINGLE) {
        let from_start = s.at + p.lo.xyz;
        let w = from_start / p.stride.xyz;
        let tap = from_start - w * p.stride.xyz;
        // Windows smaller than their distance leave gaps.
        if (all(tap < p.kernel.xyz)) {
            dx[i] = share(s, w, tap, v);
        } else {
            dx[i] = 0.0;
        }
        return;
    }
    var sum = 0.0;
    for (var tz = 0; tz < p.kernel.x; tz++) {
        for (var ty = 0; ty < p.kernel.y; ty++) {
            for (var tx = 0; tx < p.kernel.z; tx++) {
                let tap = vec3<i32>(tz, ty, tx);
                sum += share(s, window_of(s.at, tap), tap, v);
            }
        }
    }
    dx[i] = sum;
}
