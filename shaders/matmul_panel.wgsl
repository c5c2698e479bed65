// Where column c of a panel lies among its COLS * LANES texels: a lane finds its j-th column at j * LANES + lane. If it has four
// or more, they are neighbours in fours, so that it can store them as one vec4. No entry point.

fn place_in_panel(c: u32) -> u32 {
    if (COLS >= 4u) {
        let four = c / 4u;
        return ((four / LANES) * 4u + c % 4u) * LANES + four % LANES;
    }
    return (c % COLS) * LANES + c / COLS;
}
