// Weights of one query each from its scores in memory: softmax (row_running), packed as the left operand of the product with v
// (matmul_packed), and lse. A query without keys gives zeros and lse -inf.
// From the header: scores_pair, and what attention_rows names.

@group(0) @binding(0) var packed: texture_storage_2d<rgba32float, write>;
@group(0) @binding(1) var<storage, read> scores: array<ScoresElem>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let g = params.gemm;
    let batch = row / g.m;
    let query = row - batch * g.m;
    let start = i32(row * params.n);
    let keys = keys_of(query);
    var found = nothing();
    var q = 0u;
    for (; (q + 8u) * 4u <= keys; q += 8u) {
        let s = scores_pair(start, 1, q);
        let t = scores_pair(start, 1, q + 2u);
        let u = scores_pair(start, 1, q + 4u);
        found = absorb_block(found, s, t, u, scores_pair(start, 1, q + 6u));
    }
    for (; q * 4u < keys; q += 2u) {
        found = absorb(found, seen(q, keys, scores_pair(start, 1, q), params.minus_inf));
    }
    let top = found.top;
    let total = sum4(found.sum);
    let good = is_good(found);
    let dead = total == 0.0;
    let scale = select(select(1.0 / total, 0.0, dead), params.nan, !good);
    lse[row] = select(select(top + log(total), params.minus_inf, dead), params.nan, !good);
    let bound = bound_of(query);
    let line = a_line(batch, query);
    for (q = 0u; q * 4u < bound; q += 2u) {
        let v = seen(q, keys, scores_pair(start, 1, q), params.minus_inf);
        pack(line, q, Pair(exp_below4(v.a - top) * scale, exp_below4(v.b - top) * scale));
    }
}
