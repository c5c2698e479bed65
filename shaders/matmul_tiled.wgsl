// Product of a workgroup through workgroup memory: a tile of TILE x TILE elements, 4 x 4 per invocation, DEPTH of k at a time.
// The usual kernel for GPUs. From the header: TILE (64 or 32), LOADS = 64 / TILE vec4 per operand and invocation, A_ALONG_K,
// B_ALONG_K (which way a vec4 of the operand runs), a_line/a_load, b_line/b_load, row_at, put4.

const DEPTH: u32 = 16u;
const SIDE: u32 = TILE / 4u;
const WG: u32 = SIDE * SIDE;
// Rows of the staged tiles are k; a row is one element longer than the tile so that writes along k meet different banks.
const PITCH: u32 = TILE + 1u;

var<workgroup> a_tile: array<f32, DEPTH * PITCH>;
var<workgroup> b_tile: array<f32, DEPTH * PITCH>;

// Where piece p of a tile begins: x along the outer dimension, y along k. Neighbours in memory go to neighbouring invocations.
fn piece(p: u32, along_k: bool) -> vec2<u32> {
    if (along_k) {
        return vec2<u32>(p / (DEPTH / 4u), (p % (DEPTH / 4u)) * 4u);
    }
    return vec2<u32>((p % SIDE) * 4u, p / SIDE);
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
    let row = at.row * TILE;
    let col = at.col * TILE;
    //%repeat l LOADS
    let pa$l = piece(t + $lu * WG, A_ALONG_K);
    let pb$l = piece(t + $lu * WG, B_ALONG_K);
    let la$l = a_line(at.batch, row + pa$l.x);
    let lb$l = b_line(at.batch, col + pb$l.x);
    //%end
    let y = (t / SIDE) * 4u;
    let x = (t % SIDE) * 4u;
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    for (var k = at.k0; k < at.k1; k += DEPTH) {
        //%repeat l LOADS
        let va$l = a_load(la$l, k + pa$l.y);
        let vb$l = b_load(lb$l, k + pb$l.y);
        let sa$l = pa$l.y * PITCH + pa$l.x;
        let sb$l = pb$l.y * PITCH + pb$l.x;
        let da$l = select(1u, PITCH, A_ALONG_K);
        let db$l = select(1u, PITCH, B_ALONG_K);
        a_tile[sa$l] = va$l.x;
        a_tile[sa$l + da$l] = va$l.y;
        a_tile[sa$l + 2u * da$l] = va$l.z;
        a_tile[sa$l + 3u * da$l] = va$l.w;
        b_tile[sb$l] = vb$l.x;
        b_tile[sb$l + db$l] = vb$l.y;
        b_tile[sb$l + 2u * db$l] = vb$l.z;
        b_tile[sb$l + 3u * db$l] = vb$l.w;
        //%end
        workgroupBarrier();
        for (var kk = 0u; kk < DEPTH; kk++) {
            let ia = kk * PITCH + y;
            let ib = kk * PITCH + x;
            let b = vec4<f32>(b_tile[ib], b_tile[ib + 1u], b_tile[ib + 2u], b_tile[ib + 3u]);
            c0 += a_tile[ia] * b;
            c1 += a_tile[ia + 1u] * b;
            c2 += a_tile[ia + 2u] * b;
            c3 += a_tile[ia + 3u] * b;
        }
        workgroupBarrier();
    }
    store4(at, row + y, col + x, c0);
    store4(at, row + y + 1u, col + x, c1);
    store4(at, row + y + 2u, col + x, c2);
    store4(at, row + y + 3u, col + x, c3);
}
