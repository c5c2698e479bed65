//! Runs of steps per backend: a plan over buffers becomes one executable per stretch of steps at one place, with the
//! copies between places in between.

use crate::backend::gpu::recording::Recording;
use crate::backend::store::Buffer;
use crate::backend::{Backend, Device, Executable, KernelTime, Pending, Work};
use crate::config::config;
use crate::error::Result;
use crate::plan::{Place, Plan, SlotId, Source, Step};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

enum Part {
    /// Steps at one place.
    Steps(Box<dyn Executable>),
    /// A copy from one place to the other, by way of the host's memory.
    Cross { from: Rc<Buffer>, to: Rc<Buffer>, bytes: usize },
}

/// A plan bound to buffers.
pub(super) struct Exec {
    parts: Vec<Part>,
    runs: u64,
    /// Where the last steps run.
    last: Arc<dyn Backend>,
}

/// The run that is profiled at `KILN_DEBUG=2`: late enough that nothing is compiled in it.
const PROFILED: u64 = 3;

impl Exec {
    /// Compiles all stretches. `buffers` are those of the plan's slots.
    pub fn compile(device: &Device, plan: &Plan, buffers: &[Rc<Buffer>]) -> Result<Exec> {
        let mut parts = Vec::new();
        let mut open: Vec<Work> = Vec::new();
        let mut at = Place::Device;
        let id = |s: SlotId| buffers[s.0 as usize].id;
        for step in &plan.steps {
            match step {
                Step::Run { place, region } => {
                    if *place != at {
                        close(&mut parts, &mut open, device.backend(at))?;
                        at = *place;
                    }
                    let args = region.args.iter().map(|a| match a.source {
                        Source::Slot(s) => Some(id(s)),
                        Source::Iota => None,
                    });
                    let outs = region.outs.iter().map(|t| id(t.slot)).collect();
                    open.push(Work::Run { region, args: args.collect(), outs });
                }
                Step::Copy { from, to } => {
                    let (a, b) = (&plan.slots[from.0 as usize], &plan.slots[to.0 as usize]);
                    let bytes = a.bytes.min(b.bytes);
                    if bytes == 0 {
                        continue;
                    }
                    if a.place == b.place {
                        if a.place != at {
                            close(&mut parts, &mut open, device.backend(at))?;
                            at = a.place;
                        }
                        open.push(Work::Copy { from: id(*from), to: id(*to), bytes });
                    } else {
                        close(&mut parts, &mut open, device.backend(at))?;
                        let (from, to) = (buffers[from.0 as usize].clone(), buffers[to.0 as usize].clone());
                        parts.push(Part::Cross { from, to, bytes });
                    }
                }
            }
        }
        close(&mut parts, &mut open, device.backend(at))?;
        Ok(Exec { parts, runs: 0, last: device.backend(at).clone() })
    }

    /// Starts all steps in order. At `KILN_DEBUG=2` one run says what each kernel took, where the device can tell.
    pub fn run(&mut self) -> Result<()> {
        self.run_reading(&[]).map(drop)
    }

    /// As [`Exec::run`], and starts reading the first bytes of these buffers.
    pub fn run_reading(&mut self, reads: &[(Rc<Buffer>, usize)]) -> Result<Vec<Box<dyn Pending>>> {
        self.runs += 1;
        let profiled = self.runs == PROFILED && config().debug >= 2;
        let here = !reads.is_empty() && reads.iter().all(|(b, _)| b.is_of(&self.last));
        let (end, mut pending) = (self.parts.len(), None);
        for (i, part) in self.parts.iter_mut().enumerate() {
            match part {
                Part::Steps(e) if profiled && e.profiles() => {
                    log::debug!("kernels of one run:\n{}", summary(&e.profile()?));
                }
                Part::Steps(e) if here && i + 1 == end => {
                    let ids: Vec<_> = reads.iter().map(|(b, bytes)| (b.id, *bytes)).collect();
                    pending = e.run_reading(&ids)?;
                }
                Part::Steps(e) => e.run()?,
                Part::Cross { from, to, bytes } => to.write(&from.read(*bytes)?.wait()?)?,
            }
        }
        pending.map_or_else(|| reads.iter().map(|(b, bytes)| b.read(*bytes)).collect(), Ok)
    }

    /// Runs all steps once and gives what each kernel took: by the device's clock where it tells, else whole stretches of
    /// steps by the wall clock. Returns when everything is done.
    pub fn profile(&mut self) -> Result<Vec<KernelTime>> {
        let mut times = Vec::new();
        for part in &mut self.parts {
            let began = Instant::now();
            let whole = |kernel, bytes| KernelTime {
                kernel,
                variant: "wall clock",
                ns: began.elapsed().as_nanos() as f64,
                flops: 0,
                bytes,
            };
            match part {
                Part::Steps(e) if e.profiles() => times.extend(e.profile()?),
                Part::Steps(e) => {
                    e.run()?;
                    times.push(whole("steps", 0));
                }
                Part::Cross { from, to, bytes } => {
                    to.write(&from.read(*bytes)?.wait()?)?;
                    times.push(whole("copy between places", *bytes as u64));
                }
            }
        }
        Ok(times)
    }

    /// Kernel launches per run.
    pub fn dispatches(&self) -> usize {
        self.executables().map(|e| e.dispatches()).sum()
    }

    /// Submits per run.
    pub fn submits(&self) -> usize {
        self.executables().map(|e| e.submits()).sum()
    }

    /// Different compiled kernels, summed over the backends' parts.
    pub fn pipelines(&self) -> usize {
        self.executables().map(|e| e.pipelines()).sum()
    }

    /// What a run submits, if all of it runs on one GPU.
    pub fn recording(&self) -> Option<Recording> {
        if self.parts.iter().any(|p| matches!(p, Part::Cross { .. })) {
            return None;
        }
        let all = self.executables().map(|e| e.recording()).collect::<Option<Vec<_>>>()?;
        all.into_iter().reduce(Recording::then)
    }

    fn executables(&self) -> impl Iterator<Item = &dyn Executable> {
        self.parts.iter().filter_map(|p| match p {
            Part::Steps(e) => Some(&**e),
            Part::Cross { .. } => None,
        })
    }
}

/// Times per kernel and variant, the most expensive first.
fn summary(times: &[KernelTime]) -> String {
    let mut by: BTreeMap<(&str, &str), (usize, f64, u64, u64)> = BTreeMap::new();
    for t in times {
        let sum = by.entry((t.kernel, t.variant)).or_default();
        *sum = (sum.0 + 1, sum.1 + t.ns, sum.2 + t.flops, sum.3 + t.bytes);
    }
    let mut rows: Vec<_> = by.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let line = |((kernel, variant), (count, ns, flops, bytes)): &((&str, &str), (usize, f64, u64, u64))| {
        let per = |work: u64| work as f64 / ns.max(1.0);
        let ms = ns / 1e6;
        format!("{ms:>9.3} ms {count:>4} x {kernel} {variant}: {:.2} GF/s, {:.2} GB/s", per(*flops), per(*bytes))
    };
    let total: f64 = times.iter().map(|t| t.ns).sum();
    let lines: Vec<String> = rows.iter().map(line).collect();
    format!("{}\n{:>9.3} ms {:>4} in all", lines.join("\n"), total / 1e6, times.len())
}

fn close(parts: &mut Vec<Part>, open: &mut Vec<Work>, backend: &Arc<dyn Backend>) -> Result<()> {
    if !open.is_empty() {
        parts.push(Part::Steps(backend.compile(open)?));
        open.clear();
    }
    Ok(())
}
