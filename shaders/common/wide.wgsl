// Eight words of memory as four of 64 bits: software adapters load those for what four words cost. Even places are the low halves.
fn evens(v: vec4<u64>) -> vec4<u32> {
    return vec4<u32>(v);
}

fn odds(v: vec4<u64>) -> vec4<u32> {
    return vec4<u32>(v >> vec4<u32>(32u));
}

fn woven(even: vec4<u32>, odd: vec4<u32>) -> vec4<u64> {
    return vec4<u64>(even) | (vec4<u64>(odd) << vec4<u32>(32u));
}
