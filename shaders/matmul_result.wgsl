// Where element (m, n) of a batch of a product of strided matrices goes. SWAP says that the kernel computes the transposed
// product (rows and columns exchanged), because that fits its tiles better; only this file knows. No entry point.

// A row: its coordinates but that of the column, its first element, and the step to the next column.
struct Row {
    c: Coord,
    first: u32,
    step: u32,
}

fn row_of(batch: u32, m: u32) -> Row {
    let g = params.gemm;
    let b = batch_coord(batch);
    if (SWAP) {
        return Row(Coord(b.x, b.y, b.z, 0, i32(m)), batch * g.n * g.m + m, g.m);
    }
    return Row(Coord(b.x, b.y, b.z, i32(m), 0), (batch * g.m + m) * g.n, 1u);
}

fn slot(row: Row, n: u32) -> Slot {
    var c = row.c;
    if (SWAP) {
        c.c3 = i32(n);
    } else {
        c.c4 = i32(n);
    }
    return Slot(c, row.first + n * row.step);
}
