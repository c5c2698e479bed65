// Weights of one query each from its scores in memory: softmax, packed as the left operand of the product with v (matmul_packed), and
// lse. Maximum and sum are found in one pass: whenever a block raises the maximum, the sum so far is scaled. A query without keys
// gives zeros and lse -inf.
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
    // The lowest finite number and not -inf, so that differences from it are never NaN.
    var top = -3.4028234663852886e38;
    var sum = vec4<f32>();
    var magnitude = vec4<u32>();
    var q = 0u;
    for (; (q + 8u) * 4u <= keys; q += 8u) {
        let s = scores_pair(start, 1, q);
        let t = scores_pair(start, 1, q + 2u);
        let u = scores_pair(start, 1, q + 4u);
        let v = scores_pair(start, 1, q + 6u);
        magnitude = max(magnitude, max(max(magnitude4(s.a), magnitude4(s.b)), max(magnitude4(t.a), magnitude4(t.b))));
        magnitude = max(magnitude, max(max(magnitude4(u.a), magnitude4(u.b)), max(magnitude4(v.a), magnitude4(v.b))));
        let high = max(max(max(s.a, s.b), max(t.a, t.b)), max(max(u.a, u.b), max(v.a, v.b)));
        let next = max(top, max4(high));
        let first = (exp_below4(s.a - next) + exp_below4(s.b - next)) + (exp_below4(t.a - next) + exp_below4(t.b - next));
        let second = (exp_below4(u.a - next) + exp_below4(u.b - next)) + (exp_below4(v.a - next) + exp_below4(v.b - next));
        sum = sum * exp_below4(vec4<f32>(top - next)).x + (first + second);
        top = next;
    }
    for (; q * 4u < keys; q += 2u) {
        let v = seen(q, keys, scores_pair(start, 1, q), params.minus_inf);
        magnitude = max(magnitude, max(magnitude4(v.a), magnitude4(v.b)));
        let next = max(top, max4(max(v.a, v.b)));
        sum = sum * exp_below4(vec4<f32>(top - next)).x + (exp_below4(v.a - next) + exp_below4(v.b - next));
        top = next;
    }
    let total = sum4(sum);
    let largest = max(max(magnitude.x, magnitude.y), max(magnitude.z, magnitude.w));
    let good = largest <= 0x7f800000u && is_finite(top);
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
