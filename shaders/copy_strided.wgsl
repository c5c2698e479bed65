// Copies strided views into strided places of the result, several views in one dispatch. One invocation a word, or four or
// eight of them. The header declares the bindings, `PIECES` and `load(piece, at)`; sizes are in these units.

struct Piece {
    // The first invocation that copies it; those of a piece end where the next one's start.
    start: u32,
    rank: u32,
    from_offset: i32,
    to_offset: i32,
    dims: array<vec4<u32>, 2>,
    from_strides: array<vec4<i32>, 2>,
    to_strides: array<vec4<i32>, 2>,
}
struct Params {
    count: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
    pieces: array<Piece, PIECES>,
}

override WG: u32 = 256u;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WG + lane;
    if i >= params.count {
        return;
    }
    var p = 0u;
    for (var q = 1u; q < PIECES; q = q + 1u) {
        p = select(p, q, i >= params.pieces[q].start);
    }
    var rest = i - params.pieces[p].start;
    var from_ = params.pieces[p].from_offset;
    var to = params.pieces[p].to_offset;
    for (var d = params.pieces[p].rank - 1u; d > 0u; d = d - 1u) {
        let n = params.pieces[p].dims[d / 4u][d % 4u];
        let c = i32(rest % n);
        rest = rest / n;
        from_ = from_ + c * params.pieces[p].from_strides[d / 4u][d % 4u];
        to = to + c * params.pieces[p].to_strides[d / 4u][d % 4u];
    }
    // What remains is the outermost coordinate: contiguous copies, the usual ones, divide nothing.
    from_ = from_ + i32(rest) * params.pieces[p].from_strides[0].x;
    to = to + i32(rest) * params.pieces[p].to_strides[0].x;
    out[u32(to)] = load(p, u32(from_));
}
