//! What the kernels that fold rows share: the choice between a workgroup and an invocation per row, and views of rows.
//! Variants: `tree` (a workgroup per row), `serial` (an invocation per row), `quads` (the same by four elements, for software adapters).

use super::{Grid, KernelCall, Params, Shader};
use crate::backend::gpu::caps::GpuCaps;
use crate::ir::{Call, Type};
use crate::plan::{Region, Source};
use crate::shape::View;

/// Variants of a row kernel.
pub(super) const VARIANTS: &[&str] = &["tree", "serial"];

/// How rows are spread over invocations.
pub(super) struct RowPlan {
    pub tree: bool,
    pub wg: u32,
    pub groups: u64,
}

impl RowPlan {
    /// A workgroup per row for long rows on GPUs, an invocation per row for short ones and on software adapters, where trees cost
    /// more than they save, unless there are fewer rows than lanes to fill.
    pub fn of(stem: &str, rows: usize, n: usize, caps: &GpuCaps) -> RowPlan {
        let tree = match caps.wanted(stem) {
            Some(v) => v == "tree",
            None if caps.software() => rows < 8 && n > 64,
            None => n > 32,
        };
        if tree {
            let wg = caps.tree_workgroup().min(n.next_power_of_two().max(8) as u32);
            return RowPlan { tree, wg, groups: rows as u64 };
        }
        let wg = if caps.software() && n >= 64 { 8 } else { caps.flat_workgroup().min(64) };
        RowPlan { tree, wg, groups: (rows as u64).div_ceil(u64::from(wg)) }
    }

    pub fn variant(&self) -> &'static str {
        if self.tree { "tree" } else { "serial" }
    }

    /// The header's part: constants, the row frame and the folds of this variant.
    pub fn shader(&self, stem: &'static str) -> Shader {
        let tree = self.tree;
        let fold = |name: &str, ty: &str| {
            let value = if tree { format!("tree_{name}(lane, x)") } else { "x".into() };
            format!("fn all_{name}(lane: u32, x: {ty}) -> {ty} {{\n    return {value};\n}}")
        };
        Shader::new(stem)
            .consts(&[("WG", self.wg)])
            .header(format!("const TREE: bool = {tree};"))
            .header(fold("sum", "f32"))
            .header(fold("sum2", "vec2<f32>"))
            .header(fold("max", "f32"))
            .header(include_str!("../../../../shaders/row_frame.wgsl"))
            .common(if tree { &["index", "reduce"] } else { &["index", "bits"] })
    }
}

/// Variants of a kernel that also has one by quads.
pub(super) const QUAD_VARIANTS: &[&str] = &["tree", "serial", "quads"];

/// An invocation per row (or per four columns), four elements at a time: each load costs a software adapter as much as several
/// additions, whatever its width.
pub(super) struct Quads {
    n: usize,
    wg: u32,
}

impl Quads {
    /// The plan for rows of `n` elements, or `None` where another variant is wanted or better.
    pub fn of(stem: &str, rows: usize, n: usize, caps: &GpuCaps) -> Option<Quads> {
        let wanted = match caps.wanted(stem) {
            Some(v) => v == "quads",
            // Few long rows leave most lanes without one.
            None => caps.software() && n >= 8 && (rows >= 8 || n <= 64),
        };
        let wg = if caps.software() { 8 } else { 64.min(caps.max_invocations) };
        (wanted && n > 0).then_some(Quads { n, wg })
    }

    /// Workgroups for this many invocations.
    pub fn groups(&self, invocations: usize) -> u64 {
        (invocations as u64).div_ceil(u64::from(self.wg))
    }

    /// The header's part.
    pub fn shader(&self, stem: &'static str) -> Shader {
        Shader::new(stem)
            .consts(&[("WG", self.wg)])
            .header(format!("const EXACT: bool = {};", self.n.is_multiple_of(4)))
            .header(include_str!("../../../../shaders/row_quads.wgsl"))
            .common(&["index", "bits"])
    }

    /// `{Name}Elem` and `{name}_quad(start, step, q)`: four neighbours of the line at `start`, by one load where they lie together
    /// in memory. Beyond the end of the line its last element is repeated.
    pub fn reader(&self, name: &str, view: &View) -> String {
        let (last, others) = view.strides.split_last().map_or((1, &[][..]), |(l, o)| (*l, o));
        let aligned = view.offset.is_multiple_of(4) && others.iter().all(|s| s % 4 == 0);
        let vec = last == 1 && aligned && self.n.is_multiple_of(4);
        let body = if vec {
            format!("    return {name}[(start >> 2u) + i32(q)];\n")
        } else {
            let at = |k: u32| match self.n.is_multiple_of(4) {
                true => format!("{name}[start + i32(4u * q + {k}u) * step]"),
                false => format!("{name}[start + i32(min(4u * q + {k}u, params.n - 1u)) * step]"),
            };
            format!("    return vec4<f32>({}, {}, {}, {});\n", at(0), at(1), at(2), at(3))
        };
        let alias = alias(name, vec);
        format!("{alias}fn {name}_quad(start: i32, step: i32, q: u32) -> vec4<f32> {{\n{body}}}\n")
    }

    /// `{Name}Elem` and `{name}_put(row, q, v)`: writes the elements that a dense row of `n` has.
    pub fn writer(&self, name: &str) -> String {
        let vec = self.n.is_multiple_of(4);
        let body = if vec {
            format!("    {name}[row * (params.n / 4u) + q] = v;\n")
        } else {
            let put = |k: u32| {
                format!(
                    "    if (4u * q + {k}u < params.n) {{\n        {name}[row * params.n + 4u * q + {k}u] = v[{k}];\n    }}\n"
                )
            };
            (0..4).map(put).collect()
        };
        let alias = alias(name, vec);
        format!("{alias}fn {name}_put(row: u32, q: u32, v: vec4<f32>) {{\n{body}}}\n")
    }
}

/// The element type of the binding of operand `name`: `XElem` for `x`.
fn alias(name: &str, vec: bool) -> String {
    let (first, rest) = name.split_at(1);
    format!("alias {}{rest}Elem = {};\n", first.to_uppercase(), if vec { "vec4<f32>" } else { "f32" })
}

/// Offset and strides of an argument as a `vec4<i32>`; missing dimensions are 0.
pub(super) fn view4(region: &Region, arg: usize) -> [i32; 4] {
    let v = &region.args[arg].view;
    let mut out = [v.offset as i32, 0, 0, 0];
    for (o, &s) in out[1..].iter_mut().zip(&v.strides) {
        *o = s as i32;
    }
    out
}

/// Offset and step of a one-dimensional argument.
pub(super) fn line(region: &Region, arg: usize) -> [i32; 2] {
    let v = view4(region, arg);
    [v[0], v[1]]
}

/// Errors unless every argument lies in memory and no result overwrites one (these kernels read what they write more than once).
pub(super) fn in_memory(region: &Region) -> Result<(), String> {
    if region.args.iter().any(|a| matches!(a.source, Source::Iota)) {
        return Err("takes operands in memory, not positions".into());
    }
    if region.in_place.iter().any(Option::is_some) {
        return Err("does not work in place".into());
    }
    Ok(())
}

/// For composites whose kernel takes every argument type that the composite takes.
pub(super) fn always(_: &Call, _: &[Type], _: &GpuCaps) -> Result<(), String> {
    Ok(())
}

/// A call without overrides.
pub(super) struct Parts {
    pub label: &'static str,
    pub variant: &'static str,
    pub shader: Shader,
    pub bindings: Vec<super::Bind>,
    pub params: Params,
    pub groups: u64,
    pub flops: usize,
    pub words: usize,
}

impl Parts {
    /// The call.
    pub fn call(self, caps: &GpuCaps) -> Result<KernelCall, String> {
        Ok(KernelCall {
            label: self.label,
            variant: self.variant,
            source: self.shader.build(),
            overrides: Vec::new(),
            bindings: self.bindings,
            params: self.params,
            grid: Grid::linear(self.groups, caps.max_workgroups)?,
            flops: self.flops as u64,
            bytes: 4 * self.words as u64,
        })
    }
}
