// Where the rows of a packed matrix lie: in panels of ROWS rows, sorted by k. No entry point.

fn a_line(batch: u32, m: u32) -> u32 {
    let g = params.gemm;
    return (batch * g.tiles_m + m / ROWS) * ((g.k + 3u) / 4u) * ROWS + m % ROWS;
}

fn a_first(step: u32) -> vec4<u32> {
    return vec4<u32>(step * ROWS, 0u, 0u, 0u);
}

fn a_next(walk: vec4<u32>) -> vec4<u32> {
    return walk + vec4<u32>(ROWS, 0u, 0u, 0u);
}
