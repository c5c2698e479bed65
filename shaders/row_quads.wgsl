// Kernels that fold rows, an invocation per row and eight elements (two quads) at a time: for software adapters, where every load costs
// as much as several additions, whatever its width, and cooperation costs more than it saves. No entry point.
// From the header: WG, EXACT (rows are whole pairs), and for each operand NAME_pair(start, step, q), or NAME_put(row, q, v).

fn row_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_index(group, groups) * WG + lane;
}

// exp of values that are at most about 0; exactly 0 where the result would be subnormal, also for -inf.
fn exp_below4(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), vec4<f32>(), x < vec4<f32>(-87.3));
}

// The bits without the sign: beyond those of infinity for NaN. Their maximum finds a NaN for two instructions a quad.
fn magnitude4(x: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
}

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn max4(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// Elements of quad q that the row has; the others are repetitions.
fn live4(q: u32) -> vec4<bool> {
    return vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.n);
}

// The value, or 0 where the row has no such element.
fn kept4(q: u32, v: vec4<f32>) -> vec4<f32> {
    if (EXACT) {
        return v;
    }
    return select(vec4<f32>(), v, live4(q));
}

fn kept(q: u32, v: Pair) -> Pair {
    return Pair(kept4(q, v.a), kept4(q + 1u, v.b));
}
