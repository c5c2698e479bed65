// Where element (m, n) of a batch of a product of strided matrices goes. SWAP says that the kernel computes the transposed
// product (rows and columns exchanged), because that fits its tiles better; only this file knows. No entry point.

fn finish(batch: u32, m: u32, n: u32, v: f32) {
    let g = params.gemm;
    let b = batch_coord(batch);
    if (SWAP) {
        let i = (batch * g.n + n) * g.m + m;
        out[i] = epilogue(v, Coord(b.x, b.y, b.z, i32(n), i32(m)), i);
    } else {
        let i = (batch * g.m + m) * g.n + n;
        out[i] = epilogue(v, Coord(b.x, b.y, b.z, i32(m), i32(n)), i);
    }
}
