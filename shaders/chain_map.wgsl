// A pointwise member of a chain. The header declares `element_M(i)`, which reads at position i, computes and writes. `_M` is the
// member's number, `params_M` its `Params`.

fn stage_M(lane: u32) {
    for (var i = lane; i < params_M.count; i += WG) {
        element_M(i);
    }
}
