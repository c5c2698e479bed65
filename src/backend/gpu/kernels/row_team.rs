//! Row kernels for GPUs, and for what the variants by quads leave on software adapters: a team of lanes folds a row, each lane some quads of
//! it, which stay in registers where the row is short enough, so that memory is read once. Variants: `tree` (several lanes a row,
//! which meet in workgroup memory), `subgroup` (the same, by subgroup operations as far as those reach) and `serial` (one lane a row). Several rows share a workgroup, so a fold's result comes from the team's own
//! place in workgroup memory and not by `workgroupUniformLoad`: no barrier stands where it could decide.

use super::Shader;
use super::gemm::expand;
use super::rows::{alias, quad_of_strided, walks};
use super::subgroup::{self, TREES};
use crate::backend::gpu::caps::GpuCaps;
use crate::shape::View;

/// Variants of a row kernel.
pub(super) const VARIANTS: &[&str] = &["tree", "subgroup", "serial"];

/// Most quads of a row that a lane keeps: eight take 32 registers an operand.
const MOST: usize = 8;

/// How rows are spread over invocations.
pub(super) struct Team {
    n: usize,
    lanes: usize,
    wg: usize,
    quads: usize,
    held: bool,
    /// Neighbours that fold by subgroup operations.
    near: Option<u32>,
}

impl Team {
    /// The plan for rows of `n` elements. On GPUs two quads a lane: fewer lanes would leave gaps between what neighbours load, more
    /// lanes cost steps of the fold. Software adapters, where folding across lanes costs more than it saves, take one lane a row unless
    /// there are fewer rows than lanes to fill.
    pub fn of(stem: &str, rows: usize, n: usize, caps: &GpuCaps) -> Team {
        let all = n.div_ceil(4).max(1);
        let most = caps.tree_workgroup() as usize;
        let tree = match caps.wanted(stem) {
            Some(v) => v == "tree" || v == "subgroup",
            None if caps.software() => rows < 8 && n > 64,
            None => n > 8,
        };
        let lanes = match tree {
            false => 1,
            true if caps.software() => most,
            true => all.div_ceil(2).next_power_of_two().clamp(2.min(most), most),
        };
        let own = all.div_ceil(lanes);
        // Unrolling more costs a software adapter time to compile.
        let most = if caps.software() { 4 } else { MOST };
        let held = own <= most;
        let quads = if held { own } else { most / 2 };
        let wg = match caps.software() {
            true if lanes > 1 || n >= 64 => lanes.max(8),
            _ => lanes.max(64),
        };
        // Whole teams, however many invocations there may be.
        let wg = wg.min(caps.flat_workgroup() as usize) / lanes * lanes;
        let wg = wg.max(lanes);
        let near = subgroup::near(wg as u32, lanes as u32, caps).filter(|_| subgroup::wanted(stem, caps));
        Team { n, lanes, wg, quads, held, near }
    }

    /// The variant's name.
    pub fn variant(&self) -> &'static str {
        match (self.lanes, self.near) {
            (1, _) => "serial",
            (_, None) => "tree",
            (_, Some(_)) => "subgroup",
        }
    }

    /// Workgroups for so many rows.
    pub fn groups(&self, rows: usize) -> u64 {
        (rows as u64).div_ceil((self.wg / self.lanes) as u64)
    }

    /// True if no block of a row has places that the row has not.
    fn exact(&self) -> bool {
        self.n > 0 && self.n.is_multiple_of(4 * self.lanes * self.quads)
    }

    /// The header's part: constants, the frame and the folds. `text` is the kernel's own.
    pub fn shader(&self, stem: &'static str, text: &str) -> Shader {
        let tree = self.lanes > 1;
        let fold = |name: &str, ty: &str| {
            let value = if tree { format!("tree_{name}(lane, x)") } else { "x".into() };
            format!("fn all_{name}(lane: u32, x: {ty}) -> {ty} {{\n    return {value};\n}}")
        };
        let pieces: &[&str] =
            if tree && self.near.is_none() { &["index", "quad", "reduce"] } else { &["index", "quad", "bits"] };
        let shader = Shader::new(stem)
            .consts(&[("WG", self.wg as u32), ("LANES", self.lanes as u32), ("QUADS", self.quads as u32)])
            .header(format!("const HELD: bool = {};\nconst EXACT: bool = {};", self.held, self.exact()))
            .header(fold("sum", "f32"))
            .header(fold("sum2", "vec2<f32>"))
            .header(fold("max", "f32"))
            .header(include_str!("../../../../shaders/row_team.wgsl"))
            .common(pieces)
            .body(expand(text, &[("QUADS", self.quads as u32)]));
        match self.near {
            Some(near) => shader.subgroup_folds(near, &TREES),
            None => shader,
        }
    }

    /// `{Name}Elem`, `{name}_quad(start, step, q)`: four neighbours of the line at `start`, by one load where they lie together in memory, and
    /// `{name}_at(start, step, j)`: one. Beyond the end of the line the last is repeated.
    pub fn reader(&self, name: &str, view: &View) -> String {
        let exact = self.exact();
        let whole = walks(view, self.n, 4);
        let (quad, at) = match whole {
            true => {
                let q = if exact { "q" } else { "min(q, params.n / 4u - 1u)" };
                (format!("{name}[(start >> 2u) + i32({q})]"), format!("{name}[(start + j) >> 2u][u32(start + j) & 3u]"))
            }
            false => (quad_of_strided(name, exact), format!("{name}[start + j * step]")),
        };
        format!(
            "{}fn {name}_quad(start: i32, step: i32, q: u32) -> vec4<f32> {{\n    return {quad};\n}}\n\
             fn {name}_at(start: i32, step: i32, j: i32) -> f32 {{\n    return {at};\n}}\n",
            alias(name, if whole { "vec4<f32>" } else { "f32" })
        )
    }

    /// `{Name}Elem` and `{name}_put(row, q, v)`: writes those of four elements that a dense row of `n` has.
    pub fn writer(&self, name: &str) -> String {
        let vec = self.n.is_multiple_of(4);
        let body = match (vec, self.exact()) {
            (true, true) => format!("    {name}[row * (params.n / 4u) + q] = v;\n"),
            (true, false) => {
                format!("    if (q < params.n / 4u) {{\n        {name}[row * (params.n / 4u) + q] = v;\n    }}\n")
            }
            (false, _) => super::repeat(
                4,
                &format!(
                    "    if (4u * q + $iu < params.n) {{\n        {name}[row * params.n + 4u * q + $iu] = v[$i];\n    }}"
                ),
            ),
        };
        let alias = alias(name, if vec { "vec4<f32>" } else { "f32" });
        format!("{alias}fn {name}_put(row: u32, q: u32, v: vec4<f32>) {{\n{body}}}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::caps::AdapterClass;

    #[test]
    fn every_element_has_one_lane_and_short_rows_are_held() {
        for class in [AdapterClass::Discrete, AdapterClass::Software] {
            for most in [8, 48, 256] {
                for variant in ["", "tree", "subgroup", "serial"] {
                    let mut caps = GpuCaps { max_invocations: most, ..GpuCaps::sample(class, None) };
                    if !variant.is_empty() {
                        caps.variants.insert("s".into(), variant.into());
                    }
                    for n in [1, 3, 8, 9, 64, 65, 512, 1000, 8192, 8196, 100_000] {
                        let t = Team::of("s", 100, n, &caps);
                        assert!(t.wg <= most as usize && t.wg.is_multiple_of(t.lanes), "{n}: {} of {}", t.lanes, t.wg);
                        let block = 4 * t.lanes * t.quads;
                        assert!(!t.held || block >= n, "{n}: {block} held");
                        assert_eq!(t.exact(), n % block == 0);
                        assert!(t.groups(100) * (t.wg / t.lanes) as u64 >= 100);
                    }
                }
            }
        }
        let gpu = GpuCaps::sample(AdapterClass::Discrete, None);
        assert!(Team::of("s", 4096, 8192, &gpu).held && !Team::of("s", 4096, 8196, &gpu).held);
    }
}
