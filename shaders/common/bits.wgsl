// Tests of floats by their bits: compilers may assume that NaN and infinity do not exist, and fold x != x away.

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// NaN wins, in either place; the built-in max drops it.
fn max_nan(a: f32, b: f32) -> f32 {
    return select(select(b, a, a > b), select(b, a, is_nan(a)), is_nan(a) || is_nan(b));
}

fn min_nan(a: f32, b: f32) -> f32 {
    return select(select(b, a, a < b), select(b, a, is_nan(a)), is_nan(a) || is_nan(b));
}
