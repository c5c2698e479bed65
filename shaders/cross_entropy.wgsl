// Per row of logits: max, log_sum = log(sum(exp(x - max))) and loss = -(1-e) logp[target] - e/c sum(logp), logp = x - max - log_sum
// (row_team). A row with the ignored target has loss 0; another target outside 0..c is reported and gives NaN.
struct Params {
    rows: u32,
    n: u32,
    minus_inf: f32,
    nan: f32,
    // Logits: offset, row stride, column stride.
    x: vec4<i32>,
    // Targets: offset and step.
    first: i32,
    step: i32,
    ignore: i32,
    site: u32,
    smoothing: f32,
    // e / c
    spread: f32,
    spare0: u32,
    spare1: u32,
}

@group(0) @binding(0) var<storage, read> x: array<XElem>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> tops: array<f32>;
@group(0) @binding(4) var<storage, read_write> log_sums: array<f32>;
@group(0) @binding(5) var<storage, read_write> status: array<u32>;
@group(0) @binding(6) var<uniform> params: Params;

fn bad(wanted: i32) -> bool {
    return wanted != params.ignore && (wanted < 0 || wanted >= i32(params.n));
}

// Only the first bad row reports, whatever ran first. Rows before a bad one are looked at only if there is one.
fn first_fault(row: u32) -> bool {
    for (var r = 0u; r < row; r++) {
        if (bad(targets[params.first + i32(r) * params.step])) {
            return false;
        }
    }
    return true;
}

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
    // Sums of exp(x - max) and of x - max.
    var exps = vec4<f32>();
    var below = vec4<f32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        if (!HELD) {
            x$i = within(q$i, x_quad(start, params.x.z, q$i), params.minus_inf);
        }
        exps += exp_below4(x$i - top);
        if (SMOOTH) {
            below += within(q$i, x$i - top, 0.0);
        }
        //%end
    }
    let sums = all_sum2(lane, vec2<f32>(sum4(exps), sum4(below)));
    if (own >= params.rows || lane % LANES != 0u) {
        return;
    }
    let log_sum = select(log(sums.x), params.nan, !is_finite(top));
    tops[row] = top;
    log_sums[row] = log_sum;
    let wanted = targets[params.first + i32(row) * params.step];
    if (wanted == params.ignore) {
        loss[row] = 0.0;
        return;
    }
    if (bad(wanted)) {
        if (first_fault(row)) {
            report(params.site, row, wanted, params.n);
        }
        loss[row] = params.nan;
        return;
    }
    var l = log_sum - (x_at(start, params.x.z, wanted) - top);
    if (SMOOTH) {
        l = l * (1.0 - params.smoothing) - params.spread * (sums.y - f32(params.n) * log_sum);
    }
    loss[row] = l;
}
