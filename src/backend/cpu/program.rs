//! Pointwise bodies as register programs. A register is a block of [`BLOCK`] elements in L1; every instruction is one
//! vectorised loop over a block (`lanes`). Constants and what depends on uniform operands alone are computed once per
//! task. This file compiles; `runner.rs` executes.

use super::lanes::Convert;
use super::source::Arg;
use crate::dtype::DType;
use crate::ir::{Binary, Graph, NodeId, Prim, Unary, Value};
use std::collections::HashMap;

/// Elements per register: 2 KiB, so that a dozen registers and the streams' lines share an L1 of 32 KiB.
pub(super) const BLOCK: usize = 512;

/// An instruction's operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Op {
    Unary(Unary),
    UnaryInt(Unary),
    Not,
    IsFinite,
    Binary(Binary),
    Compare(Binary),
    BinaryInt(Binary),
    BinaryUnsigned(Binary),
    MulAdd,
    Select,
    /// A select whose condition is the same in all elements.
    Choose,
    Convert(Convert),
    /// The words of a random stream; `arg` is the operand with the counter.
    Random {
        arg: usize,
        stream: u32,
    },
}

impl Op {
    /// Rough nanoseconds per element on one thread with AVX2.
    fn cost(self) -> f64 {
        match self {
            Op::Unary(Unary::Exp | Unary::Tanh | Unary::Log) => 0.5,
            Op::Unary(Unary::Erf) => 0.8,
            Op::Unary(Unary::Sin | Unary::Cos | Unary::Expm1 | Unary::Log1p) => 1.5,
            Op::Binary(Binary::Pow | Binary::Rem) | Op::BinaryInt(Binary::Rem | Binary::Div) => 15.0,
            Op::Random { .. } => 3.0,
            _ => 0.06,
        }
    }
}

/// A place that an instruction reads or writes: a register, then the streams, then the results.
pub(super) type Slot = u16;

/// One loop over a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inst {
    pub op: Op,
    pub dst: Slot,
    pub args: [Slot; 3],
}

/// A register with the same value in all elements, filled once per task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Uniform {
    Bits(Slot, u32),
    Arg(Slot, usize),
    Inst(Inst),
}

/// What a stream's blocks come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stream {
    /// An operand of the region; copied before use if another result than that whose memory it is is written from it.
    Arg { arg: usize, copied: bool },
    /// What the surrounding kernel has computed (the matmul under an epilogue). Always copied: it is overwritten.
    Accumulator,
}

/// A compiled body.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub uniforms: Vec<Uniform>,
    pub insts: Vec<Inst>,
    pub registers: usize,
    pub streams: Vec<Stream>,
    /// Where each result is after a block: its own slot if `direct`, else wherever its value lies.
    pub results: Vec<Slot>,
    /// Results are written to the caller's memory.
    pub direct: bool,
    /// Rough nanoseconds per element.
    pub cost: f64,
}

/// Where a value comes from, while compiling.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Bits(u32),
    UniformArg(usize),
    Stream(usize),
    Inst(usize),
}

struct Draft {
    op: Op,
    args: Vec<From>,
    uniform: bool,
}

/// What to compile.
pub(super) struct Request<'a> {
    pub body: &'a Graph,
    pub args: &'a [Arg],
    /// For each argument, the result whose memory it shares.
    pub overwritten: Vec<Option<usize>>,
    /// The node whose value the surrounding kernel provides.
    pub root: Option<NodeId>,
    /// The values wanted.
    pub results: Vec<Value>,
    /// Whether they are written to the caller's memory.
    pub direct: bool,
}

impl Program {
    /// The program, or `None` if the body has nodes that are not pointwise.
    pub(super) fn compile(request: &Request) -> Option<Program> {
        Compiler { request, map: HashMap::new(), drafts: Vec::new(), streams: Vec::new() }.compile()
    }
}

struct Compiler<'a> {
    request: &'a Request<'a>,
    map: HashMap<Value, From>,
    drafts: Vec<Draft>,
    streams: Vec<Stream>,
}

impl Compiler<'_> {
    fn compile(mut self) -> Option<Program> {
        let body = self.request.body;
        let needed = self.needed();
        for (id, node) in body.iter() {
            if !needed[id.0 as usize] {
                continue;
            }
            let from = if self.request.root == Some(id) {
                self.stream(Stream::Accumulator)
            } else {
                self.node(id, &node.prim, &node.args)?
            };
            self.map.insert(Value { node: id, out: 0 }, from);
        }
        let wanted: Vec<From> = self.request.results.iter().map(|v| self.map.get(v).copied()).collect::<Option<_>>()?;
        self.fuse_mul_add(&wanted);
        Some(self.allocate(&wanted))
    }

    /// The nodes that the wanted values depend on, not looking behind the root.
    fn needed(&self) -> Vec<bool> {
        let body = self.request.body;
        let mut needed = vec![false; body.nodes.len()];
        for v in &self.request.results {
            needed[v.node.0 as usize] = true;
        }
        for (id, node) in body.iter().rev() {
            // The counter of a random stream is read apart.
            let leaf = self.request.root == Some(id) || matches!(node.prim, Prim::Random { .. });
            if needed[id.0 as usize] && !leaf {
                node.args.iter().for_each(|v| needed[v.node.0 as usize] = true);
            }
        }
        needed
    }

    fn stream(&mut self, stream: Stream) -> From {
        let i = self.streams.iter().position(|s| *s == stream).unwrap_or_else(|| {
            self.streams.push(stream);
            self.streams.len() - 1
        });
        From::Stream(i)
    }

    fn node(&mut self, id: NodeId, prim: &Prim, args: &[Value]) -> Option<From> {
        let body = self.request.body;
        let dtype = |i: usize| body.ty(args[i]).dtype;
        let from = |i: usize| self.map.get(&args[i]).copied();
        let op = match prim {
            Prim::Input { index } => {
                let arg = self.request.args.get(*index)?;
                return Some(if arg.is_uniform() {
                    From::UniformArg(*index)
                } else {
                    self.stream(Stream::Arg { arg: *index, copied: self.request.overwritten[*index].is_some() })
                });
            }
            Prim::Const(s) => return Some(From::Bits(s.bits())),
            Prim::Broadcast(_) | Prim::Reshape(_) => {
                return from(0).filter(|f| matches!(f, From::Bits(_)));
            }
            Prim::StopGrad => return from(0),
            Prim::Unary(u) => match (u, dtype(0)) {
                (Unary::Not, _) => Op::Not,
                (Unary::IsFinite, _) => Op::IsFinite,
                (_, DType::F32) => Op::Unary(*u),
                _ => Op::UnaryInt(*u),
            },
            Prim::Binary(b) => match (b, dtype(0)) {
                (Binary::Lt | Binary::Le | Binary::Eq, DType::F32) => Op::Compare(*b),
                (_, DType::F32) => Op::Binary(*b),
                (_, DType::I32) => Op::BinaryInt(*b),
                // There is no arithmetic on f16.
                (_, DType::U32 | DType::Bool | DType::F16) => Op::BinaryUnsigned(*b),
            },
            Prim::Select => match from(0)? {
                From::Bits(_) | From::UniformArg(_) => Op::Choose,
                From::Inst(j) if self.drafts[j].uniform => Op::Choose,
                From::Stream(_) | From::Inst(_) => Op::Select,
            },
            Prim::Cast(to) => match convert(dtype(0), *to) {
                Convert::Copy => return from(0),
                c => Op::Convert(c),
            },
            Prim::Random { stream, .. } => {
                let Prim::Input { index } = body.node(args[0].node).prim else { return None };
                let arg = self.request.args.get(index)?;
                if arg.elems() != 4 || body.shape(Value { node: id, out: 0 }).elems() > u32::MAX as usize {
                    return None;
                }
                Op::Random { arg: index, stream: *stream }
            }
            _ => return None,
        };
        let sources: Vec<From> = match op {
            Op::Random { .. } => Vec::new(),
            _ => (0..args.len()).map(from).collect::<Option<_>>()?,
        };
        let uniform = !matches!(op, Op::Random { .. })
            && sources.iter().all(|f| match f {
                From::Bits(_) | From::UniformArg(_) => true,
                From::Stream(_) => false,
                From::Inst(j) => self.drafts[*j].uniform,
            });
        self.drafts.push(Draft { op, args: sources, uniform });
        Some(From::Inst(self.drafts.len() - 1))
    }

    fn uses(&self, wanted: &[From]) -> Vec<usize> {
        let mut uses = vec![0; self.drafts.len()];
        for f in self.drafts.iter().flat_map(|d| &d.args).chain(wanted) {
            if let From::Inst(j) = f {
                uses[*j] += 1;
            }
        }
        uses
    }

    /// An addition whose operand is a product used nowhere else becomes one instruction.
    fn fuse_mul_add(&mut self, wanted: &[From]) {
        let uses = self.uses(wanted);
        for i in 0..self.drafts.len() {
            if self.drafts[i].op != Op::Binary(Binary::Add) || self.drafts[i].uniform {
                continue;
            }
            for side in 0..2 {
                let From::Inst(j) = self.drafts[i].args[side] else { continue };
                let product = &self.drafts[j];
                if product.op == Op::Binary(Binary::Mul) && uses[j] == 1 && !product.uniform {
                    let args = vec![product.args[0], product.args[1], self.drafts[i].args[1 - side]];
                    self.drafts[i].op = Op::MulAdd;
                    self.drafts[i].args = args;
                    break;
                }
            }
        }
    }

    /// Slots: registers of uniform values first, then those of the block's intermediate values, reused after the last
    /// use but never by the instruction that reads them: its result and operands are distinct memory. Results that take the
    /// place of an operand are written last, so that the operand need not be copied first.
    fn allocate(mut self, wanted: &[From]) -> Program {
        let uses = self.uses(wanted);
        let direct = self.request.direct;
        let deferred: Vec<usize> = self.request.overwritten.iter().flatten().copied().filter(|_| direct).collect();
        let choice = |i: usize| self.drafts[i].op == Op::Choose && !self.drafts[i].uniform && uses[i] == 1;
        // Choices made when such a result is written.
        let mut last: HashMap<usize, usize> = HashMap::new();
        // What other choices take first is computed where they are wanted, if nobody else takes it.
        let mut early: HashMap<usize, usize> = HashMap::new();
        for (k, f) in wanted.iter().enumerate() {
            match *f {
                From::Inst(i) if direct && choice(i) && deferred.contains(&k) => {
                    last.insert(i, k);
                }
                From::Inst(i) if direct && choice(i) => match self.drafts[i].args[1] {
                    From::Inst(j) if uses[j] == 1 && !self.drafts[j].uniform => {
                        early.insert(j, k);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        let reads = |k: usize, s: usize| match wanted[k] {
            From::Stream(t) => t == s,
            From::Inst(i) => last.get(&i) == Some(&k) && self.drafts[i].args.contains(&From::Stream(s)),
            From::Bits(_) | From::UniformArg(_) => false,
        };
        let mut streams = self.streams.clone();
        for (s, stream) in streams.iter_mut().enumerate().filter(|_| direct) {
            if let Stream::Arg { arg, copied } = stream {
                let own = self.request.overwritten[*arg];
                *copied = own.is_some() && (0..wanted.len()).any(|k| own != Some(k) && reads(k, s));
            }
        }
        self.streams = streams;
        let mut uniforms = Vec::new();
        let mut fixed: Vec<(From, Slot)> = Vec::new();
        let mut next: Slot = 0;
        let live = |j: usize| uses[j] > 0;
        let operands = self.drafts.iter().enumerate().filter(|(j, _)| live(*j)).flat_map(|(_, d)| &d.args);
        for f in operands.chain(wanted) {
            if matches!(f, From::Bits(_) | From::UniformArg(_)) && !fixed.iter().any(|(g, _)| g == f) {
                fixed.push((*f, next));
                uniforms.push(match f {
                    From::Bits(bits) => Uniform::Bits(next, *bits),
                    From::UniformArg(arg) => Uniform::Arg(next, *arg),
                    From::Stream(_) | From::Inst(_) => continue,
                });
                next += 1;
            }
        }
        for (j, _) in self.drafts.iter().enumerate().filter(|(j, d)| d.uniform && live(*j)) {
            fixed.push((From::Inst(j), next));
            next += 1;
        }
        // Streams and results get numbers after all registers; how many of these there are is known at the end only,
        // so they are numbered from the top meanwhile.
        const STREAM: Slot = 0x4000;
        const RESULT: Slot = 0x8000;
        let mut place: HashMap<usize, Slot> = HashMap::new();
        let slot_of = |f: &From, place: &HashMap<usize, Slot>| -> Slot {
            match f {
                From::Stream(i) => STREAM + *i as Slot,
                From::Inst(j) if place.contains_key(j) => place[j],
                other => fixed.iter().find(|(g, _)| g == other).map_or(0, |(_, s)| *s),
            }
        };
        let mut left = uses.clone();
        let mut free: Vec<Slot> = Vec::new();
        let mut insts = Vec::new();
        let mut cost = 0.0;
        for (j, draft) in self.drafts.iter().enumerate().filter(|(j, _)| live(*j) && !last.contains_key(j)) {
            let mut args = [0; 3];
            for (a, f) in args.iter_mut().zip(&draft.args) {
                *a = slot_of(f, &place);
            }
            let result = wanted.iter().position(|f| *f == From::Inst(j)).or_else(|| early.get(&j).copied());
            let result = result.filter(|k| !deferred.contains(k));
            let dst = if draft.uniform {
                fixed.iter().find(|(g, _)| *g == From::Inst(j)).map_or(0, |(_, s)| *s)
            } else if let (Some(k), true) = (result, direct) {
                RESULT + k as Slot
            } else {
                free.pop().unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            };
            let inst = Inst { op: draft.op, dst, args };
            if draft.uniform {
                uniforms.push(Uniform::Inst(inst));
                continue;
            }
            place.insert(j, dst);
            insts.push(inst);
            cost += draft.op.cost();
            for f in &draft.args {
                let From::Inst(i) = f else { continue };
                left[*i] -= 1;
                if left[*i] == 0 && !self.drafts[*i].uniform && place[i] < STREAM {
                    free.push(place[i]);
                }
            }
        }
        let mut results = Vec::new();
        for (k, f) in wanted.iter().enumerate() {
            if !direct {
                results.push(slot_of(f, &place));
                continue;
            }
            let dst = RESULT + k as Slot;
            match f {
                From::Inst(i) if last.get(i) == Some(&k) => {
                    let mut args = [0; 3];
                    args.iter_mut().zip(&self.drafts[*i].args).for_each(|(a, f)| *a = slot_of(f, &place));
                    insts.push(Inst { op: Op::Choose, dst, args });
                }
                _ if slot_of(f, &place) == dst => {}
                _ => {
                    let args = [slot_of(f, &place), 0, 0];
                    insts.push(Inst { op: Op::Convert(Convert::Copy), dst, args });
                }
            }
            results.push(dst);
        }
        let (registers, streams) = (next, self.streams.len() as Slot);
        let renumber = |s: &mut Slot| {
            if *s >= RESULT {
                *s = *s - RESULT + registers + streams;
            } else if *s >= STREAM {
                *s = *s - STREAM + registers;
            }
        };
        for inst in &mut insts {
            renumber(&mut inst.dst);
            inst.args.iter_mut().for_each(renumber);
        }
        results.iter_mut().for_each(renumber);
        cost += 0.25 * (self.streams.len() + wanted.len()) as f64;
        Program { uniforms, insts, registers: registers as usize, streams: self.streams, results, direct, cost }
    }
}

fn convert(from: DType, to: DType) -> Convert {
    match (from, to) {
        (DType::F32, DType::I32) => Convert::FloatToInt,
        (DType::F32, DType::U32) => Convert::FloatToUnsigned,
        (DType::F32, DType::Bool) => Convert::FloatToBool,
        (DType::F32, DType::F16) => Convert::RoundToHalf,
        (DType::I32, DType::F32) => Convert::IntToFloat,
        (DType::U32 | DType::Bool, DType::F32) => Convert::UnsignedToFloat,
        (DType::I32 | DType::U32, DType::Bool) => Convert::IntToBool,
        _ => Convert::Copy,
    }
}
