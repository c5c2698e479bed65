// Reductions along neighbours in memory, several elements a load. Items are as in reduce.wgsl, with an invocation each or (TREE) a workgroup;
// `fold_unit` of the header folds the unit of elements from j on: four of them, or WIDE (never with TREE), eight. UNROLL: several running
// folds, which pay for short expressions.

// Elements from one unit of an invocation to its next.
const HOP: u32 = select(select(4u, 8u, WIDE), 4u * WG, TREE);

fn fold8(x: Folds, o: u32, j: u32) -> Folds {
    if WIDE {
        return fold_unit(x, o, j);
    }
    return Folds(fold_unit(x, o, j).a, fold_unit(Folds(x.b, x.b), o, j + HOP).a);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_index(group, groups);
    if TREE {
        if number >= params.count {
            return;
        }
    }
    let t = select(number * WG + lane, number, TREE);
    let start = (t % params.chunks) * params.chunk;
    let end = min(start + params.chunk, params.length);
    let o = t / params.chunks;
    let init = vec4<T>(bitcast<T>(params.init));
    var x = Folds(init, init);
    let live = t < params.count;
    if live {
        var j = start + select(0u, 4u * lane, TREE);
        if UNROLL {
            var r = x;
            let eight = select(8u, 2u * HOP, TREE);
            for (; j + select(16u, 3u * HOP + 4u, TREE) <= end; j = j + 2u * eight) {
                x = fold8(x, o, j);
                r = fold8(r, o, j + eight);
            }
            x = Folds(vec4<T>(join4(x.a), join4(x.b), join4(r.a), join4(r.b)), init);
        }
        for (; j < end; j = j + HOP) {
            x = fold_unit(x, o, j);
        }
    }
    finish(t, lane, live, combine(join4(x.a), join4(x.b)));
}

fn join4(x: vec4<T>) -> T {
    return combine(combine(x.x, x.y), combine(x.z, x.w));
}
