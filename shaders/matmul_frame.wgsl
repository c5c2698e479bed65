// What the product kernels share: the order of their tiles and the way to the result. No entry point.
// From the header: row_at, put4 (four elements of a row).

// A tile's place. Columns vary fastest, so that neighbouring tiles share rows of a.
struct Place {
    row: u32,
    col: u32,
    batch: u32,
    split: u32,
    k0: u32,
    k1: u32,
}

fn tile_of(tile: u32) -> Place {
    let g = params.gemm;
    var at: Place;
    at.col = tile % g.tiles_n;
    var rest = tile / g.tiles_n;
    at.split = rest % g.splits;
    rest = rest / g.splits;
    at.row = rest % g.tiles_m;
    at.batch = rest / g.tiles_m;
    at.k0 = at.split * g.k_chunk;
    at.k1 = min(at.k0 + g.k_chunk, g.k);
    return at;
}

fn store4(at: Place, m: u32, n: u32, v: vec4<f32>) {
    if (m < params.gemm.m) {
        put4(row_at(at, m), n, v);
    }
}
