// dx = rstd * (gw - mean(gw) - xh * mean(gw * xh)) with xh = (x - mean) * rstd and gw = g * weight, an invocation per row.
struct Params {
    rows: u32,
    n: u32,
    inverse: f32,
    spare: u32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
    g: vec4<i32>,
    // Offset and step of the weight; offsets of mean and rstd, which are dense.
    affine: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<XElem>;
@group(0) @binding(1) var<storage, read> weight: array<WeightElem>;
@group(0) @binding(2) var<storage, read> means: array<f32>;
@group(0) @binding(3) var<storage, read> rstds: array<f32>;
@group(0) @binding(4) var<storage, read> g: array<GElem>;
@group(0) @binding(5) var<storage, read_write> dx: array<DxElem>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let at_x = params.x.x + i32(row) * params.x.y;
    let at_g = params.g.x + i32(row) * params.g.y;
    let mean = means[params.affine.z + i32(row)];
    let rstd = rstds[params.affine.w + i32(row)];
    var sum = vec4<f32>();
    var product = vec4<f32>();
    for (var q = 0u; q * 4u < params.n; q++) {
        let w = weight_quad(params.affine.x, params.affine.y, q);
        let gw = kept4(q, g_quad(at_g, params.g.z, q) * w);
        sum += gw;
        product += gw * ((x_quad(at_x, params.x.z, q) - mean) * rstd);
    }
    let mean_gw = sum4(sum) * params.inverse;
    let mean_product = sum4(product) * params.inverse;
    for (var q = 0u; q * 4u < params.n; q++) {
        let w = weight_quad(params.affine.x, params.affine.y, q);
        let gw = g_quad(at_g, params.g.z, q) * w;
        let xh = (x_quad(at_x, params.x.z, q) - mean) * rstd;
        dx_put(row, q, rstd * (gw - mean_gw - xh * mean_product));
    }
}
