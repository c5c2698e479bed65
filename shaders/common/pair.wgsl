// Eight neighbours: the first four and the next four, or in variants `wide` the even ones and the odd ones.
struct Pair {
    a: vec4<f32>,
    b: vec4<f32>,
}

fn moved_by(v: Pair, mean: f32) -> Pair {
    return Pair(v.a - mean, v.b - mean);
}
