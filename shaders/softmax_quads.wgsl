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
        let a = x_quad(start, step, q);
        let b = x_quad(start, step, q + 1u);
        let c = x_quad(start, step, q + 2u);
        let d = x_quad(start, step, q + 3u);
        let e = x_quad(start, step, q + 4u);
        let f = x_quad(start, step, q + 5u);
        let g = x_quad(start, step, q + 6u);
        let h = x_quad(start, step, q + 7u);
        magnitude = max(magnitude, max(max(magnitude4(a), magnitude4(b)), max(magnitude4(c), magnitude4(d))));
        magnitude = max(magnitude, max(max(magnitude4(e), magnitude4(f)), max(magnitude4(g), magnitude4(h))));
        let next = max(top, max4(max(max(max(a, b), max(c, d)), max(max(e, f), max(g, h)))));
        let first = (exp_below4(a - next) + exp_below4(b - next)) + (exp_below4(c - next) + exp_below4(d - next));
        let second = (exp_below4(e - next) + exp_below4(f - next)) + (exp_below4(g - next) + exp_below4(h - next));
        sum = sum * exp_below4(vec4<f32>(top - next)).x + (first + second);
        top = next;
    }
    for (; q * 4u < params.n; q++) {
        let a = x_quad(start, step, q);
        magnitude = max(magnitude, magnitude4(a));
        let next = max(top, max4(a));
        sum = sum * exp_below4(vec4<f32>(top - next)).x + kept4(q, exp_below4(a - next));
        top = next;
    }
    let total = sum4(sum);
    // A NaN shows in the magnitude, wherever `max` left it; an infinite or missing maximum in `top` and the sum.
    let largest = max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
    let good = largest <= 0x7f800000u && is_finite(top) && total > 0.0;
    let scale = select(1.0 / total, params.nan, !good);
    // Kept apart from the maximum: in their sum the logarithm would drown where x is large.
    let log_sum = select(log(total), params.nan, !good);
    for (q = 0u; q * 4u < params.n; q++) {
        let d = x_quad(start, step, q) - top;
        if (LOG) {
            y_put(row, q, d - log_sum);
        } else {
            y_put(row, q, exp_below4(d) * scale);
        }
    }
}
