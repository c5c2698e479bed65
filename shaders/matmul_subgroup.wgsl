// Product of one subgroup: a tile of ROWS = LANE_ROWS*LANES rows by 8*LANES columns. Each lane loads LANE_ROWS rows of a and two
// blocks of 4 columns of b; rows are handed round by subgroupBroadcast, so nothing passes through workgroup memory.
// Made for software adapters, where a load costs more than a lane shuffle; it needs far too many registers for a GPU.
// From the header: LANES, LANE_ROWS, a_line/a_load (4 along k), b_cols/b_block (4 x 4), row_at, put4.

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = group_index(group, groups);
    if (tile >= params.gemm.tiles) {
        return;
    }
    let at = tile_of(tile);
    let row = at.row * (LANES * LANE_ROWS);
    let col = at.col * (LANES * 8u) + lane * 4u;
    //%repeat h LANE_ROWS
    let line$h = a_line(at.batch, row + $hu * LANES + lane);
    //%end
    let cols0 = b_cols(at.batch, col);
    let cols1 = b_cols(at.batch, col + LANES * 4u);
    //%repeat h LANE_ROWS
    //%repeat i LANES
    var c$h_$i_0 = vec4<f32>();
    var c$h_$i_1 = vec4<f32>();
    //%end
    //%end
    for (var k = at.k0; k < at.k1; k += 4u) {
        let p = b_block(cols0, k);
        let q = b_block(cols1, k);
        //%repeat h LANE_ROWS
        let row$h = a_load(line$h, k);
        //%repeat i LANES
        let s$h_$i = subgroupBroadcast(row$h, $iu);
        c$h_$i_0 += s$h_$i.x * p[0] + s$h_$i.y * p[1] + s$h_$i.z * p[2] + s$h_$i.w * p[3];
        c$h_$i_1 += s$h_$i.x * q[0] + s$h_$i.y * q[1] + s$h_$i.z * q[2] + s$h_$i.w * q[3];
        //%end
        //%end
    }
    // A copy that a loop can index keeps the text of put4, which holds the epilogue, from being repeated 64 times.
    var out0: array<vec4<f32>, ROWS>;
    var out1: array<vec4<f32>, ROWS>;
    //%repeat h LANE_ROWS
    //%repeat i LANES
    out0[$hu * LANES + $iu] = c$h_$i_0;
    out1[$hu * LANES + $iu] = c$h_$i_1;
    //%end
    //%end
    let rows = min(params.gemm.rows, params.gemm.m - row);
    for (var r = 0u; r < rows; r++) {
        store4(at, row + r, col, out0[r]);
        store4(at, row + r, col + LANES * 4u, out1[r]);
    }
}
