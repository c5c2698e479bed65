//! Every region kind against the reference in f64, on odd shapes, strided, broadcast and reversed views, in place, with
//! several results and with empty tensors. Bounds come from the operations' error analysis, not from what was seen.

mod faults;
mod fused;
mod loops;
mod moves;

use super::Cpu;
use crate::backend::reference::{self, Array, Precision};
use crate::backend::{Backend, BufferId, Work};
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::{Builder, Graph, InputKind, OutputKind, Tensor, Type};
use crate::plan::{Operand, Region, RegionKind, SlotId, Source, Target};
use crate::rng::Rng;
use crate::shape::{Shape, View};

/// An operand of a test: the content of its buffer and how it is seen.
#[derive(Clone)]
pub(super) struct Given {
    pub words: Vec<u32>,
    pub view: View,
    pub dtype: DType,
}

impl Given {
    /// Dense floats in [-2, 2).
    pub fn floats(rng: &mut Rng, shape: &[usize]) -> Given {
        let shape = Shape::from(shape);
        let words = (0..shape.elems()).map(|_| (rng.range(-2.0, 2.0) as f32).to_bits()).collect();
        Given { words, view: View::contiguous(&shape), dtype: DType::F32 }
    }
    /// Dense integers below `n`.
    pub fn below(rng: &mut Rng, shape: &[usize], n: usize) -> Given {
        let shape = Shape::from(shape);
        let words = (0..shape.elems()).map(|_| rng.below(n) as u32).collect();
        Given { words, view: View::contiguous(&shape), dtype: DType::I32 }
    }
    pub fn of_type(mut self, dtype: DType) -> Given {
        self.dtype = dtype;
        self
    }
    pub fn seen(mut self, f: impl FnOnce(&View) -> View) -> Given {
        self.view = f(&self.view);
        self
    }
    pub fn ty(&self) -> Type {
        Type::new(self.dtype, self.view.shape.clone())
    }
    /// The elements as the region's body sees them.
    fn array(&self) -> Array {
        let n = self.view.shape.elems();
        let at = |mut i: usize| {
            let mut p = self.view.offset as isize;
            for d in (0..self.view.shape.len()).rev() {
                p += (i % self.view.shape[d]) as isize * self.view.strides[d];
                i /= self.view.shape[d];
            }
            self.words[p as usize]
        };
        Array::from_words(&self.ty(), (0..n).map(at).collect())
    }
}

/// The graph that `f` builds on inputs of these types.
pub(super) fn body(given: &[Given], f: impl FnOnce(&Builder, &[Tensor]) -> Vec<Tensor>) -> Graph {
    let b = Builder::new();
    let ins: Vec<Tensor> =
        given.iter().enumerate().map(|(i, g)| b.input(format!("{i}"), InputKind::Feed, g.ty())).collect();
    for (i, t) in f(&b, &ins).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, t);
    }
    b.build().unwrap()
}

/// Runs a region on the CPU path. Results are prefilled with NaN, so that unwritten elements show, and followed by a
/// guard that must survive.
pub(super) fn run(
    kind: RegionKind,
    body: &Graph,
    given: &[Given],
    in_place: &[Option<usize>],
) -> Result<Vec<Vec<u32>>> {
    const GUARD: usize = 64;
    let cpu = Cpu::new();
    let mut slots: Vec<BufferId> = Vec::new();
    for g in given {
        let id = cpu.alloc(g.words.len() * 4)?;
        cpu.write(id, bytemuck::cast_slice(&g.words))?;
        slots.push(id);
    }
    let types: Vec<Type> = body.outputs.iter().map(|o| body.ty(o.value).clone()).collect();
    let mut out_slots = Vec::new();
    for (k, ty) in types.iter().enumerate() {
        match in_place.get(k).copied().flatten() {
            Some(a) => out_slots.push(a),
            None => {
                let words = ty.shape.elems() + GUARD;
                let id = cpu.alloc(words * 4)?;
                cpu.write(id, bytemuck::cast_slice(&vec![0x7fc0_1234u32; words]))?;
                slots.push(id);
                out_slots.push(slots.len() - 1);
            }
        }
    }
    let region = Region {
        kind,
        body: body.clone(),
        args: given
            .iter()
            .enumerate()
            .map(|(i, g)| Operand { source: Source::Slot(SlotId(i as u32)), view: g.view.clone(), dtype: g.dtype })
            .collect(),
        outs: types.iter().zip(&out_slots).map(|(ty, &s)| Target { slot: SlotId(s as u32), ty: ty.clone() }).collect(),
        in_place: (0..types.len()).map(|k| in_place.get(k).copied().flatten()).collect(),
    };
    let work = Work::Run {
        region: &region,
        args: (0..given.len()).map(|i| Some(slots[i])).collect(),
        outs: out_slots.iter().map(|&s| slots[s]).collect(),
    };
    let mut exec = cpu.compile(&[work])?;
    exec.run()?;
    if in_place.iter().all(Option::is_none) {
        let once = read_all(&cpu, &slots, &out_slots, &types, GUARD)?;
        exec.run()?;
        assert_eq!(once, read_all(&cpu, &slots, &out_slots, &types, GUARD)?, "a rerun differs");
    }
    let mut results = read_all(&cpu, &slots, &out_slots, &types, 0)?;
    for (k, ty) in types.iter().enumerate() {
        if in_place.get(k).copied().flatten().is_none() {
            let id = slots[out_slots[k]];
            let bytes = cpu.read(id, (ty.shape.elems() + GUARD) * 4)?.wait()?;
            let guard: &[u32] = bytemuck::cast_slice(&bytes[ty.shape.elems() * 4..]);
            assert!(guard.iter().all(|&w| w == 0x7fc0_1234), "{kind:?} wrote beyond result {k}");
        }
        results[k].truncate(ty.shape.elems());
    }
    Ok(results)
}

fn read_all(cpu: &Cpu, slots: &[BufferId], outs: &[usize], types: &[Type], more: usize) -> Result<Vec<Vec<u32>>> {
    let mut all = Vec::new();
    for (ty, &s) in types.iter().zip(outs) {
        let bytes = cpu.read(slots[s], (ty.shape.elems() + more) * 4)?.wait()?;
        all.push(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
    }
    Ok(all)
}

/// How far a float result may be from the f64 reference: `rel * |want| + abs * scale`, where `scale` is given per element.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    pub rel: f64,
    pub abs: f64,
}

/// Bit-exact.
pub(super) const EXACT: Bound = Bound { rel: 0.0, abs: 0.0 };

/// Compares results of any type; floats by the bound, everything else exactly.
pub(super) fn compare(what: &str, got: &[Vec<u32>], want: &[Array], bound: Bound) {
    assert_eq!(got.len(), want.len());
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.len(), want.shape.elems(), "{what}: size of result {k}");
        if want.ty().dtype != DType::F32 {
            assert_eq!(got, &want.to_words(), "{what}: result {k}");
            continue;
        }
        for (i, (&g, &w)) in got.iter().zip(want.as_floats()).enumerate() {
            let g = f32::from_bits(g);
            let rounded = w as f32;
            if (g.is_nan() && rounded.is_nan()) || g == rounded {
                continue;
            }
            let err = (g as f64 - w).abs();
            assert!(
                err <= bound.rel * w.abs() + bound.abs,
                "{what}: result {k}[{i}] = {g:e}, want {w:e}, error {err:e}"
            );
        }
    }
}

/// Runs a region on the CPU path and compares it with its body in f64.
pub(super) fn check(
    what: &str,
    kind: RegionKind,
    given: &[Given],
    in_place: &[Option<usize>],
    bound: Bound,
    f: impl FnOnce(&Builder, &[Tensor]) -> Vec<Tensor>,
) {
    let graph = body(given, f);
    let inputs: Vec<Array> = given.iter().map(Given::array).collect();
    let want = reference::eval(&graph, &inputs, Precision::F64).unwrap();
    let got = run(kind, &graph, given, in_place).unwrap();
    compare(what, &got, &want, bound);
}
