// The taps of a block of DEPTH of k, worked out once for all invocations of a workgroup. No entry point. From the header: DEPTH, shift_of.

var<workgroup> shifts: array<vec4<i32>, DEPTH>;

// For the block that begins at k, a multiple of DEPTH; a barrier later it can be read.
fn b_prepare(t: u32, k: u32) {
    if (t < DEPTH) {
        shifts[t] = shift_of(k + t);
    }
}

fn shift_at(k: u32) -> vec4<i32> {
    return shifts[k % DEPTH];
}
