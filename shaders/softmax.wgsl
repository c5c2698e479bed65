// Rows of exp(x - max) / sum, or (LOG) of x - max - log(sum). A row whose maximum is not finite is NaN, as in torch.
struct Params {
    rows: u32,
    n: u32,
    minus_inf: f32,
    nan: f32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
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
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let start = params.x.x + i32(row) * params.x.y;
    var top = params.minus_inf;
    for (var j = first(lane); j < params.n; j += STEP) {
        top = max_nan(top, x[start + i32(j) * params.x.z]);
    }
    top = all_max(lane, top);
    var sum = 0.0;
    for (var j = first(lane); j < params.n; j += STEP) {
        sum += exp_below(x[start + i32(j) * params.x.z] - top);
    }
    sum = all_sum(lane, sum);
    let good = is_finite(top);
    let scale = select(1.0 / sum, params.nan, !good);
    // Kept apart from the maximum: in their sum the logarithm would drown where x is large.
    let log_sum = select(log(sum), params.nan, !good);
    for (var j = first(lane); j < params.n; j += STEP) {
        let d = x[start + i32(j) * params.x.z] - top;
        y[row * params.n + j] = select(exp_below(d) * scale, d - log_sum, LOG);
    }
}
