// Order-preserving integer keys of elements: NaN is largest, -0 equals 0. KIND: 0 f32, 1 i32, 2 u32 and bool.

fn key_of(bits: u32) -> u32 {
    if KIND == 2u {
        return bits;
    }
    if KIND == 1u {
        return bits ^ 0x80000000u;
    }
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return 0xffffffffu;
    }
    let b = select(bits, 0u, bits == 0x80000000u);
    return select(b | 0x80000000u, ~b, (b & 0x80000000u) != 0u);
}
