//! Regions for tests: a body built like any graph, applied to dense or strided views of slots of its own.

use crate::ir::{Builder, Graph, InputKind, OutputKind, Tensor, Type};
use crate::plan::{Operand, Region, RegionKind, SlotId, Source, Target};
use crate::shape::{Shape, View};

/// A region of this kind: `build` makes the results from inputs of these types. Operands are dense.
pub(super) fn region(kind: RegionKind, args: &[Type], build: impl Fn(&Builder, &[Tensor]) -> Vec<Tensor>) -> Region {
    let b = Builder::new();
    let inputs: Vec<Tensor> =
        args.iter().enumerate().map(|(i, ty)| b.input(format!("{i}"), InputKind::Feed, ty.clone())).collect();
    for (i, out) in build(&b, &inputs).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, out);
    }
    // A body that does not build gives an empty region, which no kernel takes: its test fails there.
    let body = b.build().unwrap_or_default();
    let arg = |(i, ty): (usize, &Type)| Operand {
        source: Source::Slot(SlotId(i as u32)),
        view: View::contiguous(&ty.shape),
        dtype: ty.dtype,
    };
    let args: Vec<Operand> = args.iter().enumerate().map(arg).collect();
    let outs: Vec<Target> = outs(&body, args.len());
    let in_place = vec![None; outs.len()];
    Region { kind, body, args, outs, in_place }
}

fn outs(body: &Graph, first: usize) -> Vec<Target> {
    let out = |(i, o): (usize, &crate::ir::OutputSpec)| Target {
        slot: SlotId((first + i) as u32),
        ty: body.ty(o.value).clone(),
    };
    body.outputs.iter().enumerate().map(out).collect()
}

/// The region with operand `arg` stored in another order: dimension `order[0]` varies slowest in memory. The elements begin
/// `offset` after the start of the slot and the last dimension in memory is followed by `gap` unused elements.
pub(super) fn stored(mut region: Region, arg: usize, order: &[usize], offset: usize, gap: usize) -> Region {
    let shape = region.args[arg].view.shape.clone();
    let mut sizes: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    if let Some(last) = sizes.last_mut() {
        *last += gap;
    }
    let memory = Shape(sizes).strides();
    let mut strides = vec![0; shape.len()];
    for (&d, &s) in order.iter().zip(&memory) {
        strides[d] = s;
    }
    region.args[arg].view = View { shape, strides, offset };
    region
}

/// The region with operand `arg` repeated along `axes` (stored once there).
pub(super) fn repeated(mut region: Region, arg: usize, axes: &[usize]) -> Region {
    let full = region.args[arg].view.shape.clone();
    let small = full.keep_reduced(axes);
    region.args[arg].view = View::contiguous(&small).broadcast(&full);
    region
}
