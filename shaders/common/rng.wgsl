// Philox4x32-10, bit-equal to src/rng.rs: word `index` of a stream under (seed_lo, seed_hi, step, microbatch).

fn mul_wide(a: u32, b: u32) -> vec2<u32> { // (low, high)
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 16u);
    let mid2 = a0 * b1 + (mid & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (mid >> 16u) + (mid2 >> 16u));
}

fn philox(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var key = seed;
    for (var round = 0u; round < 10u; round = round + 1u) {
        let p0 = mul_wide(0xD2511F53u, c.x);
        let p1 = mul_wide(0xCD9E8D57u, c.z);
        c = vec4<u32>(p1.y ^ c.y ^ key.x, p1.x, p0.y ^ c.w ^ key.y, p0.x);
        key = key + vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// The four words from 4 * block on.
fn random_block(counter: vec4<u32>, stream: u32, block: u32) -> vec4<u32> {
    return philox(vec4<u32>(block, counter.z, counter.w, stream), counter.xy);
}

fn random_word(counter: vec4<u32>, stream: u32, index: u32) -> u32 {
    return random_block(counter, stream, index / 4u)[index % 4u];
}
