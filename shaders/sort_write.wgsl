// Last pass of the sort: values and positions in their order, back to [outer, n, inner].

struct Params {
    count: u32,
    n: u32,
    inner: u32,
    offset: u32,
}
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> sorted: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> values: array<u32>;
@group(0) @binding(3) var<storage, read_write> positions: array<i32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group_index(group, groups) * WG + lane;
    if t >= params.count {
        return;
    }
    let line = t / params.n;
    let j = t % params.n;
    let first = (line / params.inner) * params.n * params.inner + line % params.inner;
    let from_ = sorted[t].y;
    values[first + j * params.inner] = x[params.offset + first + from_ * params.inner];
    positions[first + j * params.inner] = i32(from_);
}
