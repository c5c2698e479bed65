// Sums of source rows by row number: out[r] = sum of src[i] with index[i] = r, in the order of i. `sorted` holds (row
// number, i) in order; one invocation an output element bisects for the start of its row's segment and adds it up.

struct Params {
    count: u32,
    width: u32,
    n: u32,
    offset: u32,
}
@group(0) @binding(0) var<storage, read> src: array<T>;
@group(0) @binding(1) var<storage, read> sorted: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<T>;
@group(0) @binding(3) var<uniform> params: Params;

override WG: u32 = 256u;

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
    let row = t / params.width;
    let column = params.offset + t % params.width;
    var low = 0u;
    var high = params.n;
    while low < high {
        let half = (low + high) / 2u;
        if sorted[half].x < row {
            low = half + 1u;
        } else {
            high = half;
        }
    }
    var sum = T(0);
    while low < params.n {
        let item = sorted[low];
        if item.x != row {
            break;
        }
        sum = sum + src[column + item.y * params.width];
        low = low + 1u;
    }
    out[t] = sum;
}
