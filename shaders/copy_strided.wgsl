// Copies a strided view into a strided place of the result. One invocation an element; words.

struct Params {
    count: u32,
    rank: u32,
    from_offset: i32,
    to_offset: i32,
    dims: array<vec4<u32>, 2>,
    from_strides: array<vec4<i32>, 2>,
    to_strides: array<vec4<i32>, 2>,
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
    var from_ = params.from_offset;
    var to = params.to_offset;
    for (var d = params.rank - 1u; d > 0u; d = d - 1u) {
        let n = params.dims[d / 4u][d % 4u];
        let c = i32(rest % n);
        rest = rest / n;
        from_ = from_ + c * params.from_strides[d / 4u][d % 4u];
        to = to + c * params.to_strides[d / 4u][d % 4u];
    }
    // What remains is the outermost coordinate: contiguous copies, the usual ones, divide nothing.
    from_ = from_ + i32(rest) * params.from_strides[0].x;
    to = to + i32(rest) * params.to_strides[0].x;
    out[u32(to)] = x[u32(from_)];
}
