// Reductions along neighbours in memory, an invocation per item and four elements at a time: for software adapters, where a load costs as
// much as several additions, whatever its width. Items are as in reduce.wgsl; `fold4` of the header folds the four elements from j on. UNROLL: four
// running folds, which pays for short expressions.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group_index(group, groups) * WG + lane;
    if t >= params.count {
        return;
    }
    let start = (t % params.chunks) * params.chunk;
    let end = min(start + params.chunk, params.length);
    let o = t / params.chunks;
    var j = start;
    var x = vec4<T>(bitcast<T>(params.init));
    if UNROLL {
        var y = x;
        var z = x;
        var w = x;
        for (; j + 16u <= end; j = j + 16u) {
            x = fold4(x, o, j);
            y = fold4(y, o, j + 4u);
            z = fold4(z, o, j + 8u);
            w = fold4(w, o, j + 12u);
        }
        x = vec4<T>(join4(x), join4(y), join4(z), join4(w));
    }
    for (; j < end; j = j + 4u) {
        x = fold4(x, o, j);
    }
    out[t] = join4(x);
}

fn join4(x: vec4<T>) -> T {
    return combine(combine(x.x, x.y), combine(x.z, x.w));
}
