// What the attention kernels of tiles of 64 x 64 share: 16 x 16 invocations, 4 x 4 scores each, and both products through workgroup memory,
// DEPTH rows at a time. No entry point. From the header: DEPTH, and what attention_frame names; the products are generated.

// Staged operands: of scores two tiles [along e or d][row], then rows of up to 128 columns.
const HALF: u32 = DEPTH * PITCH;
var<workgroup> stage: array<f32, 2u * HALF>;
// What the rows are weighted by: [key][query], or for keys and values [query][key].
var<workgroup> weights: array<f32, SIDE * PITCH>;

fn staged(at: u32) -> vec4<f32> {
    return vec4<f32>(stage[at], stage[at + 1u], stage[at + 2u], stage[at + 3u]);
}

fn stage4(at: u32, step: u32, v: vec4<f32>) {
    stage[at] = v.x;
    stage[at + step] = v.y;
    stage[at + 2u * step] = v.z;
    stage[at + 3u * step] = v.w;
}

fn weights_at(at: u32) -> vec4<f32> {
    return vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}

// Weights of the invocation's 4 x 4, row i of m for its row i, written across.
fn put_weights(lane: u32, m: mat4x4<f32>) {
    let y = place_y(lane);
    let across = transpose(m);
    for (var j = 0u; j < 4u; j++) {
        let at = (place_x(lane) + j) * PITCH + y;
        let v = across[j];
        weights[at] = v.x;
        weights[at + 1u] = v.y;
        weights[at + 2u] = v.z;
        weights[at + 3u] = v.w;
    }
}
