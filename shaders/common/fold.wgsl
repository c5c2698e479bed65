// A tree over values of type `T` with the function `combine`, both declared by the generated header, as is `WG`, the
// number of invocations of a workgroup (a power of two). Called in uniform control flow; every invocation gets the result.

var<workgroup> fold_tree: array<T, WG>;

fn fold_all(lane: u32, x: T) -> T {
    workgroupBarrier(); // readers of an earlier result are done
    fold_tree[lane] = x;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s = s / 2u) {
        if lane < s {
            fold_tree[lane] = combine(fold_tree[lane], fold_tree[lane + s]);
        }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&fold_tree[0]);
}
