// Rows of (x - mean) * rstd * weight + bias, with mean and rstd = 1 / sqrt(var + eps); the variance in a second pass.
struct Params {
    rows: u32,
    n: u32,
    inverse: f32,
    eps: f32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
    // Offset and step of weight, of bias.
    affine: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> means: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstds: array<f32>;
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
    let start = params.x.x + i32(row) * params.x.y;
    var sum = 0.0;
    for (var j = first(lane); j < params.n; j += STEP) {
        sum += x[start + i32(j) * params.x.z];
    }
    let mean = all_sum(lane, sum) * params.inverse;
    // The deviations sum to what rounding took from the mean: rows of one value come out as exactly 0.
    var sums = vec2<f32>();
    for (var j = first(lane); j < params.n; j += STEP) {
        let d = x[start + i32(j) * params.x.z] - mean;
        sums += vec2<f32>(d, d * d);
    }
    sums = all_sum2(lane, sums) * params.inverse;
    let shift = sums.x;
    // Not max(), which drops a NaN.
    let variance = sums.y - shift * shift;
    let rstd = 1.0 / sqrt(select(variance, 0.0, variance < 0.0) + params.eps);
    for (var j = first(lane); j < params.n; j += STEP) {
        let w = weight[params.affine.x + i32(j) * params.affine.y];
        let b = bias[params.affine.z + i32(j) * params.affine.w];
        y[row * params.n + j] = (x[start + i32(j) * params.x.z] - mean - shift) * rstd * w + b;
    }
    if (leads(lane)) {
        means[row] = mean + shift;
        rstds[row] = rstd;
    }
}
