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
