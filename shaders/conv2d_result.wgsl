// Where the results of a convolution go. A call computes one phase of the result: every out_step-th element from out_base.
// No entry point. From the header: epilogue.

fn finish(group: u32, m: u32, n: u32, v: f32) {
    let p = params.conv;
    let channel = i32(group * params.gemm.m + m);
    let rest = n / p.pixels.z;
    let rest_y = rest / p.pixels.y;
    let place = vec3<u32>(rest_y % p.pixels.x, rest % p.pixels.y, n % p.pixels.z);
    let at = p.out_base.xyz + p.out_step.xyz * vec3<i32>(place);
    let image = i32(rest_y / p.pixels.x);
    let i = (((image * p.out_size.w + channel) * p.out_size.x + at.x) * p.out_size.y + at.y) * p.out_size.z + at.z;
    out[i] = epilogue(v, Coord(image, channel, at.x, at.y, at.z), u32(i));
}
