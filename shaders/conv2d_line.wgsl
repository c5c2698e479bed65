// Where the rows of the im2col matrix lie in a packed input: row m is the pixel under the first tap, a step of k a shift from it.
// No entry point. From the header: ratio.

fn a_line(group: u32, m: u32) -> u32 {
    let p = params.conv;
    let im = params.image;
    let n = min(m, params.gemm.m - 1u);
    let rest = ratio(n, p.pixels.z);
    let rest_y = ratio(rest, p.pixels.y);
    let image = ratio(rest_y, p.pixels.x);
    let z = (rest_y - image * p.pixels.x) * im.step.x;
    let y = (rest - rest_y * p.pixels.y) * im.step.y;
    let x = (n - rest * p.pixels.z) * im.step.z;
    return (((image * im.size.x + z) * im.size.y + y) * im.size.z + x) * im.size.w + group * im.step.w;
}

// A step of k: its shift, its texel of the pixel, its taps x and y.
fn a_first(step: u32) -> vec4<u32> {
    let im = params.image;
    let tap = step / im.step.w;
    let rest = tap / im.taps.z;
    let at = vec3<u32>(rest / im.taps.y, rest % im.taps.y, tap % im.taps.z);
    let t = step % im.step.w;
    return vec4<u32>(at.x * im.tap.x + at.y * im.tap.y + at.z * im.tap.z + t, t, at.z, at.y);
}

fn a_next(walk: vec4<u32>) -> vec4<u32> {
    let im = params.image;
    var w = walk + vec4<u32>(1u, 1u, 0u, 0u);
    let c = w.y == im.step.w;
    w.x += select(0u, u32(im.jump.x), c);
    w.y = select(w.y, 0u, c);
    w.z += select(0u, 1u, c);
    let x = c && w.z == im.taps.z;
    w.x += select(0u, u32(im.jump.y), x);
    w.z = select(w.z, 0u, x);
    w.w += select(0u, 1u, x);
    let y = x && w.w == im.taps.y;
    w.x += select(0u, u32(im.jump.z), y);
    w.w = select(w.w, 0u, y);
    return w;
}
