// Where the results of a convolution go. A call computes one phase of the result: every out_step-th element from out_base.
// Rows are out channels and columns pixels, or the other way round if SWAP. No entry point.
// From the header: ratio.

struct Row {
    c: Coord,
    // Element of channel 0 (SWAP), or the number of the channel.
    first: u32,
}

// Coordinates of a pixel in the result; the channel is 0.
fn pixel_at(n: u32) -> Coord {
    let p = params.conv;
    let rest = ratio(n, p.pixels.z);
    let rest_y = ratio(rest, p.pixels.y);
    let image = ratio(rest_y, p.pixels.x);
    let place = vec3<u32>(rest_y - image * p.pixels.x, rest - rest_y * p.pixels.y, n - rest * p.pixels.z);
    let at = p.out_base.xyz + p.out_step.xyz * vec3<i32>(place);
    return Coord(i32(image), 0, at.x, at.y, at.z);
}

// Elements of one channel of the result.
fn plane() -> u32 {
    let size = vec3<u32>(params.conv.out_size.xyz);
    return size.x * size.y * size.z;
}

fn element_of(c: Coord) -> u32 {
    let size = params.conv.out_size;
    return u32((((c.c0 * size.w + c.c1) * size.x + c.c2) * size.y + c.c3) * size.z + c.c4);
}

fn row_of(group: u32, m: u32) -> Row {
    if (SWAP) {
        var c = pixel_at(m);
        c.c1 = i32(group * params.gemm.n);
        return Row(c, element_of(c));
    }
    return Row(Coord(), group * params.gemm.m + m);
}

fn slot(row: Row, n: u32) -> Slot {
    if (SWAP) {
        var c = row.c;
        c.c1 += i32(n);
        return Slot(c, row.first + n * plane());
    }
    var c = pixel_at(n);
    c.c1 = i32(row.first);
    return Slot(c, element_of(c));
}
