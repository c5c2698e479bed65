// Geometry of one phase of a convolution. No entry point.

struct Conv {
    // Input: image, channel, z, y, x.
    x: Strided,
    // Weights of this phase: out channel, in channel, z, y, x.
    w: Strided,
    // Taps (z, y, x) and their product times 1; reciprocals of (taps, ky*kx, kx).
    taps: vec4<u32>,
    inverse: vec4<f32>,
    // Input sizes (z, y, x); input channels of a group.
    size: vec4<i32>,
    // Pixels of this phase (z, y, x).
    pixels: vec4<u32>,
    // Result coordinate of pixel p: base + step * p; sizes of the result (z, y, x) and its channels.
    out_base: vec4<i32>,
    out_step: vec4<i32>,
    out_size: vec4<i32>,
    // Input coordinate of tap t of pixel p: start + stride * p + dilation * t.
    start: vec4<i32>,
    stride: vec4<i32>,
    dilation: vec4<i32>,
}

// The packed input of one phase (conv2d_pack).
struct Image {
    // Sizes z, y, x with the padding; texels of a pixel.
    size: vec4<u32>,
    // Step between pixels of the result (z, y, x); texels of a pixel and group.
    step: vec4<u32>,
    // Input coordinates per coordinate along x; taps along x that are channels here; channels of a group times those; images.
    fold: vec4<u32>,
    // Taps (z, y, x) of the inner loop, and its steps.
    taps: vec4<u32>,
    // Texels between taps (z, y, x).
    tap: vec4<u32>,
    // What the walk adds where its channels, its x and its y end.
    jump: vec4<i32>,
}
