// dx = rstd * (gw - mean(gw) - xh * mean(gw * xh)) with xh = (x - mean) * rstd and gw = g * weight, by rows.
struct Params {
    rows: u32,
    n: u32,
    inverse: f32,
    spare: u32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
    g: vec4<i32>,
    // Offset and step of the weight; offsets of mean and rstd, which are dense.
    affine: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> means: array<f32>;
@group(0) @binding(3) var<storage, read> rstds: array<f32>;
@group(0) @binding(4) var<storage, read> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let at_x = params.x.x + i32(row) * params.x.y;
    let at_g = params.g.x + i32(row) * params.g.y;
    let mean = means[params.affine.z + i32(row)];
    let rstd = rstds[params.affine.w + i32(row)];
    // Sums of gw and of gw * xh.
    var sums = vec2<f32>();
    for (var j = first(lane); j < params.n; j += STEP) {
        let gw = g[at_g + i32(j) * params.g.z] * weight[params.affine.x + i32(j) * params.affine.y];
        let xh = (x[at_x + i32(j) * params.x.z] - mean) * rstd;
        sums += vec2<f32>(gw, gw * xh);
    }
    sums = all_sum2(lane, sums) * params.inverse;
    for (var j = first(lane); j < params.n; j += STEP) {
        let gw = g[at_g + i32(j) * params.g.z] * weight[params.affine.x + i32(j) * params.affine.y];
        let xh = (x[at_x + i32(j) * params.x.z] - mean) * rstd;
        dx[row * params.n + j] = rstd * (gw - sums.x - xh * sums.y);
    }
}
