// Rows of (x - mean) * rstd * weight + bias, with mean and rstd = 1 / sqrt(var + eps); the variance in a second pass (row_team).
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

@group(0) @binding(0) var<storage, read> x: array<XElem>;
@group(0) @binding(1) var<storage, read> weight: array<WeightElem>;
@group(0) @binding(2) var<storage, read> bias: array<BiasElem>;
@group(0) @binding(3) var<storage, read_write> y: array<YElem>;
@group(0) @binding(4) var<storage, read_write> means: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstds: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = row_of(group, groups, lane);
    let row = min(own, params.rows - 1u);
    let start = params.x.x + i32(row) * params.x.y;
    //%repeat i QUADS
    var x$i: vec4<f32>;
    //%end
    var sum = vec4<f32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        x$i = x_quad(start, params.x.z, q$i);
        sum += within(q$i, x$i, 0.0);
        //%end
    }
    let mean = all_sum(lane, sum4(sum)) * params.inverse;
    // The deviations sum to what rounding took from the mean: rows of one value come out as exactly 0.
    var moved = vec4<f32>();
    var squares = vec4<f32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        if (!HELD) {
            x$i = x_quad(start, params.x.z, q$i);
        }
        let d$i = within(q$i, x$i - mean, 0.0);
        moved += d$i;
        squares += d$i * d$i;
        //%end
    }
    let sums = all_sum2(lane, vec2<f32>(sum4(moved), sum4(squares))) * params.inverse;
    let shift = sums.x;
    // Not max(), which drops a NaN.
    let variance = sums.y - shift * shift;
    let rstd = 1.0 / sqrt(select(variance, 0.0, variance < 0.0) + params.eps);
    if (own >= params.rows) {
        return;
    }
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        if (!HELD) {
            x$i = x_quad(start, params.x.z, q$i);
        }
        let w$i = weight_quad(params.affine.x, params.affine.y, q$i);
        let b$i = bias_quad(params.affine.z, params.affine.w, q$i);
        y_put(row, q$i, (x$i - mean - shift) * rstd * w$i + b$i);
        //%end
    }
    if (lane % LANES == 0u) {
        means[row] = mean + shift;
        rstds[row] = rstd;
    }
}
