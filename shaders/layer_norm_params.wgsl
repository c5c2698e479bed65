// Gradients of weight and bias of a layer norm, first pass: an invocation per column and chunk of rows sums g * xh and g.
struct Params {
    rows: u32,
    n: u32,
    chunk: u32,
    chunks: u32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
    g: vec4<i32>,
    // Offsets of mean and rstd.
    stats: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> means: array<f32>;
@group(0) @binding(2) var<storage, read> rstds: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WG + lane;
    if (i >= params.n * params.chunks) {
        return;
    }
    let col = i32(i % params.n);
    let from_row = (i / params.n) * params.chunk;
    let to_row = min(from_row + params.chunk, params.rows);
    var dw = 0.0;
    var db = 0.0;
    for (var r = i32(from_row); r < i32(to_row); r++) {
        let gv = g[params.g.x + r * params.g.y + col * params.g.z];
        let v = x[params.x.x + r * params.x.y + col * params.x.z];
        dw += gv * ((v - means[params.stats.x + r]) * rstds[params.stats.y + r]);
        db += gv;
    }
    partial[i] = dw;
    partial[params.n * params.chunks + i] = db;
}
