// Reductions across rows, an invocation per strip of STRIP neighbouring quads of results and chunk of the reduced elements: for software
// adapters. A strip is up to a cache line wide, so that a walk down the rows uses what it fetches. `fold4` of the header folds
// the elements at j of the four results from o on.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group_index(group, groups) * WG + lane;
    // Neighbouring invocations have neighbouring strips.
    let strips = params.count / (4u * STRIP * params.chunks);
    if t >= strips * params.chunks {
        return;
    }
    let chunk = t / strips;
    let o = (t % strips) * (4u * STRIP);
    let start = chunk * params.chunk;
    let end = min(start + params.chunk, params.length);
    fold_strip(o, chunk, start, end);
}

fn put4(o: u32, chunk: u32, x: vec4<T>) {
    out[o * params.chunks + chunk] = x.x;
    out[(o + 1u) * params.chunks + chunk] = x.y;
    out[(o + 2u) * params.chunks + chunk] = x.z;
    out[(o + 3u) * params.chunks + chunk] = x.w;
}
