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

fn weighted(g: Pair, q: u32) -> Pair {
    let w = weight_pair(params.affine.x, params.affine.y, q);
    return Pair(g.a * w.a, g.b * w.b);
}

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
    for (var q = 0u; q * 4u < params.n; q += 2u) {
        let gw = kept(q, weighted(g_pair(at_g, params.g.z, q), q));
        let v = x_pair(at_x, params.x.z, q);
        sum += gw.a + gw.b;
        product += gw.a * ((v.a - mean) * rstd) + gw.b * ((v.b - mean) * rstd);
    }
    let mean_gw = sum4(sum) * params.inverse;
    let mean_product = sum4(product) * params.inverse;
    for (var q = 0u; q * 4u < params.n; q += 2u) {
        let gw = weighted(g_pair(at_g, params.g.z, q), q);
        let v = x_pair(at_x, params.x.z, q);
        let a = gw.a - mean_gw - (v.a - mean) * rstd * mean_product;
        let b = gw.b - mean_gw - (v.b - mean) * rstd * mean_product;
        dx_put(row, q, Pair(rstd * a, rstd * b));
    }
}
