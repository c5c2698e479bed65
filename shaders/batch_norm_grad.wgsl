// Gradients of batch norm, first pass: a workgroup per channel sums dbias = sum(g) and dweight = sum(g * xh), and leaves what the
// second pass needs: (rstd, mean, dbias / m, rstd * dweight / m).
struct Params {
    channels: u32,
    s: u32,
    images: u32,
    inverse: f32,
    // Offset and strides (image, channel, place).
    x: vec4<i32>,
    g: vec4<i32>,
    // Offsets of mean and var; offset and step of the weight.
    stats: vec4<i32>,
    eps: f32,
    spare0: u32,
    spare1: u32,
    spare2: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> means: array<f32>;
@group(0) @binding(2) var<storage, read> vars: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbias: array<f32>;
@group(0) @binding(6) var<storage, read_write> coefficients: array<vec4<f32>>;
@group(0) @binding(7) var<uniform> params: Params;

fn next(at: vec2<u32>) -> vec2<u32> {
    var to = at + vec2<u32>(WG / params.s, WG % params.s);
    if (to.y >= params.s) {
        to = vec2<u32>(to.x + 1u, to.y - params.s);
    }
    return to;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let channel = group_index(group, groups);
    if (channel >= params.channels) {
        return;
    }
    let p = params;
    let mean = means[p.stats.x + i32(channel)];
    let rstd = 1.0 / sqrt(vars[p.stats.y + i32(channel)] + p.eps);
    let at_x = p.x.x + i32(channel) * p.x.z;
    let at_g = p.g.x + i32(channel) * p.g.z;
    var sums = vec2<f32>();
    for (var at = vec2<u32>(lane / p.s, lane % p.s); at.x < p.images; at = next(at)) {
        let gv = g[at_g + i32(at.x) * p.g.y + i32(at.y) * p.g.w];
        let d = x[at_x + i32(at.x) * p.x.y + i32(at.y) * p.x.w] - mean;
        sums += vec2<f32>(gv * (d * rstd), gv);
    }
    sums = tree_sum2(lane, sums);
    if (lane == 0u) {
        dweight[channel] = sums.x;
        dbias[channel] = sums.y;
        coefficients[channel] = vec4<f32>(rstd, mean, sums.y * p.inverse, rstd * sums.x * p.inverse);
    }
}
