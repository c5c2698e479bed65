// Tree reductions over f32. The kernel declares `WG`, the number of invocations of a workgroup (a power of
// two), and calls these in uniform control flow; every invocation gets the result. `lane` is local_invocation_index.

var<workgroup> tree: array<f32, WG>;
var<workgroup> tree2: array<vec2<f32>, WG>;

fn tree_sum(lane: u32, x: f32) -> f32 {
    workgroupBarrier(); // readers of an earlier result are done
    tree[lane] = x;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s = s / 2u) {
        if lane < s {
            tree[lane] = tree[lane] + tree[lane + s];
        }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&tree[0]);
}

// Maximum; NaN wins. Invocations without an element pass -inf, which comes from Params.
fn tree_max(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    tree[lane] = x;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s = s / 2u) {
        if lane < s {
            tree[lane] = max_nan(tree[lane], tree[lane + s]);
        }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&tree[0]);
}

// Two sums at the cost of one tree.
fn tree_sum2(lane: u32, x: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    tree2[lane] = x;
    workgroupBarrier();
    for (var s = WG / 2u; s > 0u; s = s / 2u) {
        if lane < s {
            tree2[lane] = tree2[lane] + tree2[lane + s];
        }
        workgroupBarrier();
    }
    return workgroupUniformLoad(&tree2[0]);
}
