//! The tiles of attention's kernels (`attention.rs`), whose texts have the same names for what they are made of. `tile_32`: 8 x 8 invocations that
//! read operands in place; `tile_64`: 16 x 16 that pass both products through workgroup memory, as `matmul_tiled` does; `subgroup`: the same,
//! with the maximum of a row by subgroup operations.

use super::gemm::expand;
use super::{Shader, subgroup};
use crate::backend::gpu::caps::{AdapterClass, GpuCaps};
use std::fmt::Write;

/// How a kernel divides the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    Small,
    /// The number of neighbours that fold by subgroup operations, if any do.
    Large(Option<u32>),
}

/// A text's kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
    Forward,
    Query,
    Key,
}

/// Invocations of a large tile, and how many share a row.
const WG: usize = 256;
const LANES: u32 = 16;
/// Elements from one row of a large tile to the next in workgroup memory: rows stay aligned to 16 bytes.
const PITCH: usize = 68;
/// Rows that are staged at a time, a vec4 of each operand by each invocation: the texts count on it.
const DEPTH: usize = 16;
/// Workgroup memory of large tiles: operands, weights, and what rows fold.
const BYTES: usize = 4 * (2 * DEPTH * PITCH + 64 * PITCH) + 16 * WG;

/// Sizes of a call: b * h, l, s, e, d.
pub(super) type Sizes = [usize; 5];

impl Tile {
    /// What is wanted of the composite `stem`, or best. Large tiles where they compute at most a quarter more than small ones, and where enough of them
    /// run to keep a GPU busy; by themselves on discrete GPUs alone, since others may have no more workgroup memory than one of them takes.
    pub fn of(stem: &str, [heads, l, s, e, d]: Sizes, caps: &GpuCaps) -> Result<Tile, String> {
        const BUSY: usize = 64;
        let most = caps.max_invocations.min(caps.max_workgroup_size[0]);
        let fits = most as usize >= WG && caps.workgroup_bytes as usize >= BYTES;
        let whole = |n: usize| 4 * n.next_multiple_of(64) <= 5 * n.next_multiple_of(32);
        match caps.wanted(stem) {
            Some("tile_64" | "subgroup") if !fits => {
                Err(format!("tiles of 64 take {WG} invocations and {BYTES} bytes of workgroup memory"))
            }
            Some("tile_64") => Ok(Tile::Large(None)),
            // The gradient folds nothing.
            Some("subgroup") if stem == "attention" => Ok(Tile::Large(subgroup::near(WG as u32, LANES, caps))),
            Some("tile_32" | "stored" | "pack") => Ok(Tile::Small),
            Some(other) => Err(format!("{stem} has no tiles {other:?}")),
            None if caps.class == AdapterClass::Discrete
                && fits
                && [l, s, e, d].into_iter().all(whole)
                && heads * l.min(s).div_ceil(64) >= BUSY =>
            {
                Ok(Tile::Large(None))
            }
            None => Ok(Tile::Small),
        }
    }

    /// Queries and keys of a tile.
    pub fn side(self) -> usize {
        if self == Tile::Small { 32 } else { 64 }
    }

    /// Invocations of a workgroup.
    pub fn workgroup(self) -> usize {
        if self == Tile::Small { 64 } else { WG }
    }

    /// The vec4 columns of an invocation that `n` columns need.
    pub fn columns(self, n: usize) -> u32 {
        n.div_ceil(self.side()) as u32
    }

    /// The variant's name.
    pub fn variant(self) -> &'static str {
        match self {
            Tile::Small => "tile_32",
            Tile::Large(None) => "tile_64",
            Tile::Large(Some(_)) => "subgroup",
        }
    }

    /// The constants that `attention_frame.wgsl` needs.
    pub fn consts(self) -> String {
        let (side, wg) = (self.side(), self.workgroup());
        let pitch = if self == Tile::Small { 33 } else { PITCH };
        format!(
            "const SIDE: u32 = {side}u;\nconst WG: u32 = {wg}u;\nconst PITCH: u32 = {pitch}u;\nconst DEPTH: u32 = {DEPTH}u;"
        )
    }

    /// Adds a kernel's text to what its operands are, with the dot products of these pairs of operands over this length.
    pub fn finish(self, shader: Shader, pass: Pass, dots: &[[&str; 3]], counts: &[(&str, u32)]) -> Shader {
        let counts = [&[("ROWS", 4)], counts].concat();
        let near = match self {
            Tile::Small => {
                let text = match pass {
                    Pass::Forward => include_str!("../../../../shaders/attention.wgsl"),
                    Pass::Query => include_str!("../../../../shaders/attention_dq.wgsl"),
                    Pass::Key => include_str!("../../../../shaders/attention_dkv.wgsl"),
                };
                let shader = dots.iter().fold(shader, |shader, &pair| shader.header(dots_in_place(pair)));
                return shader.body(expand(&whole(text), &counts));
            }
            Tile::Large(near) => near,
        };
        let text = match pass {
            Pass::Forward => include_str!("../../../../shaders/attention_tiles.wgsl"),
            Pass::Query => include_str!("../../../../shaders/attention_tiles_dq.wgsl"),
            Pass::Key => include_str!("../../../../shaders/attention_tiles_dkv.wgsl"),
        };
        let shader = shader.header(include_str!("../../../../shaders/attention_stage.wgsl")).common(&["quad"]);
        let shader = dots.iter().fold(shader, |shader, &pair| shader.header(dots_of_tiles(pair)));
        let shader = match (pass, near) {
            (Pass::Forward, Some(near)) => {
                let folds = [("all_max", "vec4<f32>", "max_nan4(a, b)"), ("all_sum", "vec4<f32>", "a + b")];
                shader.consts(&[("LANES", LANES)]).subgroup_folds(near, &folds)
            }
            (Pass::Forward, None) => {
                let text = include_str!("../../../../shaders/attention_fold.wgsl");
                shader.consts(&[("LANES", LANES)]).header(text)
            }
            (Pass::Query | Pass::Key, _) => shader,
        };
        shader.body(expand(&gathered(&whole(text), &counts), &counts))
    }
}

/// The text with how all of them begin.
fn whole(text: &str) -> String {
    text.replace("//%head\n", include_str!("../../../../shaders/attention_head.wgsl"))
}

/// The function `dots_ab`: dot products of four rows of `a` with four rows of `b`, column i for row i of `a`. By outer products, which are
/// multiply-adds alone.
fn dots_in_place([a, b, len]: [&str; 3]) -> String {
    let mut s =
        format!("fn dots_{a}{b}(rows: vec4<i32>, cols: vec4<i32>) -> mat4x4<f32> {{\n    var m = mat4x4<f32>();\n");
    let _ = writeln!(s, "    for (var c = 0u; c < params.heads.{len}; c += 4u) {{");
    for (j, at) in ["x", "y", "z", "w"].iter().enumerate() {
        let _ = writeln!(s, "        let a{j} = {a}_load(rows.{at}, c);\n        let b{j} = {b}_load(cols.{at}, c);");
    }
    for at in ["x", "y", "z", "w"] {
        let _ = writeln!(s, "        let {at} = vec4<f32>(b0.{at}, b1.{at}, b2.{at}, b3.{at});");
    }
    for (i, at) in (0..4).flat_map(|i| ["x", "y", "z", "w"].map(|at| (i, at))) {
        let _ = writeln!(s, "        m[{i}] += a{i}.{at} * {at};");
    }
    s + "    }\n    return m;\n}\n"
}

/// The same of the tile of rows from `row` of `a` and `col` of `b` on, all invocations together.
fn dots_of_tiles([a, b, len]: [&str; 3]) -> String {
    format!(
        "fn dots_{a}{b}(lane: u32, head: u32, row: u32, col: u32) -> mat4x4<f32> {{
    var m = mat4x4<f32>();
    let along = lane % 4u * 4u;
    let a_line = {a}_line(head, row + lane / 4u);
    let b_line = {b}_line(head, col + lane / 4u);
    for (var c = 0u; c < params.heads.{len}; c += DEPTH) {{
        let a = {a}_load(a_line, c + along);
        let b = {b}_load(b_line, c + along);
        workgroupBarrier(); // readers of what was there are done
        stage4(along * PITCH + lane / 4u, PITCH, a);
        stage4(HALF + along * PITCH + lane / 4u, PITCH, b);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {{
            let r = staged(k * PITCH + place_y(lane));
            let s = staged(HALF + k * PITCH + place_x(lane));
            m[0] += r.x * s;
            m[1] += r.y * s;
            m[2] += r.z * s;
            m[3] += r.w * s;
        }}
    }}
    return m;
}}
"
    )
}

/// Replaces each line `//%gather B ACC COLS FIRST LEN`: to the invocation's `ACCi_c` come its rows of the weights times the rows of the operand B from
/// FIRST on, of which there are LEN.
fn gathered(text: &str, counts: &[(&str, u32)]) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.trim().strip_prefix("//%gather ").map(|l| l.split(' ').collect::<Vec<_>>()).as_deref() {
            Some(&[b, acc, cols, first, len]) => {
                let count = counts.iter().find(|c| c.0 == cols).map_or(0, |c| c.1);
                out += &gather(b, acc, (cols, count), first, len);
            }
            _ => {
                out += line;
                out.push('\n');
            }
        }
    }
    out
}

fn gather(b: &str, acc: &str, (cols, count): (&str, u32), first: &str, len: &str) -> String {
    let pitch = 64 * count + 4;
    format!(
        "for (var j = 0u; j < min(SIDE, {len} - {first}); j += DEPTH) {{
    let own = {first} + j + lane / 16u;
    let line = {b}_line(head, own);
    //%repeat c {cols}
    let v$c = select(vec4<f32>(), {b}_load(line, x + $cu * SIDE), own < {len});
    //%end
    workgroupBarrier(); // readers of what was there are done, and writers of the weights
    //%repeat c {cols}
    stage4(lane / 16u * {pitch}u + x + $cu * SIDE, 1u, v$c);
    //%end
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {{
        let w = weights_at((j + k) * PITCH + y);
        //%repeat c {cols}
        let u$c = staged(k * {pitch}u + x + $cu * SIDE);
        {acc}0_$c += w.x * u$c;
        {acc}1_$c += w.y * u$c;
        {acc}2_$c += w.z * u$c;
        {acc}3_$c += w.w * u$c;
        //%end
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tiles_are_for_gpus_with_room_and_work() {
        let gpu = GpuCaps { workgroup_bytes: 32 << 10, ..GpuCaps::sample(AdapterClass::Discrete, None) };
        let of = |sizes, caps: &GpuCaps| Tile::of("attention", sizes, caps).expect("a tile").variant();
        assert_eq!(of([32, 256, 256, 64, 64], &gpu), "tile_64");
        // Half of the columns or a quarter of them nothing, few tiles, half a tile of queries.
        assert_eq!(of([32, 256, 256, 32, 32], &gpu), "tile_32");
        assert_eq!(of([32, 256, 256, 80, 80], &gpu), "tile_32");
        assert_eq!(of([32, 256, 256, 96, 128], &gpu), "tile_32");
        assert_eq!(of([4, 256, 256, 64, 64], &gpu), "tile_32");
        assert_eq!(of([512, 32, 256, 64, 64], &gpu), "tile_32");
        assert_eq!(of([32, 256, 256, 64, 64], &GpuCaps::default_limits()), "tile_32");
        let wants = |v: &str, caps: GpuCaps| GpuCaps { variants: [("attention".into(), v.into())].into(), ..caps };
        assert!(Tile::of("attention", [1, 1, 1, 1, 1], &wants("tile_64", GpuCaps::default_limits())).is_err());
        let small = GpuCaps { class: AdapterClass::Integrated, ..gpu.clone() };
        assert_eq!(of([32, 256, 256, 64, 64], &small), "tile_32");
        let wide = GpuCaps { subgroups: Some((32, 64)), ..gpu };
        assert_eq!(Tile::of("attention", [1, 1, 1, 1, 1], &wants("subgroup", wide)), Ok(Tile::Large(Some(16))));
    }
}
