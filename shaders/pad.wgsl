// Pad with elements between neighbours, before and after (negative crops). One invocation an output element; words.

struct Params {
    count: u32,
    rank: u32,
    value: u32,
    offset: u32,
    dims: array<vec4<u32>, 2>, // of the result
    sizes: array<vec4<u32>, 2>, // of the argument
    lo: array<vec4<i32>, 2>,
    step: array<vec4<u32>, 2>, // interior + 1
    strides: array<vec4<i32>, 2>, // of the argument
}
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

override WG: u32 = 256u;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WG + lane;
    if i >= params.count {
        return;
    }
    var rest = i;
    var at = i32(params.offset);
    var inside = true;
    for (var k = 0u; k < params.rank; k = k + 1u) {
        let d = params.rank - 1u - k;
        let n = params.dims[d / 4u][d % 4u];
        let c = i32(rest % n) - params.lo[d / 4u][d % 4u];
        rest = rest / n;
        let step = params.step[d / 4u][d % 4u];
        let q = u32(max(c, 0)) / step;
        inside = inside && c >= 0 && q * step == u32(max(c, 0)) && q < params.sizes[d / 4u][d % 4u];
        at = at + i32(q) * params.strides[d / 4u][d % 4u];
    }
    var word = params.value;
    if inside {
        word = x[u32(at)];
    }
    out[i] = word;
}
