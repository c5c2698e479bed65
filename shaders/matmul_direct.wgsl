// Product without workgroup memory: each invocation computes ROWS x (COLS vec4) elements from its own loads. Invocations are
// numbered along the columns, then the splits of k, then the rows, so narrow results still fill a workgroup.
// From the header: WG, ROWS, COLS, a_line/a_load (4 along k), b_cols/b_block (4 x 4), row_at, put4.

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = group_index(group, groups) * WG + lane;
    if (tile >= params.gemm.tiles) {
        return;
    }
    let at = tile_of(tile);
    let row = at.row * ROWS;
    let col = at.col * (COLS * 4u);
    //%repeat i ROWS
    let line$i = a_line(at.batch, row + $iu);
    //%end
    //%repeat j COLS
    let cols$j = b_cols(at.batch, col + $ju * 4u);
    //%end
    //%repeat i ROWS
    //%repeat j COLS
    var c$i_$j = vec4<f32>();
    //%end
    //%end
    for (var k = at.k0; k < at.k1; k += 4u) {
        //%repeat i ROWS
        let s$i = a_load(line$i, k);
        //%end
        //%repeat j COLS
        let p$j = b_block(cols$j, k);
        //%repeat i ROWS
        c$i_$j += s$i.x * p$j[0] + s$i.y * p$j[1] + s$i.z * p$j[2] + s$i.w * p$j[3];
        //%end
        //%end
    }
    var result: array<vec4<f32>, ROWS * COLS>;
    //%repeat i ROWS
    //%repeat j COLS
    result[$iu * COLS + $ju] = c$i_$j;
    //%end
    //%end
    for (var e = 0u; e < ROWS * COLS; e++) {
        store4(at, row + e / COLS, col + (e % COLS) * 4u, result[e]);
    }
}
