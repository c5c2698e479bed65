// Index of the first maximum along one dimension; NaN wins. One invocation an output, or (TREE) one workgroup.
// x is read at (o / inner) * outer_stride + (o % inner) + j * inner: dense [outer, n, inner].

struct Params {
    count: u32,
    n: u32,
    inner: u32,
    offset: u32,
}
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<i32>;
@group(0) @binding(2) var<uniform> params: Params;

alias T = vec2<u32>; // key, position

fn combine(a: T, b: T) -> T {
    return select(b, a, a.x > b.x || (a.x == b.x && a.y < b.y));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group_index(group, groups);
    if TREE {
        if number >= params.count {
            return;
        }
    }
    let o = select(number * WG + lane, number, TREE);
    let base = params.offset + (o / params.inner) * params.n * params.inner + o % params.inner;
    let step = select(1u, WG, TREE);
    var best = vec2<u32>(0u, 0xffffffffu);
    if o < params.count {
        for (var j = select(0u, lane, TREE); j < params.n; j = j + step) {
            best = combine(best, vec2<u32>(key_of(x[base + j * params.inner]), j));
        }
    }
    finish(o, lane, best);
}
