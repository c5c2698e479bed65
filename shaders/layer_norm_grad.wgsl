// dx = rstd * (gw - mean(gw) - xh * mean(gw * xh)) with xh = (x - mean) * rstd and gw = g * weight, by rows (row_team).
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

fn weighted(start: i32, q: u32) -> vec4<f32> {
    return g_quad(start, params.g.z, q) * weight_quad(params.affine.x, params.affine.y, q);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = row_of(group, groups, lane);
    let row = min(own, params.rows - 1u);
    let at_x = params.x.x + i32(row) * params.x.y;
    let at_g = params.g.x + i32(row) * params.g.y;
    let mean = means[params.affine.z + i32(row)];
    let rstd = rstds[params.affine.w + i32(row)];
    //%repeat i QUADS
    var xh$i: vec4<f32>;
    var gw$i: vec4<f32>;
    //%end
    var sum = vec4<f32>();
    var product = vec4<f32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        xh$i = (x_quad(at_x, params.x.z, q$i) - mean) * rstd;
        gw$i = within(q$i, weighted(at_g, q$i), 0.0);
        sum += gw$i;
        product += gw$i * xh$i;
        //%end
    }
    let sums = all_sum2(lane, vec2<f32>(sum4(sum), sum4(product))) * params.inverse;
    if (own >= params.rows) {
        return;
    }
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        if (!HELD) {
            xh$i = (x_quad(at_x, params.x.z, q$i) - mean) * rstd;
            gw$i = weighted(at_g, q$i);
        }
        dx_put(row, q$i, rstd * (gw$i - sums.x - xh$i * sums.y));
        //%end
    }
}
