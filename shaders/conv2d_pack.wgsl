// Packs the operands of a convolution into textures for matmul_packed: the input pixel by pixel, each with its channels four to a
// texel, padding included; the weights in panels of COLS * LANES out channels, sorted by tap and channel.
// From the header: WG, LANES, COLS, ratio, place_in_panel.

fn texel(i: u32) -> vec2<u32> {
    return vec2<u32>(i % IMAGE_WIDTH, i / IMAGE_WIDTH);
}

// Address of channel q (with its tap along x, where those are channels) of a weight's line.
fn weight(q: u32, line: i32) -> f32 {
    let im = params.image;
    let inside = q < im.fold.z;
    let c = ratio(q, im.fold.y);
    let tap = q - c * im.fold.y;
    let at = line + i32(c) * params.conv.w.s1 + i32(tap) * params.conv.w.s4;
    return select(0.0, b[select(0, at, inside)], inside);
}

fn weights(line: i32, q: u32) -> vec4<f32> {
    return vec4<f32>(weight(q, line), weight(q + 1u, line), weight(q + 2u, line), weight(q + 3u, line));
}

// The texels of one pixel.
fn pack_pixel(i: u32) {
    let p = params.conv;
    let im = params.image;
    let rest = ratio(i, im.size.z);
    let rest_y = ratio(rest, im.size.y);
    let image = ratio(rest_y, im.size.x);
    let place = vec3<u32>(rest_y - image * im.size.x, rest - rest_y * im.size.y, (i - rest * im.size.z) * im.fold.x);
    let at = p.start.xyz + vec3<i32>(place);
    let line = p.x.offset + i32(image) * p.x.s0 + at.x * p.x.s2 + at.y * p.x.s3 + at.z * p.x.s4;
    let row_inside = u32(at.x) < u32(p.size.x) && u32(at.y) < u32(p.size.y);
    let groups = params.gemm.batches;
    for (var g = 0u; g < groups; g++) {
        let first = line + i32(g) * p.size.w * p.x.s1;
        for (var t = 0u; t < im.step.w; t++) {
            var v = vec4<f32>();
            //%repeat j FOUR
            let q$j = t * 4u + $ju;
            let c$j = ratio(q$j, im.fold.y);
            let dx$j = i32(q$j - c$j * im.fold.y) * p.dilation.z;
            let in$j = row_inside && q$j < im.fold.z && u32(at.z + dx$j) < u32(p.size.z);
            let v$j = a[select(0, first + i32(c$j) * p.x.s1 + dx$j * p.x.s4, in$j)];
            v[$j] = select(0.0, v$j, in$j);
            //%end
            textureStore(a_packed, texel(i * im.size.w + g * im.step.w + t), v);
        }
    }
}

// Four out channels at one step of the inner loop.
fn pack_weights(i: u32) {
    let g = params.gemm;
    let w = params.conv.w;
    let im = params.image;
    let steps = im.taps.w;
    let fours = (g.n + 3u) / 4u;
    let rest = ratio(i, steps);
    let step = i - rest * steps;
    let group = ratio(rest, fours);
    let channel = (rest - group * fours) * 4u;
    let tap = ratio(step, im.step.w);
    let rest_x = ratio(tap, im.taps.z);
    let z = ratio(rest_x, im.taps.y);
    let at = vec3<i32>(vec3<u32>(z, rest_x - z * im.taps.y, tap - rest_x * im.taps.z));
    let q = (step - tap * im.step.w) * 4u;
    let width = COLS * LANES;
    let to = ((group * g.tiles_n + channel / width) * steps + step) * width;
    let line = w.offset + at.x * w.s2 + at.y * w.s3 + at.z * w.s4;
    //%repeat j FOUR
    let o$j = i32(group * g.n + min(channel + $ju, g.n - 1u));
    textureStore(b_packed, texel(to + place_in_panel(channel % width + $ju)), weights(line + o$j * w.s0, q));
    //%end
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let im = params.image;
    let i = group_index(group, groups) * WG + lane;
    let pixels = im.fold.w * im.size.x * im.size.y * im.size.z;
    if (i < pixels) {
        pack_pixel(i);
    } else if (i - pixels < ((params.gemm.n + 3u) / 4u) * im.taps.w * params.gemm.batches) {
        pack_weights(i - pixels);
    }
}
