// Reports the first index outside 0 .. limit. One workgroup scans them all: indices are few beside what they move, and
// a single writer makes the report deterministic.

struct Params {
    count: u32,
    limit: u32,
    site: u32,
    rank: u32,
    offset: i32,
    ignore: i32, // an index that is allowed (-1 where none is: it is then out of range anyway)
    has_ignore: u32,
    pad0: u32,
    dims: array<vec4<u32>, 2>,
    strides: array<vec4<i32>, 2>,
}
@group(0) @binding(0) var<storage, read> index: array<i32>;
@group(0) @binding(1) var<storage, read_write> status: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

alias T = u32;

fn combine(a: T, b: T) -> T {
    return min(a, b);
}

fn load(i: u32) -> i32 {
    var rest = i;
    var at = params.offset;
    for (var k = 0u; k < params.rank; k = k + 1u) {
        let d = params.rank - 1u - k;
        let n = params.dims[d / 4u][d % 4u];
        at = at + i32(rest % n) * params.strides[d / 4u][d % 4u];
        rest = rest / n;
    }
    return index[u32(at)];
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    var first = 0xffffffffu;
    for (var i = lane; i < params.count; i = i + WG) {
        let v = load(i);
        if (v < 0 || u32(v) >= params.limit) && !(params.has_ignore != 0u && v == params.ignore) {
            first = min(first, i);
        }
    }
    let worst = fold_all(lane, first);
    if lane == 0u && worst != 0xffffffffu {
        report(params.site, worst, load(worst), params.limit);
    }
}
