// dlogits = g * (exp(x - max - log_sum) - (1-e) onehot(target) - e/c); 0 in rows with the ignored target. One element per
// invocation.
struct Params {
    elems: u32,
    n: u32,
    ignore: i32,
    nan: f32,
    // Logits: offset, row stride, column stride.
    x: vec4<i32>,
    // Offsets and steps of the targets, of max, of log_sum and of g.
    target_view: vec2<i32>,
    top: vec2<i32>,
    log_sum: vec2<i32>,
    g: vec2<i32>,
    // 1 - e and e / c
    hot: f32,
    spread: f32,
    spare0: u32,
    spare1: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read> tops: array<f32>;
@group(0) @binding(3) var<storage, read> log_sums: array<f32>;
@group(0) @binding(4) var<storage, read> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WG + lane;
    if (i >= params.elems) {
        return;
    }
    let row = i32(i / params.n);
    let label = i32(i % params.n);
    let wanted = targets[params.target_view.x + row * params.target_view.y];
    let top = tops[params.top.x + row * params.top.y];
    let log_sum = log_sums[params.log_sum.x + row * params.log_sum.y];
    let v = x[params.x.x + row * params.x.y + label * params.x.z] - top - log_sum;
    var p = exp(min(v, 80.0));
    p = select(p, 0.0, v < -87.3);
    p = select(p, params.nan, !is_finite(top) || !is_finite(log_sum));
    let d = p - params.spread - select(0.0, params.hot, label == wanted);
    dx[i] = select(g[params.g.x + row * params.g.y] * d, 0.0, wanted == params.ignore);
}
