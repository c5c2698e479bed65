// Gradients of weight and bias of a layer norm, first pass: an invocation per strip of STRIP quads of columns and
// chunk of rows sums g * xh and g. A strip is up to a cache line wide, so that a walk down the rows uses what it fetches.
struct Params {
    rows: u32,
    n: u32,
    chunk: u32,
    chunks: u32,
    // Offset, row stride, column stride.
    x: vec4<i32>,
    g: vec4<i32>,
    // Offsets of mean and rstd.
    stats: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> x: array<XElem>;
@group(0) @binding(1) var<storage, read> means: array<f32>;
@group(0) @binding(2) var<storage, read> rstds: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<GElem>;
@group(0) @binding(4) var<storage, read_write> partial: array<PartialElem>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = row_of(group, groups, lane);
    let strips = (params.n + 4u * STRIP - 1u) / (4u * STRIP);
    if (i >= strips * params.chunks) {
        return;
    }
    let q = (i % strips) * STRIP;
    let chunk = i / strips;
    let from_row = chunk * params.chunk;
    let to_row = min(from_row + params.chunk, params.rows);
    var dw: array<vec4<f32>, STRIP>;
    var db: array<vec4<f32>, STRIP>;
    for (var r = i32(from_row); r < i32(to_row); r++) {
        let at_g = params.g.x + r * params.g.y;
        let at_x = params.x.x + r * params.x.y;
        let mean = means[params.stats.x + r];
        let rstd = rstds[params.stats.y + r];
        for (var k = 0u; k < STRIP; k += 2u) {
            let gv = g_pair(at_g, params.g.z, q + k);
            let v = x_pair(at_x, params.x.z, q + k);
            dw[k] += gv.a * ((v.a - mean) * rstd);
            dw[k + 1u] += gv.b * ((v.b - mean) * rstd);
            db[k] += gv.a;
            db[k + 1u] += gv.b;
        }
    }
    for (var k = 0u; k < STRIP; k += 2u) {
        partial_put(chunk, q + k, Pair(dw[k], dw[k + 1u]));
        partial_put(params.chunks + chunk, q + k, Pair(db[k], db[k + 1u]));
    }
}
