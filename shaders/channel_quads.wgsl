// Steps of an invocation through the units of a channel, image by image, without a division. No entry point. In the variant `wide` a
// unit is eight places, else it is four, and only `a` of a pair counts.
fn next(at: vec2<u32>, hop: vec2<u32>, units: u32) -> vec2<u32> {
    var to = at + hop;
    if (to.y >= units) {
        to = vec2<u32>(to.x + 1u, to.y - units);
    }
    return to;
}
