// Gradients of batch norm, second pass: dx = weight * rstd * (g - dbias / m - (x - mean) * rstd * dweight / m). One element per
// invocation.
struct Params {
    channels: u32,
    s: u32,
    images: u32,
    inverse: f32,
    x: vec4<i32>,
    g: vec4<i32>,
    stats: vec4<i32>,
    eps: f32,
    spare0: u32,
    spare1: u32,
    spare2: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> coefficients: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let i = group_index(group, groups) * WG + lane;
    if (i >= p.images * p.channels * p.s) {
        return;
    }
    let place = i32(i % p.s);
    let rest = i / p.s;
    let channel = i32(rest % p.channels);
    let image = i32(rest / p.channels);
    let c = coefficients[channel];
    let w = weight[p.stats.z + channel * p.stats.w];
    let gv = g[p.g.x + image * p.g.y + channel * p.g.z + place * p.g.w];
    let v = x[p.x.x + image * p.x.y + channel * p.x.z + place * p.x.w];
    dx[i] = w * c.x * (gv - c.z - (v - c.y) * c.w);
}
