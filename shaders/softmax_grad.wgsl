// Rows of y * (g - sum(g * y)), or (LOG) of g - exp(y) * sum(g) (row_team).
struct Params {
    rows: u32,
    n: u32,
    spare0: u32,
    spare1: u32,
    // Offset, row stride, column stride.
    y: vec4<i32>,
    g: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> y: array<YElem>;
@group(0) @binding(1) var<storage, read> g: array<GElem>;
@group(0) @binding(2) var<storage, read_write> dx: array<DxElem>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = row_of(group, groups, lane);
    let row = min(own, params.rows - 1u);
    let at_y = params.y.x + i32(row) * params.y.y;
    let at_g = params.g.x + i32(row) * params.g.y;
    //%repeat i QUADS
    var y$i: vec4<f32>;
    var g$i: vec4<f32>;
    //%end
    var sums = vec4<f32>();
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        y$i = y_quad(at_y, params.y.z, q$i);
        g$i = g_quad(at_g, params.g.z, q$i);
        if (LOG) {
            sums += within(q$i, g$i, 0.0);
        } else {
            sums += within(q$i, g$i * y$i, 0.0);
        }
        //%end
    }
    let sum = all_sum(lane, sum4(sums));
    if (own >= params.rows) {
        return;
    }
    for (var block = 0u; block < blocks(); block++) {
        //%repeat i QUADS
        let q$i = quad_of(lane, block, $iu);
        if (!HELD) {
            y$i = y_quad(at_y, params.y.z, q$i);
            g$i = g_quad(at_g, params.g.z, q$i);
        }
        if (LOG) {
            dx_put(row, q$i, g$i - exp_below4(y$i) * sum);
        } else {
            dx_put(row, q$i, y$i * (g$i - sum));
        }
        //%end
    }
}
