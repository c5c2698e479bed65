//! The fast CPU path: fused loops over L1-sized blocks, the `gemm` crate, threads of its own, and instruction sets chosen
//! at run time. A product of its own for machines without a GPU, and what takes the steps that a GPU does not support.
//!
//! `compile` turns each region into a job, a closure with its memory resolved; `run` calls them in order, each parallel
//! inside. Results do not depend on the number of threads. What has no fast job runs through the reference.

mod along;
mod conv;
mod dot;
mod fallback;
mod fold;
mod fused;
mod lanes;
mod math;
mod memory;
mod movement;
mod par;
mod pointwise;
mod pool;
mod program;
mod reduce;
mod runner;
mod simd;
mod source;
#[cfg(test)]
mod tests;
mod turn;
mod unfold;

use crate::backend::{Backend, BackendKind, BufferId, DeviceInfo, Executable, KernelTime, Pending, Work};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Call, Node, Prim, Type};
use crate::plan::{Caps, Limits, Region, RegionKind};
use memory::{Buffer, Table};
use source::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One region or copy, ready to run again and again.
type Job = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// The fast CPU path as a backend.
#[derive(Debug, Default)]
pub struct Cpu {
    table: Table,
    /// Held by whoever touches the contents of buffers.
    run_lock: Arc<Mutex<()>>,
}

impl Cpu {
    /// The CPU of this machine, with no memory allocated yet.
    pub fn new() -> Cpu {
        Cpu::default()
    }

    /// A poisoned lock means that a job panicked; contents are words in any case, so going on is sound.
    fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.run_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caps for Cpu {
    fn limits(&self) -> Limits {
        Limits { max_operands: 64, max_slot_bytes: isize::MAX as usize }
    }

    fn kernel(&self, call: &Call, args: &[Type]) -> Result<(), String> {
        fused::supports(call, args)
    }

    fn reads(&self, call: &Call, _: &[Type], arg: usize) -> bool {
        fused::reads(call, arg)
    }

    fn supports(&self, region: &Region) -> Result<(), String> {
        // What has f16 in memory runs through the reference: a product keeps its fast job, and the rounding of its result is a
        // step of its own. A product of f16 comes from another device that leaves it to this one.
        let product = matches!(region.kind, RegionKind::Dot | RegionKind::Conv);
        let whole = region.args.iter().take(2).all(|a| a.dtype == DType::F32);
        match product && whole && half(region) {
            true => Err("a product's result is rounded to f16 in a step of its own".into()),
            false => Ok(()),
        }
    }

    fn reads_strided(&self, region: &Region, arg: usize) -> bool {
        // A job gathers what it does not read through strides, at each run; fused kernels leave that to the planner.
        match region.body.outputs.first().map(|o| &region.body.node(o.value.node).prim) {
            Some(Prim::Call(call)) if region.kind == RegionKind::Fused => fused::reads_strided(call, arg),
            _ => region.kind != RegionKind::Fused,
        }
    }
}

impl Backend for Cpu {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            kind: BackendKind::Cpu,
            name: processor_name(),
            driver: format!("{} threads, {}", pool::threads(), simd::describe()),
            software: false,
        }
    }

    fn as_caps(&self) -> &dyn Caps {
        self
    }

    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        Ok(self.table.insert(Buffer::zeroed(bytes)?))
    }

    fn free(&self, buffer: BufferId) {
        self.table.remove(buffer);
    }

    fn write(&self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let target = self.table.get(buffer)?;
        let _guard = self.exclusive();
        check_size("write", bytes.len(), &target)?;
        // SAFETY: in range, and exclusive by the guard.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.words_ptr().0.cast(), bytes.len()) };
        Ok(())
    }

    fn read(&self, buffer: BufferId, bytes: usize) -> Result<Box<dyn Pending>> {
        let source = self.table.get(buffer)?;
        let _guard = self.exclusive();
        check_size("read", bytes, &source)?;
        // SAFETY: in range, initialised, and exclusive by the guard.
        let copy = unsafe { std::slice::from_raw_parts(source.words_ptr().0.cast::<u8>(), bytes) }.to_vec();
        Ok(Box::new(Done(copy)))
    }

    fn compile(&self, work: &[Work]) -> Result<Box<dyn Executable>> {
        let mut jobs: Vec<Timed> = Vec::with_capacity(work.len());
        for item in work {
            let job: Job = match item {
                Work::Copy { from, to, bytes } => {
                    let (from, to, bytes) = (self.table.get(*from)?, self.table.get(*to)?, *bytes);
                    check_size("copy", bytes, &from)?;
                    check_size("copy", bytes, &to)?;
                    Box::new(move || {
                        let (source, target) = (from.words_ptr().0.cast::<u8>(), to.words_ptr().0.cast::<u8>());
                        // SAFETY: both ranges were checked; the run lock is held; `copy` allows overlap.
                        unsafe { std::ptr::copy(source, target, bytes) };
                        Ok(())
                    })
                }
                Work::Run { region, args, outs } => {
                    let args = args.iter().map(|id| id.map(|id| self.table.get(id)).transpose());
                    let outs = outs.iter().map(|&id| self.table.get(id));
                    let bound = Bound::new(region, args.collect::<Result<_>>()?, outs.collect::<Result<_>>()?)?;
                    job(&bound)?
                }
            };
            jobs.push(Timed::new(item, job));
        }
        Ok(Box::new(Jobs { jobs, run_lock: self.run_lock.clone() }))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn check_status(&self) -> Result<()> {
        Ok(()) // A fault of the data is returned by the run itself.
    }
}

/// The job of a region: the fast one if there is one, else the reference's.
fn job(bound: &Bound) -> Result<Job> {
    let fast = match bound.region.kind {
        _ if half(bound.region) => None,
        RegionKind::Pointwise => pointwise::job(bound),
        RegionKind::Reduce => reduce::job(bound),
        RegionKind::Dot => dot::job(bound),
        RegionKind::Conv => conv::job(bound),
        RegionKind::Fused => fused::job(bound),
        RegionKind::ArgMax
        | RegionKind::Pad
        | RegionKind::Concat
        | RegionKind::Take
        | RegionKind::ScatterAdd
        | RegionKind::TakeAlong => movement::job(bound),
        RegionKind::CumSum | RegionKind::Sort | RegionKind::ScatterAddAlong => along::job(bound),
    };
    match fast {
        Some(job) => Ok(job),
        None => fallback::job(bound),
    }
}

/// True if an operand or a result is f16, or an integer becomes one: rounding of f32 within loops has a fast form.
fn half(region: &Region) -> bool {
    let body = &region.body;
    let from_int = |n: &Node| n.prim == Prim::Cast(DType::F16) && body.ty(n.args[0]).dtype != DType::F32;
    let types = region.args.iter().map(|a| a.dtype).chain(region.outs.iter().map(|o| o.ty.dtype));
    types.into_iter().any(|d| d == DType::F16) || body.nodes.iter().any(from_int)
}

fn check_size(what: &str, bytes: usize, buffer: &Buffer) -> Result<()> {
    if bytes <= buffer.bytes() {
        return Ok(());
    }
    Err(Error::internal("cpu memory", format!("a {what} of {bytes} bytes exceeds a buffer of {}", buffer.bytes())))
}

/// The processor's name as the system gives it.
fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("model name"));
    let name = line.and_then(|l| l.split(':').nth(1)).map(str::trim).unwrap_or_default();
    if name.is_empty() { format!("CPU ({})", std::env::consts::ARCH) } else { name.to_string() }
}

struct Done(Vec<u8>);

impl Pending for Done {
    fn ready(&mut self) -> bool {
        true
    }
    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// A job with what a profile says of it.
struct Timed {
    job: Job,
    kernel: &'static str,
    variant: &'static str,
    bytes: u64,
}

impl Timed {
    fn new(work: &Work, job: Job) -> Timed {
        let (kernel, variant, bytes) = match work {
            Work::Copy { bytes, .. } => ("copy", "", 2 * bytes),
            Work::Run { region, .. } => {
                let reads = region.args.iter().map(|a| a.view.shape.elems() * a.dtype.bytes());
                let (kernel, variant) = name(region);
                (kernel, variant, reads.chain(region.outs.iter().map(|t| t.ty.bytes())).sum())
            }
        };
        Timed { job, kernel, variant, bytes: bytes as u64 }
    }
}

/// The kind of a region, and for a composite which one.
fn name(region: &Region) -> (&'static str, &'static str) {
    let kernel = match region.kind {
        RegionKind::Pointwise => "pointwise",
        RegionKind::Reduce => "reduce",
        RegionKind::ArgMax => "argmax",
        RegionKind::CumSum => "cumsum",
        RegionKind::Sort => "sort",
        RegionKind::Pad => "pad",
        RegionKind::Concat => "concat",
        RegionKind::Dot => "dot",
        RegionKind::Conv => "conv",
        RegionKind::Take => "take",
        RegionKind::ScatterAdd => "scatter_add",
        RegionKind::TakeAlong => "take_along",
        RegionKind::ScatterAddAlong => "scatter_add_along",
        RegionKind::Fused => "fused",
    };
    match region.body.outputs.first().map(|o| &region.body.node(o.value.node).prim) {
        Some(Prim::Call(call)) => (kernel, call.composite.name()),
        _ => (kernel, ""),
    }
}

/// Jobs in order.
struct Jobs {
    jobs: Vec<Timed>,
    run_lock: Arc<Mutex<()>>,
}

impl Executable for Jobs {
    fn run(&mut self) -> Result<()> {
        let _guard = self.run_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.jobs.iter().try_for_each(|timed| (timed.job)())
    }

    fn dispatches(&self) -> usize {
        self.jobs.len()
    }

    fn profiles(&self) -> bool {
        true
    }

    fn profile(&mut self) -> Result<Vec<KernelTime>> {
        let _guard = self.run_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |timed: &Timed| {
            let start = Instant::now();
            (timed.job)()?;
            let ns = start.elapsed().as_nanos() as f64;
            Ok(KernelTime { kernel: timed.kernel, variant: timed.variant, ns, flops: 0, bytes: timed.bytes })
        };
        self.jobs.iter().map(time).collect()
    }
}
