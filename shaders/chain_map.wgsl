// A pointwise member of a chain. The header declares `fixed_M()`, which reads what is the same at all positions, and `element_M(i, fixed)`,
// which reads the rest at position i, computes and writes. `_M` is the number of the part, `params_M` its `Params`.

fn stage_M(lane: u32) {
    // Software adapters load once outside of a loop what they load lane by lane inside.
    let fixed = fixed_M();
    for (var i = lane; i < params_M.count; i += WG) {
        element_M(i, fixed);
    }
}
