// Maximum and sum of exponentials of a row in one pass: whenever a block raises the maximum, the sum so far is scaled. No entry point.
struct Running {
    top: f32,
    sum: vec4<f32>,
    // Largest bits without the sign: a NaN shows here, wherever `max` left it.
    magnitude: vec4<u32>,
}

// The lowest finite number and not -inf, so that differences from it are never NaN.
fn nothing() -> Running {
    return Running(-3.4028234663852886e38, vec4<f32>(), vec4<u32>());
}

fn magnitudes(v: Pair) -> vec4<u32> {
    return max(magnitude4(v.a), magnitude4(v.b));
}

fn exps(v: Pair, top: f32) -> vec4<f32> {
    return exp_below4(v.a - top) + exp_below4(v.b - top);
}

fn absorb(r: Running, v: Pair) -> Running {
    let top = max(r.top, max4(max(v.a, v.b)));
    let sum = r.sum * exp_below4(vec4<f32>(r.top - top)).x + exps(v, top);
    return Running(top, sum, max(r.magnitude, magnitudes(v)));
}

fn absorb_block(r: Running, s: Pair, t: Pair, u: Pair, v: Pair) -> Running {
    let high = max(max(max(s.a, s.b), max(t.a, t.b)), max(max(u.a, u.b), max(v.a, v.b)));
    let top = max(r.top, max4(high));
    let sum = r.sum * exp_below4(vec4<f32>(r.top - top)).x + ((exps(s, top) + exps(t, top)) + (exps(u, top) + exps(v, top)));
    let largest = max(max(magnitudes(s), magnitudes(t)), max(magnitudes(u), magnitudes(v)));
    return Running(top, sum, max(r.magnitude, largest));
}

// True if no element was NaN or +inf.
fn is_good(r: Running) -> bool {
    let largest = max(max(r.magnitude.x, r.magnitude.y), max(r.magnitude.z, r.magnitude.w));
    return largest <= 0x7f800000u && is_finite(r.top);
}
