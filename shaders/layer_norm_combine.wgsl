// Gradients of weight and bias of a layer norm, second pass: sums the chunks of a column in order.
struct Params {
    rows: u32,
    n: u32,
    chunk: u32,
    chunks: u32,
    x: vec4<i32>,
    g: vec4<i32>,
    stats: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(2) var<storage, read_write> dbias: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = group_index(group, groups) * WG + lane;
    if (col >= params.n) {
        return;
    }
    var dw = 0.0;
    var db = 0.0;
    for (var c = 0u; c < params.chunks; c++) {
        dw += partial[c * params.n + col];
        db += partial[(params.chunks + c) * params.n + col];
    }
    dweight[col] = dw;
    dbias[col] = db;
}
