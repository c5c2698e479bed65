// First pass of the stable sort of lines [outer, n, inner]: keys, with blocks of BLOCK positions in order. Each
// invocation counts the elements of its block that go before its own. Scratch is [lines, n]: (key, position).

struct Params {
    count: u32, // lines * n
    n: u32,
    inner: u32,
    offset: u32,
    flip: u32, // 0xffffffff for descending
    limit: u32, // keys at or above it become 0xffffffff (row numbers out of range); 0: none
    stride: u32,
    pad0: u32,
}
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<vec2<u32>>;
@group(0) @binding(2) var<uniform> params: Params;

fn key_at(line: u32, j: u32) -> u32 {
    let first = (line / params.inner) * params.n * params.inner + line % params.inner;
    let key = key_of(x[params.offset + (first + j * params.inner) * params.stride]) ^ params.flip;
    return select(key, 0xffffffffu, params.limit != 0u && key >= params.limit);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group_index(group, groups) * WG + lane;
    if t >= params.count {
        return;
    }
    let line = t / params.n;
    let j = t % params.n;
    let key = key_at(line, j);
    let start = j - j % BLOCK;
    let end = min(start + BLOCK, params.n);
    var rank = 0u;
    for (var i = start; i < end; i = i + 1u) {
        let other = key_at(line, i);
        rank = rank + select(0u, 1u, other < key || (other == key && i < j));
    }
    out[line * params.n + start + rank] = vec2<u32>(key, j);
}
