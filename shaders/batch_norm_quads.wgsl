// Batch norm in training: as batch_norm.wgsl, a workgroup per channel, but UNIT places at a time. x has its places
// together in memory, in whole units; offset and strides are whole units too.
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

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;
@group(0) @binding(4) var<storage, read_write> means: array<f32>;
@group(0) @binding(5) var<storage, read_write> vars: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

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
    // Image and unit, and how far an invocation steps.
    let units = p.s / UNIT;
    let begin = vec2<u32>(lane / units, lane % units);
    let hop = vec2<u32>(WG / units, WG % units);
    let start = (p.x.x + i32(channel) * p.x.z) / i32(UNIT);
    let stride = p.x.y / i32(UNIT);
    var sum = vec4<f32>();
    for (var at = begin; at.x < p.images; at = next(at, hop, units)) {
        let v = pair(x[start + i32(at.x) * stride + i32(at.y)]);
        sum += v.a;
        if (WIDE) {
            sum += v.b;
        }
    }
    let mean = tree_sum(lane, sum4(sum)) * p.inverse;
    // The deviations sum to what rounding took from the mean: channels of one value come out as exactly 0.
    sum = vec4<f32>();
    var square = vec4<f32>();
    for (var at = begin; at.x < p.images; at = next(at, hop, units)) {
        let d = moved_by(pair(x[start + i32(at.x) * stride + i32(at.y)]), mean);
        sum += d.a;
        square += d.a * d.a;
        if (WIDE) {
            sum += d.b;
            square += d.b * d.b;
        }
    }
    let sums = tree_sum2(lane, vec2<f32>(sum4(sum), sum4(square))) * p.inverse;
    let shift = sums.x;
    // Not max(), which drops a NaN.
    let raw = sums.y - shift * shift;
    let variance = select(raw, 0.0, raw < 0.0);
    let w = weight[p.affine.x + i32(channel) * p.affine.y] / sqrt(variance + p.eps);
    let b = bias[p.affine.z + i32(channel) * p.affine.w];
    for (var at = begin; at.x < p.images; at = next(at, hop, units)) {
        let d = moved_by(pair(x[start + i32(at.x) * stride + i32(at.y)]), mean);
        y[(at.x * p.channels + channel) * units + at.y] = elem(Pair((d.a - shift) * w + b, (d.b - shift) * w + b));
    }
    if (lane == 0u) {
        means[channel] = mean + shift;
        vars[channel] = variance;
    }
}
