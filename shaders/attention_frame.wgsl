// What the attention kernels share. A workgroup of WG invocations works on a tile of SIDE queries by SIDE keys of one head; each
// invocation holds the scores of 4 x 4 of them. The L x S matrix never exists. No entry point.
// From the header: SIDE, WG, PITCH (of rows in workgroup memory), enter(head), which comes first, q_line, q_load, .. (four neighbours along e or d), dots_qk, MASK (0 none, 1 bool, 2 added), CAUSAL.

struct Heads {
    b: u32,
    h: u32,
    l: u32,
    s: u32,
    e: u32,
    d: u32,
    tiles: u32,
    spare: u32,
    scale: f32,
    minus_inf: f32,
    nan: f32,
    spare1: u32,
}

// Offset and strides over (b, h, row, column).
struct Rows {
    offset: i32,
    b: i32,
    h: i32,
    row: i32,
    col: i32,
    spare0: i32,
    spare1: i32,
    spare2: i32,
}

fn head_start(v: Rows, head: u32) -> i32 {
    return v.offset + i32(head / params.heads.h) * v.b + i32(head % params.heads.h) * v.h;
}

// Invocations side by side in a tile.
const ACROSS: u32 = SIDE / 4u;

// Row and column of the invocation's scores in the tile.
fn place_y(lane: u32) -> u32 {
    return lane / ACROSS * 4u;
}

fn place_x(lane: u32) -> u32 {
    return lane % ACROSS * 4u;
}

fn exp_below(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -87.3);
}

// True if the tile of queries from `query` sees any key of the tile from `key`.
fn tile_seen(query: u32, key: u32) -> bool {
    return !CAUSAL || key <= query + (SIDE - 1u);
}

// The score of one pair from its dot product; -inf where the key takes no part.
fn score(head: u32, query: u32, key: u32, dots: f32) -> f32 {
    let p = params.heads;
    if (query >= p.l || key >= p.s || (CAUSAL && key > query)) {
        return p.minus_inf;
    }
    return masked(head, query, key, dots * p.scale);
}
