// Rows of (x - mean) * rstd * weight + bias, with mean and rstd = 1 / sqrt(var + eps), an invocation per row. One pass finds the
// statistics, block by block: sums of deviations from the mean so far move the mean and correct the sum of squares (Welford's
// formula for blocks). Deviations are from the first quad's mean at first, so a row of one value comes out as exactly 0.
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
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let start = params.x.x + i32(row) * params.x.y;
    let step = params.x.z;
    let begin = x_quad(start, step, 0u);
    var mean = select(begin.x, sum4(begin) * 0.25, params.n >= 4u);
    var squares = 0.0;
    var q = 0u;
    for (; (q + 8u) * 4u <= params.n; q += 8u) {
        let a = x_quad(start, step, q) - mean;
        let b = x_quad(start, step, q + 1u) - mean;
        let c = x_quad(start, step, q + 2u) - mean;
        let d = x_quad(start, step, q + 3u) - mean;
        let e = x_quad(start, step, q + 4u) - mean;
        let f = x_quad(start, step, q + 5u) - mean;
        let g = x_quad(start, step, q + 6u) - mean;
        let h = x_quad(start, step, q + 7u) - mean;
        let sum = sum4(((a + b) + (c + d)) + ((e + f) + (g + h)));
        let square = sum4(((a * a + b * b) + (c * c + d * d)) + ((e * e + f * f) + (g * g + h * h)));
        let moved = sum / f32((q + 8u) * 4u);
        mean += moved;
        squares += square - sum * moved;
    }
    for (; q * 4u < params.n; q++) {
        let a = kept4(q, x_quad(start, step, q) - mean);
        let sum = sum4(a);
        let moved = sum / f32(min((q + 1u) * 4u, params.n));
        mean += moved;
        squares += sum4(a * a) - sum * moved;
    }
    let rstd = 1.0 / sqrt(max(squares, 0.0) * params.inverse + params.eps);
    for (q = 0u; q * 4u < params.n; q++) {
        let w = weight_quad(params.affine.x, params.affine.y, q);
        let b = bias_quad(params.affine.z, params.affine.w, q);
        y_put(row, q, (x_quad(start, step, q) - mean) * rstd * w + b);
    }
    means[row] = mean;
    rstds[row] = rstd;
}
