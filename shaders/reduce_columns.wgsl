// Reductions across rows, an invocation per strip of STRIP neighbouring results and chunk of the reduced elements. On software
// adapters a strip is one or two cache lines wide where it can be, so that a walk down the rows uses what it fetches; on GPUs a quad. `fold_unit` of the header folds
// the elements at j of the four results from o on, or WIDE, of eight.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group_index(group, groups) * WG + lane;
    // Neighbouring invocations have neighbouring strips.
    let strips = params.count / (STRIP * params.chunks);
    if t >= strips * params.chunks {
        return;
    }
    let chunk = t / strips;
    let o = (t % strips) * STRIP;
    let start = chunk * params.chunk;
    let end = min(start + params.chunk, params.length);
    fold_strip(o, chunk, start, end);
}

fn put_unit(o: u32, chunk: u32, x: Folds) {
    if WIDE {
        put4(o, 2u, chunk, x.a);
        put4(o + 1u, 2u, chunk, x.b);
    } else {
        put4(o, 1u, chunk, x.a);
    }
}

fn put4(o: u32, step: u32, chunk: u32, x: vec4<T>) {
    out[o * params.chunks + chunk] = x.x;
    out[(o + step) * params.chunks + chunk] = x.y;
    out[(o + 2u * step) * params.chunks + chunk] = x.z;
    out[(o + 3u * step) * params.chunks + chunk] = x.w;
}
