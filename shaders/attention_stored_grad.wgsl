// One query each of attention's gradient: weights p = exp(score - lse), made to sum to 1, replace the scores; their gradient
// p * (d - sum(p * d)) * scale replaces d = g v^T, and is packed as the left operand of the product with k. A query without keys has zeros.
// From the header: scores_pair, scores_put, ds_pair, ds_put, and what attention_rows names.

@group(0) @binding(0) var packed: texture_storage_2d<rgba32float, write>;
@group(0) @binding(1) var<storage, read_write> scores: array<ScoresElem>;
@group(0) @binding(2) var<storage, read_write> ds: array<DsElem>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

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
    let batch = row / params.gemm.m;
    let query = row - batch * params.gemm.m;
    let start = i32(row * params.n);
    let keys = keys_of(query);
    let known = lse[batch_start(params.lse, batch) + i32(query) * params.lse.s3];
    let top = select(known, 0.0, known == params.minus_inf);
    var total = vec4<f32>();
    var product = vec4<f32>();
    for (var q = 0u; q * 4u < keys; q += 2u) {
        let v = seen(q, keys, scores_pair(start, 1, q), params.minus_inf);
        let d = seen(q, keys, ds_pair(start, 1, q), 0.0);
        let a = exp_below4(v.a - top);
        let b = exp_below4(v.b - top);
        total += a + b;
        product += a * d.a + b * d.b;
    }
    let sum = sum4(total);
    let inverse = select(1.0 / sum, 0.0, known == params.minus_inf);
    let mean = sum4(product) * inverse;
    let bound = bound_of(query);
    let line = a_line(batch, query);
    for (var q = 0u; q * 4u < bound; q += 2u) {
        let v = seen(q, keys, scores_pair(start, 1, q), params.minus_inf);
        let d = seen(q, keys, ds_pair(start, 1, q), 0.0);
        let p = Pair(exp_below4(v.a - top) * inverse, exp_below4(v.b - top) * inverse);
        let slope = Pair(p.a * (d.a - mean) * params.scale, p.b * (d.b - mean) * params.scale);
        scores_put(row, q, p);
        ds_put(row, q, slope);
        pack(line, q, slope);
    }
}
