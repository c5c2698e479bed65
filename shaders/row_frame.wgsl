// Kernels that fold rows. Two variants of one text: a workgroup per row (TREE), whose invocations meet in common/reduce, and an
// invocation per row, which needs no cooperation: best for short rows, and where barriers are slow. No entry point.
// From the header: WG, TREE, and all_sum, all_sum2, all_max for the variant.

// Distance between elements of a row that an invocation visits.
const STEP: u32 = select(1u, WG, TREE);

fn row_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    let g = group_index(group, groups);
    return select(g * WG + lane, g, TREE);
}

// The first element of its row that an invocation visits.
fn first(lane: u32) -> u32 {
    return select(0u, lane, TREE);
}

// True for the one invocation of a row that writes the row's own results.
fn leads(lane: u32) -> bool {
    return !TREE || lane == 0u;
}

// exp of a value that is at most about 0; exactly 0 where the result would be subnormal, also for -inf.
fn exp_below(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -87.3);
}
