// Folds over the 16 invocations of a row of attention_tiles, of four rows at once, through workgroup memory. No entry point.

var<workgroup> parts: array<vec4<f32>, WG>;

fn all_max(lane: u32, x: vec4<f32>) -> vec4<f32> {
    workgroupBarrier(); // readers of an earlier result are done
    parts[lane] = x;
    workgroupBarrier();
    var v = x;
    for (var i = 1u; i < LANES; i++) {
        v = max_nan4(v, parts[lane ^ i]);
    }
    return v;
}

fn all_sum(lane: u32, x: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    parts[lane] = x;
    workgroupBarrier();
    var v = parts[lane / LANES * LANES];
    for (var i = 1u; i < LANES; i++) {
        v += parts[lane / LANES * LANES + i];
    }
    return v;
}
