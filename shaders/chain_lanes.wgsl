// How a reducing member of a chain with many results goes: an invocation per result.

fn stage_M(lane: u32) {
    for (var o = lane; o < params_M.count; o += WG) {
        put_M(o, fold_M(o, 0u, 1u));
    }
}
