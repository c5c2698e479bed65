//! The pointwise tail of a product or convolution: further operands, read through strides at the element's coordinates, and the
//! expression that makes the result of the product and them. The expressions come from the pointwise code generator.

use super::gemm::Strided;
use super::{Bind, expr, storage_type};
use crate::dtype::DType;
use crate::ir::{NodeId, Prim, Value};
use crate::plan::{Region, Source};
use std::collections::HashMap;
use std::fmt::Write;

/// Most further operands (the array `extra` of Params has this size).
pub(super) const MAX_EXTRA: usize = 4;

/// The epilogue of one region.
pub(super) struct Epilogue {
    leaves: Vec<Leaf>,
    /// Lines that compute the result from `v` (the product) and `x0`, `x1`, .. (the leaves).
    lines: String,
    result: String,
    out: DType,
    in_place: Option<usize>,
}

/// A further operand.
struct Leaf {
    arg: usize,
    dtype: DType,
    /// The integer positions themselves, which have no memory.
    iota: bool,
}

impl Epilogue {
    /// Reads the region's tail.
    pub fn of(region: &Region) -> Result<Epilogue, String> {
        let body = &region.body;
        let main = body.nodes.iter().position(|n| matches!(n.prim, Prim::Dot | Prim::Conv(_)));
        let main = Value { node: NodeId(main.ok_or("the region has no product")? as u32), out: 0 };
        let last = body.outputs.first().ok_or("the region has no result")?.value;
        let in_place = region.in_place.first().copied().flatten();
        if in_place.is_some_and(|a| a < 2) {
            return Err("a product cannot overwrite its operand".into());
        }
        let uses = body.use_counts();
        let mut bound = HashMap::from([(main, "v".to_string())]);
        let mut leaves = Vec::new();
        for (arg, operand) in region.args.iter().enumerate().skip(2) {
            let input = body.inputs[arg].value;
            if uses[input.node.0 as usize] > 0 {
                bound.insert(input, format!("x{}", leaves.len()));
                leaves.push(Leaf { arg, dtype: operand.dtype, iota: !is_slot(region, arg) });
            }
        }
        if leaves.len() > MAX_EXTRA {
            return Err(format!("a product takes at most {MAX_EXTRA} further operands, got {}", leaves.len()));
        }
        let lines = expr::lines(body, &mut bound, &[last])?;
        let result = bound.get(&last).cloned().ok_or("the result does not depend on the product")?;
        Ok(Epilogue { leaves, lines, result, out: body.ty(last).dtype, in_place })
    }

    /// Strides of the operands over the five coordinates, by `coords` from their views.
    pub fn extra(&self, coords: impl Fn(usize) -> Strided) -> [Strided; MAX_EXTRA] {
        let mut extra = [Strided::default(); MAX_EXTRA];
        for (e, leaf) in extra.iter_mut().zip(&self.leaves) {
            *e = coords(leaf.arg);
        }
        extra
    }

    /// Arguments that the epilogue reads.
    pub fn args(&self) -> Vec<usize> {
        self.leaves.iter().map(|l| l.arg).collect()
    }

    /// Common pieces that the expressions need.
    pub fn pieces(&self) -> &'static [&'static str] {
        if self.lines.is_empty() { &[] } else { &["math"] }
    }

    /// True if the result overwrites an operand.
    pub fn in_place(&self) -> bool {
        self.in_place.is_some()
    }

    /// Bindings from number `first` on: the operands, `out` (of vec4 if `quads`) and `params`; and the functions that the result
    /// side calls.
    pub fn bindings(&self, first: usize, quads: bool) -> (String, Vec<Bind>) {
        let mut text = String::new();
        let mut binds = Vec::new();
        for (j, leaf) in self.leaves.iter().enumerate().filter(|(_, l)| !l.iota && self.in_place != Some(l.arg)) {
            let _ = writeln!(
                text,
                "@group(0) @binding({}) var<storage, read> e{j}: array<{}>;",
                first + binds.len(),
                storage_type(leaf.dtype)
            );
            binds.push(Bind::Arg(leaf.arg));
        }
        let out = storage_type(self.out);
        let element = if quads { format!("vec4<{out}>") } else { out.to_string() };
        let at = first + binds.len();
        let _ = writeln!(text, "@group(0) @binding({at}) var<storage, read_write> out: array<{element}>;");
        binds.push(self.in_place.map_or(Bind::Out(0), |a| Bind::InPlace(a, 0)));
        let _ = writeln!(text, "@group(0) @binding({}) var<uniform> params: Params;", first + binds.len());
        let _ = writeln!(text, "fn epilogue(v: f32, c: Coord, i: u32) -> {out} {{");
        for (j, leaf) in self.leaves.iter().enumerate() {
            let at = format!("element(params.extra[{j}], c)");
            let word = match leaf {
                Leaf { iota: true, .. } => format!("i32({at})"),
                // The element that this invocation is about to overwrite.
                Leaf { arg, dtype, .. } if self.in_place == Some(*arg) && *dtype == self.out => "out[i]".into(),
                Leaf { arg, .. } if self.in_place == Some(*arg) => {
                    format!("bitcast<{}>(out[i])", storage_type(leaf.dtype))
                }
                _ => format!("e{j}[{at}]"),
            };
            let _ = writeln!(text, "    let x{j} = {};", expr::load(leaf.dtype, &word));
        }
        let _ = writeln!(text, "{}    return {};\n}}", self.lines, expr::store(self.out, &self.result));
        (text, binds)
    }

    /// The functions `put` (one element of a row; not if `quads`) and `put4` (four neighbours, as far as there are columns). They
    /// come after `row_of` and `slot` of the result's text.
    pub fn puts(&self, quads: bool) -> String {
        let one =
            "fn put(row: Row, n: u32, v: f32) {\n    let s = slot(row, n);\n    out[s.i] = epilogue(v, s.c, s.i);\n}\n";
        if !quads {
            return format!("{one}{PUT4}");
        }
        let part = |i: usize, at: &str| format!("epilogue(v.{at}, slot(row, n + {i}u).c, s.i + {i}u)");
        format!(
            "fn put4(row: Row, n: u32, v: vec4<f32>) {{\n    if (n < params.gemm.n) {{\n        let s = slot(row, n);\n        \
             out[s.i / 4u] = vec4<{}>({}, {}, {}, {});\n    }}\n}}\n",
            storage_type(self.out),
            part(0, "x"),
            part(1, "y"),
            part(2, "z"),
            part(3, "w"),
        )
    }
}

/// `put4` by means of `put`.
pub(super) const PUT4: &str = "fn put4(row: Row, n: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if (n + i < params.gemm.n) {
            put(row, n + i, v[i]);
        }
    }
}
";

/// True if this argument is a slot (not an `Iota`).
pub(super) fn is_slot(region: &Region, arg: usize) -> bool {
    matches!(region.args[arg].source, Source::Slot(_))
}
