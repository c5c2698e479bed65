//! What the kernels that fold rows share: views of rows, and the variants `quads` and `wide` (an invocation per row or strip of columns, by several
//! elements a load), which software adapters take for rows and GPUs for columns. [`super::row_team`] has rows for GPUs.

use super::{Grid, KernelCall, Params, Shader};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{Call, Type};
use crate::plan::{Region, Source};
use crate::shape::View;

/// Variants of a kernel that also has one by quads.
pub(super) const QUAD_VARIANTS: &[&str] = &["tree", "subgroup", "serial", "quads", "wide"];

/// An invocation per row (or per strip of columns), eight elements at a time: as two quads, or in the variant `wide` as four words of 64
/// bits. Each load costs a software adapter as much as several additions, whatever its width.
pub(super) struct Quads {
    n: usize,
    wg: u32,
    wide: bool,
}

impl Quads {
    /// The plan for rows of `n` elements, or `None` where another variant is wanted or better.
    pub fn of(stem: &str, region: &Region, rows: usize, n: usize, caps: &GpuCaps) -> Option<Quads> {
        let wanted = match caps.wanted(stem) {
            Some(v) => v == "quads" || v == "wide",
            // Few long rows leave most lanes without one.
            None => caps.software() && n >= 8 && (rows >= 8 || n <= 64),
        };
        let wg = if caps.software() { 8 } else { 64.min(caps.max_invocations) };
        let wide = caps.wide(stem) && n.is_multiple_of(8) && words(region);
        (wanted && n > 0).then_some(Quads { n, wg, wide })
    }

    /// For rows of `n` elements on a software adapter, by eights where asked for and possible.
    pub fn rows(n: usize, wide: bool) -> Quads {
        Quads { n, wg: 8, wide: wide && n.is_multiple_of(8) }
    }

    /// For strips of columns of rows of `n` elements on GPUs.
    pub fn strips(n: usize, caps: &GpuCaps) -> Option<Quads> {
        (!caps.software() && n >= 8).then(|| Quads { n, wg: 64.min(caps.max_invocations), wide: false })
    }

    /// The variant's name.
    pub fn variant(&self) -> &'static str {
        if self.wide { "wide" } else { "quads" }
    }

    /// Workgroups for this many invocations.
    pub fn groups(&self, invocations: usize) -> u64 {
        (invocations as u64).div_ceil(u64::from(self.wg))
    }

    /// The header's part.
    pub fn shader(&self, stem: &'static str) -> Shader {
        Shader::new(stem)
            .consts(&[("WG", self.wg)])
            .header(format!("const EXACT: bool = {};\nconst WIDE: bool = {};", self.n.is_multiple_of(8), self.wide))
            .header(include_str!("../../../../shaders/row_quads.wgsl"))
            .common(if self.wide { &["index", "bits", "pair", "wide"] } else { &["index", "bits", "pair"] })
    }

    /// `{Name}Elem` and `{name}_pair(start, step, q)`: eight neighbours of the line at `start` from its quad `q` on, which is even, by
    /// loads of several elements where they lie together in memory. Beyond the end of the line its last element or quad is repeated.
    pub fn reader(&self, name: &str, view: &View) -> String {
        let whole = |k: usize| walks(view, self.n, k);
        let vec4 = |at: &[String]| format!("vec4<f32>({})", at.join(", "));
        let head = format!("fn {name}_pair(start: i32, step: i32, q: u32) -> Pair {{\n");
        if self.wide && whole(8) {
            let halves = "bitcast<vec4<f32>>(evens(v)), bitcast<vec4<f32>>(odds(v))";
            let load = format!("    let v = {name}[(start >> 3u) + i32(q >> 1u)];\n    return Pair({halves});\n}}\n");
            return format!("{}{head}{load}", alias(name, "vec4<u64>"));
        }
        if self.wide {
            let half = |odd: u32| -> Vec<String> {
                (0..4).map(|k| format!("{name}[start + i32(4u * q + {}u) * step]", 2 * k + odd)).collect()
            };
            return format!(
                "{}{head}    return Pair({}, {});\n}}\n",
                alias(name, "f32"),
                vec4(&half(0)),
                vec4(&half(1))
            );
        }
        let quad = if whole(4) {
            format!("{name}[(start >> 2u) + i32(q)]")
        } else {
            quad_of_strided(name, self.n.is_multiple_of(4))
        };
        let next = if self.n.is_multiple_of(8) { "q + 1u" } else { "min(q + 1u, (params.n - 1u) / 4u)" };
        let pair = format!("    return Pair({name}_quad(start, step, q), {name}_quad(start, step, {next}));\n}}\n");
        let alias = alias(name, if whole(4) { "vec4<f32>" } else { "f32" });
        format!(
            "{alias}fn {name}_quad(start: i32, step: i32, q: u32) -> vec4<f32> {{\n    return {quad};\n}}\n{head}{pair}"
        )
    }

    /// Reader and writer of a dense matrix that is read and written.
    pub fn changer(&self, name: &str, view: &View) -> String {
        let writer = self.writer(name);
        // Both declare the same element type.
        self.reader(name, view) + writer.split_once('\n').map_or("", |(_, functions)| functions)
    }

    /// `{Name}Elem` and `{name}_put(row, q, v)`: writes those of eight elements from quad `q` on, which is even, that a dense row of `n` has.
    pub fn writer(&self, name: &str) -> String {
        let head = format!("fn {name}_put(row: u32, q: u32, v: Pair) {{\n");
        if self.wide {
            let words = "woven(bitcast<vec4<u32>>(v.a), bitcast<vec4<u32>>(v.b))";
            let store = format!("    {name}[row * (params.n / 8u) + (q >> 1u)] = {words};\n}}\n");
            return format!("{}{head}{store}", alias(name, "vec4<u64>"));
        }
        let vec = self.n.is_multiple_of(4);
        let body = if vec {
            let at = format!("{name}[row * (params.n / 4u) + q");
            let second = format!("{at} + 1u] = v.b;\n");
            let second = match self.n.is_multiple_of(8) {
                true => format!("    {second}"),
                false => format!("    if (4u * q + 4u < params.n) {{\n        {second}    }}\n"),
            };
            format!("    {at}] = v.a;\n{second}")
        } else {
            let put = |k: u32| {
                let value = format!("v.{}[{}]", ["a", "b"][k as usize / 4], k % 4);
                format!(
                    "    if (4u * q + {k}u < params.n) {{\n        {name}[row * params.n + 4u * q + {k}u] = {value};\n    }}\n"
                )
            };
            (0..8).map(put).collect()
        };
        format!("{}{head}{body}}}\n", alias(name, if vec { "vec4<f32>" } else { "f32" }))
    }
}

/// True if all operands and results of the region have elements of 32 bits.
pub(super) fn words(region: &Region) -> bool {
    let narrow = |d: DType| d == DType::F16;
    !region.args.iter().any(|a| narrow(a.dtype)) && !region.outs.iter().any(|o| narrow(o.ty.dtype))
}

/// True if `k` neighbours of every row of `n` elements are one aligned piece of memory.
pub(super) fn walks(view: &View, n: usize, k: usize) -> bool {
    let (last, others) = view.strides.split_last().map_or((1, &[][..]), |(l, o)| (*l, o));
    last == 1 && view.offset.is_multiple_of(k) && others.iter().all(|s| s % k as isize == 0) && n.is_multiple_of(k)
}

/// The quad `q` of the line at `start`, element by element; unless `exact`, its last element is repeated beyond its end.
pub(super) fn quad_of_strided(name: &str, exact: bool) -> String {
    let at = |k: u32| match exact {
        true => format!("{name}[start + i32(4u * q + {k}u) * step]"),
        false => format!("{name}[start + i32(min(4u * q + {k}u, params.n - 1u)) * step]"),
    };
    format!("vec4<f32>({}, {}, {}, {})", at(0), at(1), at(2), at(3))
}

/// The element type of the binding of operand `name`: `XElem` for `x`.
pub(super) fn alias(name: &str, ty: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("alias {}{rest}Elem = {ty};\n", first.to_uppercase())
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
