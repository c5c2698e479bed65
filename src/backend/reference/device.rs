//! The reference as a backend: evaluates the body of each region on gathered copies of its operands, at once and in
//! order. It supports everything, keeps every composite as a call (the body is evaluated either way), and uses f32
//! rounding between nodes.

use super::array::Array;
use super::{Precision, eval};
use crate::backend::{Backend, BackendKind, BufferId, DeviceInfo, Executable, Pending, Work};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Call, Type};
use crate::plan::{Caps, Limits, Operand, Region, Source};
use crate::shape::View;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Default)]
struct Memory {
    next: u64,
    buffers: HashMap<BufferId, Vec<u32>>,
}

impl Memory {
    fn get(&self, id: BufferId) -> Result<&Vec<u32>> {
        self.buffers.get(&id).ok_or_else(|| unknown(id))
    }
    fn get_mut(&mut self, id: BufferId) -> Result<&mut Vec<u32>> {
        self.buffers.get_mut(&id).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: BufferId) -> Error {
    Error::internal("reference", format!("buffer {} does not exist", id.0))
}

fn short(what: &str, need: usize, have: usize) -> Error {
    Error::internal("reference", format!("{what} needs {need} words of a buffer of {have}"))
}

/// The reference backend. See the module's text.
#[derive(Default)]
pub struct Reference {
    memory: Arc<Mutex<Memory>>,
}

impl Reference {
    /// A reference backend with memory of its own.
    pub fn new() -> Reference {
        Reference::default()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

/// A panic while the lock was held leaves at worst a half-written buffer, which the failed run owns.
fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Caps for Reference {
    fn limits(&self) -> Limits {
        Limits { max_operands: usize::MAX, max_slot_bytes: usize::MAX }
    }
    fn kernel(&self, _: &Call, _: &[Type]) -> Result<(), String> {
        Ok(())
    }
    fn supports(&self, _: &Region) -> Result<(), String> {
        Ok(())
    }
    fn reads_strided(&self, _: &Region, _: usize) -> bool {
        true
    }
    fn narrows(&self) -> bool {
        true
    }
}

impl Backend for Reference {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            kind: BackendKind::Reference,
            name: "reference".into(),
            driver: "naive loops, f64 sums".into(),
            software: true,
        }
    }

    fn as_caps(&self) -> &dyn Caps {
        self
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        let mut memory = self.memory();
        let id = BufferId(memory.next);
        memory.next += 1;
        memory.buffers.insert(id, vec![0; bytes.div_ceil(4)]);
        Ok(id)
    }

    fn free(&self, buffer: BufferId) {
        self.memory().buffers.remove(&buffer);
    }

    fn write(&self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let mut memory = self.memory();
        let words = memory.get_mut(buffer)?;
        if bytes.len() > words.len() * 4 {
            return Err(short("a write", bytes.len().div_ceil(4), words.len()));
        }
        bytemuck::cast_slice_mut::<u32, u8>(words)[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, buffer: BufferId, bytes: usize) -> Result<Box<dyn Pending>> {
        let memory = self.memory();
        let words = memory.get(buffer)?;
        if bytes > words.len() * 4 {
            return Err(short("a read", bytes.div_ceil(4), words.len()));
        }
        Ok(Box::new(Done(bytemuck::cast_slice::<u32, u8>(words)[..bytes].to_vec())))
    }

    fn compile(&self, work: &[Work]) -> Result<Box<dyn Executable>> {
        let steps = work
            .iter()
            .map(|w| match w {
                Work::Run { region, args, outs } => {
                    Step::Run { region: Box::new((*region).clone()), args: args.clone(), outs: outs.clone() }
                }
                Work::Copy { from, to, bytes } => Step::Copy { from: *from, to: *to, words: bytes.div_ceil(4) },
            })
            .collect();
        Ok(Box::new(Steps { memory: self.memory.clone(), steps }))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn check_status(&self) -> Result<()> {
        Ok(()) // A fault of the data is returned by the run itself.
    }
}

/// Bytes that are there already.
struct Done(Vec<u8>);

impl Pending for Done {
    fn ready(&mut self) -> bool {
        true
    }
    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        Ok(self.0)
    }
}

enum Step {
    Run { region: Box<Region>, args: Vec<Option<BufferId>>, outs: Vec<BufferId> },
    Copy { from: BufferId, to: BufferId, words: usize },
}

struct Steps {
    memory: Arc<Mutex<Memory>>,
    steps: Vec<Step>,
}

impl Executable for Steps {
    fn run(&mut self) -> Result<()> {
        let mut memory = lock(&self.memory);
        for step in &self.steps {
            match step {
                Step::Run { region, args, outs } => run_region(&mut memory, region, args, outs)?,
                Step::Copy { from, to, words } => {
                    let source = memory.get(*from)?;
                    let copy = source.get(..*words).ok_or_else(|| short("a copy", *words, source.len()))?.to_vec();
                    let target = memory.get_mut(*to)?;
                    let have = target.len();
                    target.get_mut(..*words).ok_or_else(|| short("a copy", *words, have))?.copy_from_slice(&copy);
                }
            }
        }
        Ok(())
    }

    fn dispatches(&self) -> usize {
        self.steps.len()
    }
}

fn run_region(memory: &mut Memory, region: &Region, args: &[Option<BufferId>], outs: &[BufferId]) -> Result<()> {
    let gathered: Vec<Array> = region
        .args
        .iter()
        .zip(args)
        .map(|(operand, buffer)| gather(operand, buffer.map(|id| memory.get(id)).transpose()?.map(|w| &w[..])))
        .collect::<Result<_>>()?;
    let results = eval(&region.body, &gathered, Precision::F32)?;
    for (result, &buffer) in results.iter().zip(outs) {
        let mut words = result.to_words();
        if result.data.dtype() == DType::F16 {
            words = words.chunks(2).map(|w| w[0] | w.get(1).copied().unwrap_or(0) << 16).collect();
        }
        let target = memory.get_mut(buffer)?;
        let have = target.len();
        target.get_mut(..words.len()).ok_or_else(|| short("a result", words.len(), have))?.copy_from_slice(&words);
    }
    Ok(())
}

/// A dense copy of what an operand shows of the words of its slot.
pub fn gather(operand: &Operand, slot: Option<&[u32]>) -> Result<Array> {
    let positions = positions(&operand.view);
    let words = match (operand.source, slot) {
        (Source::Iota, _) => positions.into_iter().map(|p| p as u32).collect(),
        (Source::Slot(_), Some(words)) => {
            let half = operand.dtype == DType::F16;
            let read = |p: isize| {
                let p = usize::try_from(p).ok()?;
                if half { Some(words.get(p / 2)? >> (16 * (p % 2)) & 0xffff) } else { words.get(p).copied() }
            };
            positions
                .into_iter()
                .map(|p| read(p).ok_or_else(|| short(&format!("a view at {p}"), p.unsigned_abs() + 1, words.len())))
                .collect::<Result<_>>()?
        }
        (Source::Slot(slot), None) => {
            return Err(Error::internal("reference", format!("slot {} has no buffer", slot.0)));
        }
    };
    Ok(Array::from_words(&Type { dtype: operand.dtype, shape: operand.view.shape.clone() }, words))
}

/// Writes the elements of an operand of floats into the words of its slot, as f32 or f16; the others stay.
pub fn scatter(operand: &Operand, values: &[f64], slot: &mut [u32]) -> Result<()> {
    for (p, &value) in positions(&operand.view).into_iter().zip(values) {
        let at = usize::try_from(p).map_err(|_| Error::internal("reference", format!("a view begins at {p}")))?;
        let (index, shift, mask, bits) = match operand.dtype {
            DType::F16 => (at / 2, 16 * (at % 2), 0xffff, u32::from(half::f16::from_f64(value).to_bits())),
            _ => (at, 0, u32::MAX, (value as f32).to_bits()),
        };
        let len = slot.len();
        let word = slot.get_mut(index).ok_or_else(|| short(&format!("a view at {p}"), at + 1, len))?;
        *word = *word & !(mask << shift) | bits << shift;
    }
    Ok(())
}

/// The element positions of a view, in row-major order of its indices.
fn positions(view: &View) -> Vec<isize> {
    let mut out = Vec::with_capacity(view.shape.elems());
    super::movement::each_index(&view.shape, |i| {
        out.push(view.offset as isize + i.iter().zip(&view.strides).map(|(&i, &s)| i as isize * s).sum::<isize>());
    });
    out
}
