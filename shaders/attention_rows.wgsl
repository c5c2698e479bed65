// What the kernels over stored scores share. No entry point.
// From the header: ROWS, IMAGE_WIDTH, CAUSAL, WIDE, Params (n is the number of keys), a_line.

// How many keys this query sees, and how many of its row the products read: those up to the last query of its tile.
fn keys_of(query: u32) -> u32 {
    return select(params.n, min(query + 1u, params.n), CAUSAL);
}

fn bound_of(query: u32) -> u32 {
    return select(params.n, min((query / ROWS + 1u) * ROWS, params.n), CAUSAL);
}

fn texel(i: u32) -> vec2<u32> {
    return vec2<u32>(i % IMAGE_WIDTH, i / IMAGE_WIDTH);
}

// Writes the pair at quad q of the row that begins at `line` of the left operand.
fn pack(line: u32, q: u32, v: Pair) {
    textureStore(packed, texel(line + q * ROWS), select(v.a, vec4<f32>(v.a.x, v.b.x, v.a.y, v.b.y), WIDE));
    if (q + 1u < (params.n + 3u) / 4u) {
        textureStore(packed, texel(line + (q + 1u) * ROWS), select(v.b, vec4<f32>(v.a.z, v.b.z, v.a.w, v.b.w), WIDE));
    }
}
