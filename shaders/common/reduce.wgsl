// Tree reductions over f32. The kernel declares `WG`, the number of invocations of a workgroup, and `LANES`, how many of them that are
// neighbours fold with each other (powers of two). It calls these in uniform control flow; every invocation gets the result of
// its own. `lane` is local_invocation_index.

var<workgroup> tree: array<f32, WG>;
var<workgroup> tree2: array<vec2<f32>, WG>;

fn tree_sum(lane: u32, x: f32) -> f32 {
    workgroupBarrier(); // readers of an earlier result are done
    tree[lane] = x;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s = s / 2u) {
        if lane % LANES < s {
            tree[lane] = tree[lane] + tree[lane + s];
        }
        workgroupBarrier();
    }
    return tree[lane - lane % LANES];
}

// Maximum; NaN wins. Invocations without an element pass -inf, which comes from Params.
fn tree_max(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    tree[lane] = x;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s = s / 2u) {
        if lane % LANES < s {
            tree[lane] = max_nan(tree[lane], tree[lane + s]);
        }
        workgroupBarrier();
    }
    return tree[lane - lane % LANES];
}

// Two sums at the cost of one tree.
fn tree_sum2(lane: u32, x: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    tree2[lane] = x;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s = s / 2u) {
        if lane % LANES < s {
            tree2[lane] = tree2[lane] + tree2[lane + s];
        }
        workgroupBarrier();
    }
    return tree2[lane - lane % LANES];
}
