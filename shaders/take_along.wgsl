// Indexing along one dimension. SCATTER: out[j] = sum of src[i] over the i along the axis with index[i] = j, in order
// (zero where the other coordinates lie outside the source). Else: out[i] = x[i with i[axis] = index[i]].
// One invocation an output element.

struct Params {
    count: u32,
    rank: u32,
    axis: u32,
    limit: u32, // of the axis in the table (take) or number of sources along it (scatter)
    x_offset: i32,
    index_offset: i32,
    pad0: u32,
    pad1: u32,
    dims: array<vec4<u32>, 2>, // of the result
    sizes: array<vec4<u32>, 2>, // of the indices
    x_strides: array<vec4<i32>, 2>,
    index_strides: array<vec4<i32>, 2>,
}
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> index: array<i32>;
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
    var rest = t;
    var at = params.x_offset;
    var from_ = params.index_offset;
    var own = 0u; // coordinate along the axis
    var inside = true;
    for (var k = 0u; k < params.rank; k = k + 1u) {
        let d = params.rank - 1u - k;
        let n = params.dims[d / 4u][d % 4u];
        let c = rest % n;
        rest = rest / n;
        if d == params.axis {
            own = c;
        } else {
            at = at + i32(c) * params.x_strides[d / 4u][d % 4u];
            from_ = from_ + i32(c) * params.index_strides[d / 4u][d % 4u];
            inside = inside && c < params.sizes[d / 4u][d % 4u];
        }
    }
    let x_stride = params.x_strides[params.axis / 4u][params.axis % 4u];
    let index_stride = params.index_strides[params.axis / 4u][params.axis % 4u];
    var result = T(0);
    if SCATTER {
        if inside {
            for (var j = 0u; j < params.limit; j = j + 1u) {
                if index[u32(from_ + i32(j) * index_stride)] == i32(own) {
                    result = result + x[u32(at + i32(j) * x_stride)];
                }
            }
        }
    } else {
        let i = index[u32(from_ + i32(own) * index_stride)];
        if i >= 0 && u32(i) < params.limit {
            result = x[u32(at + i * x_stride)];
        }
    }
    out[t] = result;
}
