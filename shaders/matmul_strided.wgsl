// Batches of strided matrices: up to three dimensions, or one (ONE_BATCH). No entry point. From the header: ratio.

fn batch_coord(batch: u32) -> vec3<i32> {
    if (ONE_BATCH) {
        return vec3<i32>(0, 0, i32(batch));
    }
    let g = params.gemm;
    let rest = ratio(batch, g.batch2);
    let first = ratio(rest, g.batch1);
    return vec3<i32>(vec3<u32>(first, rest - first * g.batch1, batch - rest * g.batch2));
}

// Where row or column 0 of a batch of an operand begins.
fn batch_start(v: Strided, batch: u32) -> i32 {
    let b = batch_coord(batch);
    return v.offset + b.x * v.s0 + b.y * v.s1 + b.z * v.s2;
}
