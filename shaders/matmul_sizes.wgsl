// Sizes of a product and strided views, for every product kernel and its second pass. No entry point.
// The header declares struct Params { gemm: Gemm, .. }.
struct Gemm {
    m: u32,
    n: u32,
    k: u32,
    batches: u32,
    // Tiles along m and n, pieces into which k is split, elements of k in a piece.
    tiles_m: u32,
    tiles_n: u32,
    splits: u32,
    k_chunk: u32,
    // Tiles in all: tiles_n * splits * tiles_m * batches.
    tiles: u32,
    // Sizes of the two inner batch dimensions.
    batch1: u32,
    batch2: u32,
    // Rows of a tile, for loops over results on software adapters: bounds that compilers know they write out, with the epilogue in each
    // copy, and then compile for seconds (Mesa 25).
    rows: u32,
}

// A strided view over five coordinates: (b0, b1, b2, m, n) of a product, (image, channel, z, y, x) of a convolution.
struct Strided {
    offset: i32,
    s0: i32,
    s1: i32,
    s2: i32,
    s3: i32,
    s4: i32,
    // One stride for all trailing dimensions, where they merge.
    run: i32,
    spare: i32,
}

struct Coord {
    c0: i32,
    c1: i32,
    c2: i32,
    c3: i32,
    c4: i32,
}

fn element(v: Strided, c: Coord) -> u32 {
    return u32(v.offset + c.c0 * v.s0 + c.c1 * v.s1 + c.c2 * v.s2 + c.c3 * v.s3 + c.c4 * v.s4);
}

// One element of a result: its coordinates and its place in memory.
struct Slot {
    c: Coord,
    i: u32,
}
