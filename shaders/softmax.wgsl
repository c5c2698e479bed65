// Rows of exp(x - max) / sum, or (LOG) of x - max - log(sum) (row_team). A row whose maximum is not finite is NaN, as in torch.
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
    let own = row_of(group, groups, lane);
    let row = min(own, params.rows - 1u);
    let start = params.x.x + i32(row) * params.x.y;
    //%repeat i QUADS
    var x$i: vec4<f32>;
    //%end
    var high = vec4<f32>(params.minus_inf);
    var magnitude = vec4<u32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        x$i = within(q$i, x_quad(start, params.x.z, q$i), params.minus_inf);
        high = max(high, x$i);
        magnitude = max(magnitude, magnitude4(x$i));
        //%end
    }
    let top = all_max(lane, unless_nan(max4(high), magnitude, params.nan));
    var exps = vec4<f32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        if (!HELD) {
            let q = quad_of(lane, block, $iu);
            x$i = within(q, x_quad(start, params.x.z, q), params.minus_inf);
        }
        exps += exp_below4(x$i - top);
        //%end
    }
    let sum = all_sum(lane, sum4(exps));
    let good = is_finite(top);
    let scale = select(1.0 / sum, params.nan, !good);
    // Kept apart from the maximum: in their sum the logarithm would drown where x is large.
    let log_sum = select(log(sum), params.nan, !good);
    if (own >= params.rows) {
        return;
    }
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        if (!HELD) {
            x$i = x_quad(start, params.x.z, q$i);
        }
        if (LOG) {
            y_put(row, q$i, x$i - top - log_sum);
        } else {
            y_put(row, q$i, exp_below4(x$i - top) * scale);
        }
        //%end
    }
}
