// Rows of a table: out[i] = x[index[i]]; a row out of range gives zeros (and was reported). One invocation an E,
// which is a word or four.

struct Params {
    count: u32, // E's of the result
    width: u32, // E's of a row
    rows: u32,
    x_offset: u32, // in E's
    index_offset: i32,
    index_stride: i32,
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(0) var<storage, read> x: array<E>;
@group(0) @binding(1) var<storage, read> index: array<i32>;
@group(0) @binding(2) var<storage, read_write> out: array<E>;
@group(0) @binding(3) var<uniform> params: Params;

override WG: u32 = 256u;

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
    let row = index[u32(params.index_offset + i32(t / params.width) * params.index_stride)];
    var e = E();
    if row >= 0 && u32(row) < params.rows {
        e = x[params.x_offset + u32(row) * params.width + t % params.width];
    }
    out[t] = e;
}
