// Kernels that fold rows, LANES invocations per row, four elements of each at a time. An invocation holds QUADS quads of its row, LANES
// quads apart, so that neighbours load neighbours: all that it has (HELD), or those of one block of a long row after another. No
// entry point. From the header: WG, LANES, QUADS, HELD, EXACT (blocks are full), all_sum, all_sum2 and all_max for LANES, and for each
// operand NAME_quad(start, step, q), or NAME_put(row, q, v). Every invocation of a workgroup takes part in the folds: those without a
// row of their own compute the last one, and write nothing.

fn row_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_index(group, groups) * (WG / LANES) + lane / LANES;
}

// Blocks of a row.
fn blocks() -> u32 {
    if (HELD) {
        return 1u;
    }
    return (params.n + 4u * LANES * QUADS - 1u) / (4u * LANES * QUADS);
}

// The i-th quad of an invocation in this block.
fn quad_of(lane: u32, block: u32, i: u32) -> u32 {
    return lane % LANES + (block * QUADS + i) * LANES;
}

// The quad at q as far as the row has it.
fn within(q: u32, v: vec4<f32>, otherwise: f32) -> vec4<f32> {
    if (EXACT) {
        return v;
    }
    return select(vec4<f32>(otherwise), v, vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.n));
}

// x, or NaN where one of these magnitudes is that of a NaN.
fn unless_nan(x: f32, magnitudes: vec4<u32>, nan: f32) -> f32 {
    let largest = max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w));
    return select(x, nan, largest > 0x7f800000u);
}
