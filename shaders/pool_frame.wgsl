// Geometry of pooling windows over up to three spatial dimensions (ones in front). No entry point. Each invocation gathers what
// its elements need, so sums have one order and nothing is scattered. The header's `pool()` gives the geometry.

struct Pool {
    // Input (z, y, x) and planes (images * channels).
    size: vec4<i32>,
    // Windows (z, y, x).
    windows: vec4<i32>,
    kernel: vec4<i32>,
    stride: vec4<i32>,
    dilation: vec4<i32>,
    // Padding before.
    lo: vec4<i32>,
    // Invocations with work; value of padding (-inf) where the kernel needs one.
    elems: u32,
    channels: i32,
    minus_inf: f32,
    spare: u32,
}

// Image, channel and place of element i of planes of this size.
struct Spot {
    image: i32,
    channel: i32,
    at: vec3<i32>,
}

fn spot(i: u32, size: vec4<i32>) -> Spot {
    let row = i32(i) / size.z;
    let slice = row / size.y;
    let plane = slice / size.x;
    return Spot(
        plane / pool().channels,
        plane % pool().channels,
        vec3<i32>(slice % size.x, row % size.y, i32(i) % size.z),
    );
}

// Address of a place in a strided [images, channels, z, y, x].
struct Planes {
    offset: i32,
    image: i32,
    channel: i32,
    z: i32,
    y: i32,
    x: i32,
    spare0: i32,
    spare1: i32,
}

fn plane_of(v: Planes, s: Spot) -> i32 {
    return v.offset + s.image * v.image + s.channel * v.channel;
}

fn place(v: Planes, plane: i32, at: vec3<i32>) -> i32 {
    return plane + at.x * v.z + at.y * v.y + at.z * v.x;
}

fn inside(at: vec3<i32>, size: vec4<i32>) -> bool {
    return all(at >= vec3<i32>()) && all(at < size.xyz);
}

// The window in which `tap` lies on input `at`, or a negative one if there is none.
fn window_of(at: vec3<i32>, tap: vec3<i32>) -> vec3<i32> {
    let p = pool();
    let from_start = at + p.lo.xyz - tap * p.dilation.xyz;
    let w = from_start / p.stride.xyz;
    return select(w, vec3<i32>(-1), (from_start < vec3<i32>()) | (w * p.stride.xyz != from_start));
}
