// Gradients of batch norm, all in one: a workgroup per channel sums dbias = sum(g) and dweight = sum(g * xh), then
// writes dx = weight * rstd * (g - dbias / m - (x - mean) * rstd * dweight / m), UNIT places at a time. x and g have their places
// together in memory, in whole units; offsets and strides are whole units too.
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

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> means: array<f32>;
@group(0) @binding(3) var<storage, read> vars: array<f32>;
@group(0) @binding(4) var<storage, read> g: array<Elem>;
@group(0) @binding(5) var<storage, read_write> dx: array<Elem>;
@group(0) @binding(6) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(7) var<storage, read_write> dbias: array<f32>;
@group(0) @binding(8) var<uniform> params: Params;

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
    let units = p.s / UNIT;
    let begin = vec2<u32>(lane / units, lane % units);
    let hop = vec2<u32>(WG / units, WG % units);
    let mean = means[p.stats.x + i32(channel)];
    let rstd = 1.0 / sqrt(vars[p.stats.y + i32(channel)] + p.eps);
    let at_x = (p.x.x + i32(channel) * p.x.z) / i32(UNIT);
    let at_g = (p.g.x + i32(channel) * p.g.z) / i32(UNIT);
    let step_x = p.x.y / i32(UNIT);
    let step_g = p.g.y / i32(UNIT);
    var product = vec4<f32>();
    var sum = vec4<f32>();
    for (var at = begin; at.x < p.images; at = next(at, hop, units)) {
        let gv = pair(g[at_g + i32(at.x) * step_g + i32(at.y)]);
        let d = moved_by(pair(x[at_x + i32(at.x) * step_x + i32(at.y)]), mean);
        product += gv.a * (d.a * rstd);
        sum += gv.a;
        if (WIDE) {
            product += gv.b * (d.b * rstd);
            sum += gv.b;
        }
    }
    let sums = tree_sum2(lane, vec2<f32>(sum4(product), sum4(sum)));
    if (lane == 0u) {
        dweight[channel] = sums.x;
        dbias[channel] = sums.y;
    }
    let w = weight[p.stats.z + i32(channel) * p.stats.w] * rstd;
    let mean_g = sums.y * p.inverse;
    let slope = rstd * sums.x * p.inverse;
    for (var at = begin; at.x < p.images; at = next(at, hop, units)) {
        let gv = pair(g[at_g + i32(at.x) * step_g + i32(at.y)]);
        let d = moved_by(pair(x[at_x + i32(at.x) * step_x + i32(at.y)]), mean);
        let a = w * (gv.a - mean_g - d.a * slope);
        dx[(at.x * p.channels + channel) * units + at.y] = elem(Pair(a, w * (gv.b - mean_g - d.b * slope)));
    }
}
