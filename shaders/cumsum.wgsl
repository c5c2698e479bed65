// Inclusive running sums along the middle of [outer, n, inner], in chunks: item (line, chunk), one invocation each.
// SUMS: only the sum of the chunk, to out[line * chunks + chunk]. Else the running sums, which start from the sums of
// all chunks before (BASE: base[line * chunks + chunk - 1], themselves running sums).

struct Params {
    count: u32, // lines * chunks
    chunks: u32,
    chunk: u32,
    n: u32,
    inner: u32,
    offset: u32,
    pad0: u32,
    pad1: u32,
}

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
    let line = t / params.chunks;
    let c = t % params.chunks;
    let first = (line / params.inner) * params.n * params.inner + line % params.inner;
    let end = min((c + 1u) * params.chunk, params.n);
    var sum = start_of(t, c);
    for (var j = c * params.chunk; j < end; j = j + 1u) {
        let at = first + j * params.inner;
        sum = sum + x[params.offset + at];
        if !SUMS {
            out[at] = sum;
        }
    }
    if SUMS {
        out[t] = sum;
    }
}
