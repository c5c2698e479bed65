// Second pass of a product whose k was split: adds the partial products of one element in the order of k (so every run gives the
// same bits) and applies the epilogue. From the header: WG, partial, row_of, put.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let g = params.gemm;
    let i = group_index(group, groups) * WG + lane;
    let size = g.batches * g.m * g.n;
    if (i >= size) {
        return;
    }
    var sum = 0.0;
    for (var s = 0u; s < g.splits; s++) {
        sum += partial[s * size + i];
    }
    let n = i % g.n;
    let rest = i / g.n;
    put(row_of(rest / g.m, rest % g.m), n, sum);
}
