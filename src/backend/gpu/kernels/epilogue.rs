//! The pointwise tail of a product or convolution: further operands, read through strides at the element's coordinates, and the
//! expression that makes the result of the product and them. The expressions come from the pointwise code generator.

use super::gemm::Strided;
use super::{Bind, storage_type};
use crate::dtype::DType;
use crate::ir::Prim;
use crate::plan::{Region, Source};
use std::fmt::Write;

/// Most further operands (the array `extra` of Params has this size).
pub(super) const MAX_EXTRA: usize = 4;

/// The epilogue of one region.
pub(super) struct Epilogue {
    leaves: Vec<Leaf>,
    body: String,
    out_type: &'static str,
    in_place: Option<usize>,
}

struct Leaf {
    arg: usize,
    dtype: DType,
    iota: bool,
    same: bool,
}

impl Epilogue {
    /// Reads the region's tail. `main` is the name of the node's value (the product).
    pub fn of(region: &Region) -> Result<Epilogue, String> {
        let main = region.body.nodes.iter().position(|n| matches!(n.prim, Prim::Dot | Prim::Conv(_)));
        let main = main.ok_or("the region has no product")?;
        let last = region.body.outputs.first().ok_or("the region has no result")?;
        let in_place = region.in_place.first().copied().flatten();
        if in_place.is_some_and(|a| a < 2) {
            return Err("a product cannot overwrite its operand".into());
        }
        if region.args.len() > 2 + MAX_EXTRA {
            return Err(format!("a product takes at most {MAX_EXTRA} further operands, got {}", region.args.len() - 2));
        }
        if last.value.node.0 as usize != main {
            return Err("no epilogue yet".into());
        }
        Ok(Epilogue { leaves: Vec::new(), body: "    return v;\n".into(), out_type: "f32", in_place })
    }

    /// Strides of the operands over the five coordinates, by `coords` from their views.
    pub fn extra(&self, region: &Region, coords: impl Fn(usize) -> Strided) -> [Strided; MAX_EXTRA] {
        let mut extra = [Strided::default(); MAX_EXTRA];
        for (e, leaf) in extra.iter_mut().zip(&self.leaves) {
            debug_assert!(leaf.arg < region.args.len());
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
        &[]
    }

    /// Bindings from number `first` on: the operands, `out` and `params`; and the functions that the result side calls.
    pub fn bindings(&self, first: usize) -> (String, Vec<Bind>) {
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
        let _ = writeln!(
            text,
            "@group(0) @binding({}) var<storage, read_write> out: array<{}>;",
            first + binds.len(),
            self.out_type
        );
        binds.push(self.in_place.map_or(Bind::Out(0), |a| Bind::InPlace(a, 0)));
        let _ = writeln!(text, "@group(0) @binding({}) var<uniform> params: Params;", first + binds.len());
        let _ = writeln!(text, "fn epilogue(v: f32, c: Coord, i: u32) -> {} {{\n{}}}", self.out_type, self.body);
        (text, binds)
    }
}

/// True if this argument is a slot (not an `Iota`).
pub(super) fn is_slot(region: &Region, arg: usize) -> bool {
    matches!(region.args[arg].source, Source::Slot(_))
}
