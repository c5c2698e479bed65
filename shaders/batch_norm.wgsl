// Batch norm in training: a workgroup per channel of x[images, channels, s] finds mean and biased variance in two passes over
// the channel and writes (x - mean) / sqrt(var + eps) * weight + bias. An invocation steps through its channel by WG elements:
// WG / s images and WG % s places further each time, so there is no division in the loop.
struct Params {
    channels: u32,
    s: u32,
    images: u32,
    inverse: f32,
    // Offset and strides (image, channel, place) of x.
    x: vec4<i32>,
    // Offset and step of weight, of bias.
    affine: vec4<i32>,
    eps: f32,
    spare0: u32,
    spare1: u32,
    spare2: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> means: array<f32>;
@group(0) @binding(5) var<storage, read_write> vars: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

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
    let start = p.x.x + i32(channel) * p.x.z;
    let begin = vec2<u32>(lane / p.s, lane % p.s);
    var sum = 0.0;
    for (var at = begin; at.x < p.images; at = next(at)) {
        sum += x[start + i32(at.x) * p.x.y + i32(at.y) * p.x.w];
    }
    let mean = tree_sum(lane, sum) * p.inverse;
    // The deviations sum to what rounding took from the mean: channels of one value come out as exactly 0.
    var sums = vec2<f32>();
    for (var at = begin; at.x < p.images; at = next(at)) {
        let d = x[start + i32(at.x) * p.x.y + i32(at.y) * p.x.w] - mean;
        sums += vec2<f32>(d, d * d);
    }
    sums = tree_sum2(lane, sums) * p.inverse;
    let shift = sums.x;
    // Not max(), which drops a NaN.
    let raw = sums.y - shift * shift;
    let variance = select(raw, 0.0, raw < 0.0);
    let w = weight[p.affine.x + i32(channel) * p.affine.y] / sqrt(variance + p.eps);
    let b = bias[p.affine.z + i32(channel) * p.affine.w];
    for (var at = begin; at.x < p.images; at = next(at)) {
        let d = x[start + i32(at.x) * p.x.y + i32(at.y) * p.x.w] - mean - shift;
        y[(at.x * p.channels + channel) * p.s + at.y] = d * w + b;
    }
    if (lane == 0u) {
        means[channel] = mean + shift;
        vars[channel] = variance;
    }
}
