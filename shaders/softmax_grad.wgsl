// Rows of y * (g - sum(g * y)), or (LOG) of g - exp(y) * sum(g).
struct Params {
    rows: u32,
    n: u32,
    spare0: u32,
    spare1: u32,
    // Offset, row stride, column stride.
    y: vec4<i32>,
    g: vec4<i32>,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, groups, lane);
    if (row >= params.rows) {
        return;
    }
    let at_y = params.y.x + i32(row) * params.y.y;
    let at_g = params.g.x + i32(row) * params.g.y;
    var sum = 0.0;
    for (var j = first(lane); j < params.n; j += STEP) {
        let v = g[at_g + i32(j) * params.g.z];
        if (LOG) {
            sum += v;
        } else {
            sum += v * y[at_y + i32(j) * params.y.z];
        }
    }
    sum = all_sum(lane, sum);
    for (var j = first(lane); j < params.n; j += STEP) {
        let v = y[at_y + i32(j) * params.y.z];
        let gv = g[at_g + i32(j) * params.g.z];
        if (LOG) {
            dx[row * params.n + j] = gv - exp_below(v) * sum;
        } else {
            dx[row * params.n + j] = v * (gv - sum);
        }
    }
}
