// Packs both operands of a product of strided matrices into textures for matmul_packed. A texel holds four neighbours along k of one
// row of a or column of b; panels of ROWS rows (COLS * LANES columns) lie one after the other, each sorted by k. Beyond the last k
// are zeros; rows and columns beyond the last are not written, since no result depends on them.
// With LATER the product reads rows of a from the first of their panel on, and what comes before is not written either.
// From the header: WG, LANES, COLS, ROWS, A_ALONG_K, B_ALONG_K, LATER, ratio, a_cols/a_block, b_cols/b_block (4 x 4, column j at k + j).

// Four rows or columns of one batch at one step of four along k.
struct Block {
    batch: u32,
    outer: u32,
    step: u32,
}

// Neighbouring invocations read neighbouring memory.
fn block_of(i: u32, fours: u32, depth: u32, along_k: bool) -> Block {
    let batch = ratio(i, fours * depth);
    let rest = i - batch * (fours * depth);
    if (along_k) {
        let outer = ratio(rest, depth);
        return Block(batch, outer * 4u, rest - outer * depth);
    }
    let step = ratio(rest, fours);
    return Block(batch, (rest - step * fours) * 4u, step);
}

fn texel(i: u32) -> vec2<u32> {
    return vec2<u32>(i % IMAGE_WIDTH, i / IMAGE_WIDTH);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let g = params.gemm;
    let depth = (g.k + 3u) / 4u;
    let i = group_index(group, groups) * WG + lane;
    let rows = (g.m + 3u) / 4u;
    let columns = (g.n + 3u) / 4u;
    let first = rows * depth * g.batches;
    if (i < first) {
        let at = block_of(i, rows, depth, A_ALONG_K);
        if (LATER && at.step * 4u < at.outer / ROWS * ROWS) {
            return;
        }
        let t = transpose(a_block(a_cols(at.batch, at.outer), at.step * 4u));
        let to = ((at.batch * g.tiles_m + at.outer / ROWS) * depth + at.step) * ROWS + at.outer % ROWS;
        //%repeat j FOUR
        textureStore(a_packed, texel(to + $ju), t[$j]);
        //%end
    } else if (i - first < columns * depth * g.batches) {
        let at = block_of(i - first, columns, depth, B_ALONG_K);
        let t = transpose(b_block(b_cols(at.batch, at.outer), at.step * 4u));
        let width = COLS * LANES;
        let to = ((at.batch * g.tiles_n + at.outer / width) * depth + at.step) * width;
        //%repeat j FOUR
        textureStore(b_packed, texel(to + place_in_panel(at.outer % width + $ju)), t[$j]);
        //%end
    }
}
