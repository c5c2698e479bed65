// Reductions with a generated prologue. Item t = (output o, chunk c) folds positions c * chunk .. of the reduced index
// space; `partial(o, j)` of the header gives the value there, `combine` folds, `put(t, x)` writes.
// TREE: one workgroup an item, private partial folds and then a tree. Else: one invocation an item.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_index(group, groups);
    let t = select(number * WG + lane, number, TREE);
    if TREE {
        if number >= params.count {
            return;
        }
    }
    let start = (t % params.chunks) * params.chunk;
    let end = min(start + params.chunk, params.length);
    let o = t / params.chunks;
    let live = t < params.count;
    // Four running folds: shorter dependence chains, and a quarter of the rounding error of one.
    var x0 = bitcast<T>(params.init);
    var x1 = x0;
    var x2 = x0;
    var x3 = x0;
    let step = select(1u, WG, TREE);
    if live {
        var j = start + select(0u, lane, TREE);
        while j + 3u * step < end {
            x0 = combine(x0, partial(o, j));
            x1 = combine(x1, partial(o, j + step));
            x2 = combine(x2, partial(o, j + 2u * step));
            x3 = combine(x3, partial(o, j + 3u * step));
            j = j + 4u * step;
        }
        while j < end {
            x0 = combine(x0, partial(o, j));
            j = j + step;
        }
    }
    let x = combine(combine(x0, x1), combine(x2, x3));
    finish(t, lane, live, x);
}
