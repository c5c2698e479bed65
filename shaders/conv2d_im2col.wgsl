// A convolution as a product, without making the im2col matrix: a = weights [out channel, k], b = input [k, pixel], where
// k = ((channel * KZ + z) * KY + y) * KX + x counts the taps and a pixel is (image, z, y, x) of the result; groups are batches.
// Gaps of a dilated input never come here: the host splits such a convolution by phase into dense ones, whose taps and
// pixels are sublattices. 1-D and 2-D have ones in the missing dimensions, and FLAT says that z is missing.
// From the header: struct Params, FLAT, PADDED, K_EXACT, SMALL_K, SAME_ROW (four pixels from a multiple of four are in one row of the result),
// W_RUN (the taps of a channel of the weights are one run), shift_at (shift_of of this file, perhaps kept), epilogue.

// A tap: its channel and its place in the kernel.
struct Tap {
    c: i32,
    z: i32,
    y: i32,
    x: i32,
}

// Quotient by a divisor whose reciprocal is known. The float path is exact while x < 2^21 (SMALL_K): the distance of
// (x + 1/2) / d from an integer is at least 1 / 2d, its error at most 3 * 2^-24 * x / d.
fn quotient(x: u32, d: u32, inverse: f32) -> u32 {
    if (SMALL_K) {
        return u32((f32(x) + 0.5) * inverse);
    }
    return x / d;
}

fn tap_of(k: u32) -> Tap {
    let p = params.conv;
    let c = quotient(k, p.taps.w, p.inverse.x);
    var rest = k - c * p.taps.w;
    var z = 0u;
    if (!FLAT) {
        z = quotient(rest, p.taps.y * p.taps.z, p.inverse.y);
        rest -= z * (p.taps.y * p.taps.z);
    }
    let y = quotient(rest, p.taps.z, p.inverse.z);
    return Tap(i32(c), i32(z), i32(y), i32(rest - y * p.taps.z));
}

// Four neighbouring pixels: address and input coordinates of their first tap.
struct Pixels {
    start: vec4<i32>,
    z: vec4<i32>,
    y: vec4<i32>,
    x: vec4<i32>,
}

fn b_cols(group: u32, first: u32) -> Pixels {
    let p = params.conv;
    let n = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.gemm.n - 1u));
    let x = n % p.pixels.z;
    let rest = n / p.pixels.z;
    let y = rest % p.pixels.y;
    let rest_y = rest / p.pixels.y;
    let z = rest_y % p.pixels.x;
    let image = vec4<i32>(rest_y / p.pixels.x);
    var at: Pixels;
    at.z = vec4<i32>(z) * p.stride.x + p.start.x;
    at.y = vec4<i32>(y) * p.stride.y + p.start.y;
    at.x = vec4<i32>(x) * p.stride.z + p.start.z;
    let start = p.x.offset + i32(group) * p.size.w * p.x.s1;
    at.start = start + image * p.x.s0 + at.z * p.x.s2 + at.y * p.x.s3 + at.x * p.x.s4;
    return at;
}

// How far a tap moves the address, and the input coordinates z, y, x.
fn shift_of(k: u32) -> vec4<i32> {
    let p = params.conv;
    let tap = tap_of(k);
    let dz = tap.z * p.dilation.x;
    let dy = tap.y * p.dilation.y;
    let dx = tap.x * p.dilation.z;
    return vec4<i32>(tap.c * p.x.s1 + dz * p.x.s2 + dy * p.x.s3 + dx * p.x.s4, dz, dy, dx);
}

// One tap of four pixels; zero outside the input and beyond the last tap.
fn b_load(at: Pixels, k: u32) -> vec4<f32> {
    let p = params.conv;
    let shift = shift_at(k);
    var address = at.start + shift.x;
    var inside = vec4<bool>(true);
    if (!K_EXACT) {
        inside = vec4<bool>(k < params.gemm.k);
    }
    if (PADDED) {
        inside &= vec4<u32>(at.x + shift.w) < vec4<u32>(u32(p.size.z));
        if (SAME_ROW) {
            var row = u32(at.y.x + shift.z) < u32(p.size.y);
            if (!FLAT) {
                row = row && u32(at.z.x + shift.y) < u32(p.size.x);
            }
            inside &= vec4<bool>(row);
        } else {
            inside &= vec4<u32>(at.y + shift.z) < vec4<u32>(u32(p.size.y));
            if (!FLAT) {
                inside &= vec4<u32>(at.z + shift.y) < vec4<u32>(u32(p.size.x));
            }
        }
    }
    address = select(vec4<i32>(), address, inside);
    let v = vec4<f32>(b[address.x], b[address.y], b[address.z], b[address.w]);
    return select(vec4<f32>(), v, inside);
}

fn b_line(group: u32, first: u32) -> Pixels {
    return b_cols(group, first);
}

fn b_block(at: Pixels, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(b_load(at, k), b_load(at, k + 1u), b_load(at, k + 2u), b_load(at, k + 3u));
}

// Weights of an out channel whose taps do not lie in one line: each channel's taps do (W_RUN), or not even those (flipped, permuted or
// a phase's sublattice).
fn weight_address(line: i32, k: u32) -> i32 {
    let w = params.conv.w;
    if (W_RUN) {
        let c = quotient(k, params.conv.taps.w, params.conv.inverse.x);
        return line + i32(c) * w.s1 + i32(k - c * params.conv.taps.w) * w.run;
    }
    let tap = tap_of(k);
    return line + tap.c * w.s1 + tap.z * w.s2 + tap.y * w.s3 + tap.x * w.s4;
}
