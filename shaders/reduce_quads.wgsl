// Reductions along neighbours in memory, an invocation per item and several elements at a time: for software adapters, where a load costs as
// much as several additions, whatever its width. Items are as in reduce.wgsl; `fold_unit` of the header folds the unit of elements from j on:
// four of them, or WIDE, eight. UNROLL: several running folds, which pay for short expressions.

fn fold8(x: Folds, o: u32, j: u32) -> Folds {
    if WIDE {
        return fold_unit(x, o, j);
    }
    return Folds(fold_unit(x, o, j).a, fold_unit(Folds(x.b, x.b), o, j + 4u).a);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group_index(group, groups) * WG + lane;
    if t >= params.count {
        return;
    }
    let start = (t % params.chunks) * params.chunk;
    let end = min(start + params.chunk, params.length);
    let o = t / params.chunks;
    var j = start;
    let init = vec4<T>(bitcast<T>(params.init));
    var x = Folds(init, init);
    if UNROLL {
        var r = x;
        for (; j + 16u <= end; j = j + 16u) {
            x = fold8(x, o, j);
            r = fold8(r, o, j + 8u);
        }
        x = Folds(vec4<T>(join4(x.a), join4(x.b), join4(r.a), join4(r.b)), init);
    }
    for (; j < end; j = j + select(4u, 8u, WIDE)) {
        x = fold_unit(x, o, j);
    }
    out[t] = combine(join4(x.a), join4(x.b));
}

fn join4(x: vec4<T>) -> T {
    return combine(combine(x.x, x.y), combine(x.z, x.w));
}
