// How a reducing member of a chain with few results goes: all invocations fold each result, then a tree in `folds`.

fn stage_M(lane: u32) {
    for (var o = 0u; o < params_M.count; o++) {
        folds[lane] = bitcast<u32>(fold_M(o, lane, WG));
        workgroupBarrier();
        for (var s = WG / 2u; s > 0u; s = s / 2u) {
            if lane < s {
                let x = combine_M(bitcast<T_M>(folds[lane]), bitcast<T_M>(folds[lane + s]));
                folds[lane] = bitcast<u32>(x);
            }
            workgroupBarrier();
        }
        if lane == 0u {
            put_M(o, bitcast<T_M>(folds[0]));
        }
        workgroupBarrier();
    }
}
