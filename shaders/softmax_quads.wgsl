// Rows of exp(x - max) / sum, or (LOG) of x - max - log(sum), an invocation per row. Maximum and sum are found in one pass: whenever a
// block of quads raises the maximum, the sum so far is scaled. A row whose maximum is not finite is NaN, as in torch.
struct Params {
    rows: u32,
    n: u32,
    minus_inf: f32,
    nan: f32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<XElem>;
@group(0) @binding(1) var<storage, read_write> y: array<YElem>;
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
    let step = params.x.z;
    // The lowest finite number and not -inf, so that differences from it are never NaN.
    var top = -3.4028234663852886e38;
    var sum = vec4<f32>();
    var magnitude = vec4<u32>();
    var q = 0u;
    for (; (q + 8u) * 4u <= params.n; q += 8u) {
        let s = x_pair(start, step, q);
        let t = x_pair(start, step, q + 2u);
        let u = x_pair(start, step, q + 4u);
        let v = x_pair(start, step, q + 6u);
        magnitude = max(magnitude, max(max(magnitude4(s.a), magnitude4(s.b)), max(magnitude4(t.a), magnitude4(t.b))));
        magnitude = max(magnitude, max(max(magnitude4(u.a), magnitude4(u.b)), max(magnitude4(v.a), magnitude4(v.b))));
        let high = max(max(max(s.a, s.b), max(t.a, t.b)), max(max(u.a, u.b), max(v.a, v.b)));
        let next = max(top, max4(high));
        let first = (exp_below4(s.a - next) + exp_below4(s.b - next)) + (exp_below4(t.a - next) + exp_below4(t.b - next));
        let second = (exp_below4(u.a - next) + exp_below4(u.b - next)) + (exp_below4(v.a - next) + exp_below4(v.b - next));
        sum = sum * exp_below4(vec4<f32>(top - next)).x + (first + second);
        top = next;
    }
    for (; q * 4u < params.n; q += 2u) {
        let v = x_pair(start, step, q);
        magnitude = max(magnitude, max(magnitude4(v.a), magnitude4(v.b)));
        let next = max(top, max4(max(v.a, v.b)));
        let e = kept(q, Pair(exp_below4(v.a - next), exp_below4(v.b - next)));
        sum = sum * exp_below4(vec4<f32>(top - next)).x + (e.a + e.b);
        top = next;
    }
    let total = sum4(sum);
    // A NaN shows in the magnitude, wherever `max` left it; an infinite or missing maximum in `top` and the sum.
    let largest = max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
    let good = largest <= 0x7f800000u && is_finite(top) && total > 0.0;
    let scale = select(1.0 / total, params.nan, !good);
    // Kept apart from the maximum: in their sum the logarithm would drown where x is large.
    let log_sum = select(log(total), params.nan, !good);
    for (q = 0u; q * 4u < params.n; q += 2u) {
        let v = x_pair(start, step, q);
        let d = Pair(v.a - top, v.b - top);
        if (LOG) {
            y_put(row, q, Pair(d.a - log_sum, d.b - log_sum));
        } else {
            y_put(row, q, Pair(exp_below4(d.a) * scale, exp_below4(d.b) * scale));
        }
    }
}
