// f32 to f16, rounded to nearest, ties to even.
fn to_f16(x: f32) -> f16 {
    return f16(half_(x));
}

fn to_f16x4(x: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(half_(x.x), half_(x.y), half_(x.z), half_(x.w)));
}
