// Kernels that fold rows, an invocation per row (or per strip of columns) and eight elements (two quads) at a time: rows on software adapters, where
// every load costs as much as several additions, whatever its width, and cooperation costs more than it saves; columns on GPUs too. No entry point.
// From the header: WG, EXACT (rows are whole pairs), WIDE (pairs are even and odd elements), and for each operand NAME_pair(start, step, q), or NAME_put(row, q, v).

fn row_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return group_index(group, groups) * WG + lane;
}

fn seen4(at: vec4<u32>, n: u32, v: vec4<f32>, otherwise: f32) -> vec4<f32> {
    return select(vec4<f32>(otherwise), v, at < vec4<u32>(n));
}

// The pair at quad q as far as it belongs to the first n elements: what lies beyond can be anything.
fn seen(q: u32, n: u32, v: Pair, otherwise: f32) -> Pair {
    let at = vec4<u32>(4u * q);
    if (WIDE) {
        let a = seen4(at + vec4<u32>(0u, 2u, 4u, 6u), n, v.a, otherwise);
        return Pair(a, seen4(at + vec4<u32>(1u, 3u, 5u, 7u), n, v.b, otherwise));
    }
    let a = seen4(at + vec4<u32>(0u, 1u, 2u, 3u), n, v.a, otherwise);
    return Pair(a, seen4(at + vec4<u32>(4u, 5u, 6u, 7u), n, v.b, otherwise));
}

// The pair, with 0 where the row has no such element.
fn kept(q: u32, v: Pair) -> Pair {
    if (EXACT) {
        return v;
    }
    return seen(q, params.n, v, 0.0);
}
