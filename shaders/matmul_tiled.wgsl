// Product of a workgroup through workgroup memory: a tile of ROWS x COLS elements, DEPTH of k at a time. An invocation computes
// BLOCKS_M x BLOCKS_N blocks of 4 x 4, as far apart as all invocations' blocks reach, so that what neighbours read lies together. The
// usual kernel for GPUs. From the header: ROWS, COLS, DEPTH, BLOCKS_M, BLOCKS_N, LOADS_A and LOADS_B (vec4 per operand and
// invocation), A_ALONG_K, B_ALONG_K (which way a vec4 of the operand runs), a_line/a_load, b_line/b_load, row_at, put4; where PREPARED is 1, b_prepare(t, k)
// makes what b_load needs for the block of k from there on.

// Blocks along the columns, and invocations.
const SIDE: u32 = COLS / (4u * BLOCKS_N);
const WG: u32 = SIDE * (ROWS / (4u * BLOCKS_M));
// Rows of the staged tiles are k. Four elements longer than the tile: reads stay aligned to 16 bytes, writes along k meet other banks.
const PITCH_A: u32 = ROWS + 4u;
const PITCH_B: u32 = COLS + 4u;
// Distance of an invocation's blocks.
const APART_M: u32 = ROWS / BLOCKS_M;
const APART_N: u32 = COLS / BLOCKS_N;

var<workgroup> a_tile: array<f32, DEPTH * PITCH_A>;
var<workgroup> b_tile: array<f32, DEPTH * PITCH_B>;

// Where piece p of a tile that is so long begins: x along the outer dimension, y along k. Neighbours in memory go to neighbours.
fn piece(p: u32, along_k: bool, length: u32) -> vec2<u32> {
    if (along_k) {
        return vec2<u32>(p / (DEPTH / 4u), (p % (DEPTH / 4u)) * 4u);
    }
    return vec2<u32>((p % (length / 4u)) * 4u, p / (length / 4u));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let tile = group_index(group, groups);
    if (tile >= params.gemm.tiles) {
        return;
    }
    let at = tile_of(tile);
    let row = at.row * ROWS;
    let col = at.col * COLS;
    //%repeat l LOADS_A
    let pa$l = piece(t + $lu * WG, A_ALONG_K, ROWS);
    let la$l = a_line(at.batch, row + pa$l.x);
    //%end
    //%repeat l LOADS_B
    let pb$l = piece(t + $lu * WG, B_ALONG_K, COLS);
    let lb$l = b_line(at.batch, col + pb$l.x);
    //%end
    let y = (t / SIDE) * 4u;
    let x = (t % SIDE) * 4u;
    //%repeat u BLOCKS_M
    //%repeat v BLOCKS_N
    var c$u_$v_0 = vec4<f32>();
    var c$u_$v_1 = vec4<f32>();
    var c$u_$v_2 = vec4<f32>();
    var c$u_$v_3 = vec4<f32>();
    //%end
    //%end
    //%repeat p PREPARED
    b_prepare(t, at.k0);
    workgroupBarrier();
    //%end
    for (var k = at.k0; k < at.k1; k += DEPTH) {
        //%repeat l LOADS_A
        let va$l = a_load(la$l, k + pa$l.y);
        //%end
        //%repeat l LOADS_B
        let vb$l = b_load(lb$l, k + pb$l.y);
        //%end
        //%repeat l LOADS_A
        let sa$l = pa$l.y * PITCH_A + pa$l.x;
        let da$l = select(1u, PITCH_A, A_ALONG_K);
        a_tile[sa$l] = va$l.x;
        a_tile[sa$l + da$l] = va$l.y;
        a_tile[sa$l + 2u * da$l] = va$l.z;
        a_tile[sa$l + 3u * da$l] = va$l.w;
        //%end
        //%repeat l LOADS_B
        let sb$l = pb$l.y * PITCH_B + pb$l.x;
        let db$l = select(1u, PITCH_B, B_ALONG_K);
        b_tile[sb$l] = vb$l.x;
        b_tile[sb$l + db$l] = vb$l.y;
        b_tile[sb$l + 2u * db$l] = vb$l.z;
        b_tile[sb$l + 3u * db$l] = vb$l.w;
        //%end
        workgroupBarrier();
        //%repeat p PREPARED
        b_prepare(t, k + DEPTH);
        //%end
        for (var kk = 0u; kk < DEPTH; kk++) {
            //%repeat v BLOCKS_N
            let ib$v = kk * PITCH_B + x + $vu * APART_N;
            let b$v = vec4<f32>(b_tile[ib$v], b_tile[ib$v + 1u], b_tile[ib$v + 2u], b_tile[ib$v + 3u]);
            //%end
            //%repeat u BLOCKS_M
            let ia$u = kk * PITCH_A + y + $uu * APART_M;
            let a$u = vec4<f32>(a_tile[ia$u], a_tile[ia$u + 1u], a_tile[ia$u + 2u], a_tile[ia$u + 3u]);
            //%repeat v BLOCKS_N
            c$u_$v_0 += a$u.x * b$v;
            c$u_$v_1 += a$u.y * b$v;
            c$u_$v_2 += a$u.z * b$v;
            c$u_$v_3 += a$u.w * b$v;
            //%end
            //%end
        }
        workgroupBarrier();
    }
    //%repeat u BLOCKS_M
    //%repeat v BLOCKS_N
    store4(at, row + y + $uu * APART_M, col + x + $vu * APART_N, c$u_$v_0);
    store4(at, row + y + $uu * APART_M + 1u, col + x + $vu * APART_N, c$u_$v_1);
    store4(at, row + y + $uu * APART_M + 2u, col + x + $vu * APART_N, c$u_$v_2);
    store4(at, row + y + $uu * APART_M + 3u, col + x + $vu * APART_N, c$u_$v_3);
    //%end
    //%end
}
