// The nearest f16, ties to even, as f32; from 65520 on infinity. Bits only: how a conversion rounds, and what it makes of numbers
// that f16 does not reach, is left open by WGSL and differs between adapters. Converting the result to f16 then rounds nothing.
fn half_(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let sign = bits & 0x80000000u;
    let a = bits & 0x7fffffffu;
    // Normal in f16: 13 bits fewer. A carry into the exponent is right, too.
    let near = (a + 0xfffu + ((a >> 13u) & 1u)) & 0xffffe000u;
    let normal = select(near, 0x7f800000u, near >= 0x47800000u);
    // Below 2^-14 all f16 are multiples of 2^-24: the mantissa shifted to that unit, and rounded. Below 2^-25 nothing is left.
    let shift = min(126u - min(a >> 23u, 112u), 31u);
    let mantissa = (a & 0x7fffffu) | 0x800000u;
    let units = mantissa >> shift;
    let rest = mantissa & ((1u << shift) - 1u);
    let middle = 1u << (shift - 1u);
    let up = rest > middle || (rest == middle && (units & 1u) == 1u);
    let small = bitcast<u32>(f32(units + u32(up)) * 5.9604644775390625e-8);
    // Infinity and NaN as they are.
    return bitcast<f32>(sign | select(select(small, normal, a >= 0x38800000u), a, a >= 0x7f800000u));
}
