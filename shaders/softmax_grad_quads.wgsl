// Rows of y * (g - sum(g * y)), or (LOG) of g - exp(y) * sum(g), an invocation per row.
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
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let at_y = params.y.x + i32(row) * params.y.y;
    let at_g = params.g.x + i32(row) * params.g.y;
    var sums = vec4<f32>();
    for (var q = 0u; q * 4u < params.n; q += 2u) {
        var v = g_pair(at_g, params.g.z, q);
        if (!LOG) {
            let w = y_pair(at_y, params.y.z, q);
            v = Pair(v.a * w.a, v.b * w.b);
        }
        v = kept(q, v);
        sums += v.a + v.b;
    }
    let sum = sum4(sums);
    for (var q = 0u; q * 4u < params.n; q += 2u) {
        let v = y_pair(at_y, params.y.z, q);
        let gv = g_pair(at_g, params.g.z, q);
        if (LOG) {
            dx_put(row, q, Pair(gv.a - exp_below4(v.a) * sum, gv.b - exp_below4(v.b) * sum));
        } else {
            dx_put(row, q, Pair(v.a * (gv.a - sum), v.b * (gv.b - sum)));
        }
    }
}
