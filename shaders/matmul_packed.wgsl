// Product of one subgroup from operands that lie packed in textures (matmul_pack, conv2d_pack): a tile of ROWS = LANE_ROWS*LANES
// rows by COLS*LANES columns. A texel holds four neighbours along k of one row or column. Each lane loads LANE_ROWS texels of a and
// COLS of b; those of a are handed round by subgroupBroadcast. Made for software adapters, where a load from a buffer is a branch
// per lane and a texel is not. From the header: LANES, LANE_ROWS, COLS = QUADS * EACH, a_line, a_first and a_next (where rows and
// steps of k lie), wanted (the part of k that counts; none if it ends before it begins), row_at, put and put4.

fn a_at(i: u32) -> vec4<f32> {
    return textureLoad(a, vec2<u32>(i % IMAGE_WIDTH, i / IMAGE_WIDTH));
}

fn b_at(i: u32) -> vec4<f32> {
    return textureLoad(b, vec2<u32>(i % IMAGE_WIDTH, i / IMAGE_WIDTH));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let g = params.gemm;
    let tile = group_index(group, groups);
    if (tile >= g.tiles) {
        return;
    }
    let at = wanted(tile_of(tile));
    if (at.k1 < at.k0) {
        return;
    }
    let row = at.row * ROWS;
    //%repeat h LANE_ROWS
    let line$h = a_line(at.batch, row + $hu * LANES + lane);
    //%end
    let depth = (g.k + 3u) / 4u;
    var ib = ((at.batch * g.tiles_n + at.col) * depth + at.k0 / 4u) * (COLS * LANES) + lane;
    var walk = a_first(at.k0 / 4u);
    //%repeat h LANE_ROWS
    //%repeat i LANES
    //%repeat q QUADS
    //%repeat e EACH
    var c$h_$i_$q_$e = 0.0;
    //%end
    //%end
    //%end
    //%end
    for (var k = at.k0; k < at.k1; k += 4u) {
        //%repeat q QUADS
        //%repeat e EACH
        let p$q_$e = b_at(ib + ($qu * 4u + $eu) * LANES);
        //%end
        //%end
        //%repeat h LANE_ROWS
        let row$h = a_at(line$h + walk.x);
        //%repeat i LANES
        let s$h_$i = subgroupBroadcast(row$h, $iu);
        //%repeat q QUADS
        //%repeat e EACH
        c$h_$i_$q_$e += s$h_$i.x * p$q_$e.x + s$h_$i.y * p$q_$e.y + s$h_$i.z * p$q_$e.z + s$h_$i.w * p$q_$e.w;
        //%end
        //%end
        //%end
        //%end
        ib += COLS * LANES;
        walk = a_next(walk);
    }
    // A copy that a loop can index keeps the text of put, which holds the epilogue, from being repeated ROWS times.
    //%repeat q QUADS
    //%repeat e EACH
    var out$q_$e: array<f32, ROWS>;
    //%end
    //%end
    //%repeat h LANE_ROWS
    //%repeat i LANES
    //%repeat q QUADS
    //%repeat e EACH
    out$q_$e[$hu * LANES + $iu] = c$h_$i_$q_$e;
    //%end
    //%end
    //%end
    //%end
    let col = at.col * (COLS * LANES) + lane * EACH;
    let rows = min(g.rows, g.m - row);
    for (var r = 0u; r < rows; r++) {
        let to = row_at(at, row + r);
        //%repeat q FOURS
        put4(to, col + $qu * 4u * LANES, vec4<f32>(out$q_0[r], out$q_1[r], out$q_2[r], out$q_3[r]));
        //%end
        //%repeat e SINGLES
        if (col + $eu < g.n) {
            put(to, col + $eu, out0_$e[r]);
        }
        //%end
    }
}
