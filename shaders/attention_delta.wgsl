// First pass of the gradient of attention: per query, lse and delta = sum(out * g).
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let p = params.heads;
    let i = group_index(group, groups) * WG + t;
    if (i >= p.b * p.h * p.l) {
        return;
    }
    enter(i / p.l);
    let o_at = o_line(i / p.l, i % p.l);
    let g_at = g_line(i / p.l, i % p.l);
    var sum = 0.0;
    for (var c = 0u; c < p.d; c += 4u) {
        sum += dot(o_load(o_at, c), g_load(g_at, c));
    }
    stats[i] = vec2<f32>(lse[lse_start + i32(i % p.l) * params.views[5].row], sum);
}
