// The largest element of each window (NaN if any is), or (SUM) the sum; padding is skipped.
struct Params {
    pool: Pool,
    x: Planes,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
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
    let s = spot(i, p.windows);
    let plane = plane_of(params.x, s);
    let start = s.at * p.stride.xyz - p.lo.xyz;
    var result = select(p.minus_inf, 0.0, SUM);
    for (var tz = 0; tz < p.kernel.x; tz++) {
        for (var ty = 0; ty < p.kernel.y; ty++) {
            for (var tx = 0; tx < p.kernel.z; tx++) {
                let at = start + vec3<i32>(tz, ty, tx) * p.dilation.xyz;
                if (inside(at, p.size)) {
                    let v = x[place(params.x, plane, at)];
                    if (SUM) {
                        result += v;
                    } else {
                        result = max_nan(result, v);
                    }
                }
            }
        }
    }
    y[i] = result;
}
