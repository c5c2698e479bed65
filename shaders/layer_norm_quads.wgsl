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

fn squared(v: Pair) -> vec4<f32> {
    return v.a * v.a + v.b * v.b;
}

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
    let begin = x_pair(start, step, 0u).a;
    var mean = select(begin.x, sum4(begin) * 0.25, params.n >= 4u);
    var squares = 0.0;
    var q = 0u;
    for (; (q + 8u) * 4u <= params.n; q += 8u) {
        let s = moved_by(x_pair(start, step, q), mean);
        let t = moved_by(x_pair(start, step, q + 2u), mean);
        let u = moved_by(x_pair(start, step, q + 4u), mean);
        let v = moved_by(x_pair(start, step, q + 6u), mean);
        let sum = sum4(((s.a + s.b) + (t.a + t.b)) + ((u.a + u.b) + (v.a + v.b)));
        let square = sum4((squared(s) + squared(t)) + (squared(u) + squared(v)));
        let moved = sum / f32((q + 8u) * 4u);
        mean += moved;
        squares += square - sum * moved;
    }
    for (; q * 4u < params.n; q += 2u) {
        let v = kept(q, moved_by(x_pair(start, step, q), mean));
        let sum = sum4(v.a + v.b);
        let moved = sum / f32(min((q + 2u) * 4u, params.n));
        mean += moved;
        squares += sum4(squared(v)) - sum * moved;
    }
    // Not max(), which drops a NaN.
    let rstd = 1.0 / sqrt(select(squares, 0.0, squares < 0.0) * params.inverse + params.eps);
    for (q = 0u; q * 4u < params.n; q += 2u) {
        let w = weight_pair(params.affine.x, params.affine.y, q);
        let b = bias_pair(params.affine.z, params.affine.w, q);
        let v = moved_by(x_pair(start, step, q), mean);
        y_put(row, q, Pair(v.a * rstd * w.a + b.a, v.b * rstd * w.b + b.b));
    }
    means[row] = mean;
    rstds[row] = rstd;
}
