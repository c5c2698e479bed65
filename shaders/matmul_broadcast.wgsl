// Product of one workgroup, of subgroups of any size from four lanes on: a tile of 8 rows by 8 * WG columns, without workgroup memory. Of each subgroup HANDED * STEPS
// lanes load LANE_ROWS rows of a each (HANDED different ones, STEPS different quads along k), which are handed round; each lane loads two blocks of
// 4 columns of b. For products of few rows on GPUs. From the header: WG, HANDED, STEPS, LANE_ROWS, a_line/a_load (4 along k), b_cols/b_block (4 x 4), row_at, put4.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) place: u32,
) {
    let tile = group_index(group, groups);
    if (tile >= params.gemm.tiles) {
        return;
    }
    let at = tile_of(tile);
    let row = at.row * (HANDED * LANE_ROWS);
    let col = at.col * (WG * 8u) + lane * 4u;
    //%repeat h LANE_ROWS
    let line$h = a_line(at.batch, row + $hu * HANDED + place % HANDED);
    //%end
    let cols0 = b_cols(at.batch, col);
    let cols1 = b_cols(at.batch, col + WG * 4u);
    //%repeat h LANE_ROWS
    //%repeat i HANDED
    var c$h_$i_0 = vec4<f32>();
    var c$h_$i_1 = vec4<f32>();
    //%end
    //%end
    for (var k = at.k0; k < at.k1; k += 4u * STEPS) {
        //%repeat h LANE_ROWS
        let row$h = a_load(line$h, k + place / HANDED % STEPS * 4u);
        //%end
        //%repeat j STEPS
        {
            let p = b_block(cols0, k + 4u * $ju);
            //%repeat h LANE_ROWS
            //%repeat i HANDED
            let s$h_$i = subgroupBroadcast(row$h, $ju * HANDED + $iu);
            c$h_$i_0 += s$h_$i.x * p[0];
            c$h_$i_0 += s$h_$i.y * p[1];
            c$h_$i_0 += s$h_$i.z * p[2];
            c$h_$i_0 += s$h_$i.w * p[3];
            //%end
            //%end
            let q = b_block(cols1, k + 4u * $ju);
            //%repeat h LANE_ROWS
            //%repeat i HANDED
            c$h_$i_1 += s$h_$i.x * q[0];
            c$h_$i_1 += s$h_$i.y * q[1];
            c$h_$i_1 += s$h_$i.z * q[2];
            c$h_$i_1 += s$h_$i.w * q[3];
            //%end
            //%end
        }
        //%end
    }
    //%repeat h LANE_ROWS
    //%repeat i HANDED
    store4(at, row + $hu * HANDED + $iu, col, c$h_$i_0);
    store4(at, row + $hu * HANDED + $iu, col + WG * 4u, c$h_$i_1);
    //%end
    //%end
}
