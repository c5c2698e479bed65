// Batches of strided matrices: up to three dimensions, or one (ONE_BATCH). No entry point.

fn batch_coord(batch: u32) -> vec3<i32> {
    if (ONE_BATCH) {
        return vec3<i32>(0, 0, i32(batch));
    }
    let g = params.gemm;
    let rest = batch / g.batch2;
    return vec3<i32>(vec3<u32>(rest / g.batch1, rest % g.batch1, batch % g.batch2));
}

// Where row or column 0 of a batch of an operand begins.
fn batch_start(v: Strided, batch: u32) -> i32 {
    let b = batch_coord(batch);
    return v.offset + b.x * v.s0 + b.y * v.s1 + b.z * v.s2;
}
