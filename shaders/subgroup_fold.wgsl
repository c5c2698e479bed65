// NAME(lane, x): x folded over LANES neighbours, for each of them; no entry point. As the trees of common/reduce.wgsl, but NEAR neighbours (a power
// of two, at most LANES and at most the smallest subgroup) exchange values without workgroup memory, and all invocations take part to the end.
// Called in uniform control flow, with lanes numbered by subgroup. NAME, TYPE and JOIN (of a and b) are replaced.

var<workgroup> NAME_parts: array<TYPE, WG / NEAR>;

fn NAME_join(a: TYPE, b: TYPE) -> TYPE {
    return JOIN;
}

fn NAME(lane: u32, x: TYPE) -> TYPE {
    var v = x;
    for (var s = 1u; s < NEAR; s *= 2u) {
        v = NAME_join(v, subgroupShuffleXor(v, s));
    }
    const PARTS = LANES / NEAR;
    if (PARTS == 1u) {
        return v;
    }
    workgroupBarrier(); // readers of an earlier result are done
    if (lane % NEAR == 0u) {
        NAME_parts[lane / NEAR] = v;
    }
    workgroupBarrier();
    // So many neighbours take the parts in turn, and fold what they have.
    const SPAN = min(PARTS, NEAR);
    let first = lane / LANES * PARTS + lane % SPAN;
    v = NAME_parts[first];
    for (var i = SPAN; i < PARTS; i += SPAN) {
        v = NAME_join(v, NAME_parts[first + i]);
    }
    for (var s = 1u; s < SPAN; s *= 2u) {
        v = NAME_join(v, subgroupShuffleXor(v, s));
    }
    return v;
}
