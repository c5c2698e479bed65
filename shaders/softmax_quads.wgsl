// Rows of exp(x - max) / sum, or (LOG) of x - max - log(sum), an invocation per row (row_running). A row
// whose maximum is not finite is NaN, as in torch.
struct Params {
    rows: u32,
    n: u32,
    minus_inf: f32,
    nan: f32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<XElem>;
@group(0) @binding(1) var<storage, read_write> y: array<YElem>;
@group(0) @binding(2) var<uniform> params: Params;

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
    let start = params.x.x + i32(row) * params.x.y;
    let step = params.x.z;
    var found = nothing();
    var q = 0u;
    for (; (q + 8u) * 4u <= params.n; q += 8u) {
        let s = x_pair(start, step, q);
        let t = x_pair(start, step, q + 2u);
        let u = x_pair(start, step, q + 4u);
        found = absorb_block(found, s, t, u, x_pair(start, step, q + 6u));
    }
    for (; q * 4u < params.n; q += 2u) {
        found = absorb(found, seen(q, params.n, x_pair(start, step, q), params.minus_inf));
    }
    let top = found.top;
    let total = sum4(found.sum);
    // A row of -inf alone has no sum.
    let good = is_good(found) && total > 0.0;
    let scale = select(1.0 / total, params.nan, !good);
    // Kept apart from the maximum: in their sum the logarithm would drown where x is large.
    let log_sum = select(log(total), params.nan, !good);
    for (q = 0u; q * 4u < params.n; q += 2u) {
        let v = x_pair(start, step, q);
        let d = Pair(v.a - top, v.b - top);
        if (LOG) {
            y_put(row, q, Pair(d.a - log_sum, d.b - log_sum));
        } else {
            y_put(row, q, Pair(exp_below4(d.a) * scale, exp_below4(d.b) * scale));
        }
    }
}
