// dlogits = g * (exp(x - lse) - (1-e) onehot(target) - e/c); 0 in rows with the ignored target. One element per invocation.
struct Params {
    elems: u32,
    n: u32,
    ignore: i32,
    nan: f32,
    // Logits: offset, row stride, column stride.
    x: vec4<i32>,
    // Offsets and steps of the targets, of lse and of g.
    target_view: vec2<i32>,
    lse: vec2<i32>,
    g: vec2<i32>,
    // 1 - e and e / c
    hot: f32,
    spread: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

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
    let total = lse[params.lse.x + row * params.lse.y];
    let v = x[params.x.x + row * params.x.y + label * params.x.z];
    var p = exp(min(v - total, 80.0));
    p = select(p, 0.0, v - total < -87.3);
    p = select(p, params.nan, !is_finite(total));
    let d = p - params.spread - select(0.0, params.hot, label == wanted);
    dx[i] = select(g[params.g.x + row * params.g.y] * d, 0.0, wanted == params.ignore);
}
