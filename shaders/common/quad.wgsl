// Four values at a time.

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn max4(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// exp of values that are at most about 0; exactly 0 where the result would be subnormal, also for -inf.
fn exp_below4(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), vec4<f32>(), x < vec4<f32>(-87.3));
}

// The bits without the sign: beyond those of infinity for NaN. `max` may drop a NaN; their maximum, at two instructions a quad, does not.
fn magnitude4(x: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
}

// Maxima by component; NaN wins.
fn max_nan4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(max_nan(a.x, b.x), max_nan(a.y, b.y), max_nan(a.z, b.z), max_nan(a.w, b.w));
}
