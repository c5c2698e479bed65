// Steps of an invocation through the quads of a channel, image by image, without a division. No entry point.
fn next(at: vec2<u32>, hop: vec2<u32>, quads: u32) -> vec2<u32> {
    var to = at + hop;
    if (to.y >= quads) {
        to = vec2<u32>(to.x + 1u, to.y - quads);
    }
    return to;
}

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
