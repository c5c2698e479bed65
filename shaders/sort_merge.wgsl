// Merges neighbouring sorted runs of `run` elements. Each element finds by bisection how many of the other run go
// before it; equal keys keep the order of the runs, so the sort is stable.

struct Params {
    count: u32,
    n: u32,
    run: u32,
    pad0: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec2<u32>>;
@group(0) @binding(2) var<uniform> params: Params;

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
    let line = (t / params.n) * params.n;
    let j = t % params.n;
    let pair = j - j % (2u * params.run);
    let middle = min(pair + params.run, params.n);
    let left = j < middle;
    let item = x[t];
    var low = select(pair, middle, left);
    var high = select(middle, min(pair + 2u * params.run, params.n), left);
    let start = low;
    while low < high {
        let half = (low + high) / 2u;
        let other = x[line + half].x;
        // Of equal keys, those of the left run go first.
        if other < item.x || (other == item.x && !left) {
            low = half + 1u;
        } else {
            high = half;
        }
    }
    let own = select(j - middle, j - pair, left);
    out[line + pair + own + (low - start)] = item;
}
