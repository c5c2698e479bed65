//! `Program`: a graph compiled over a store, to be run many times. It checks what it is fed, starts the plan's steps,
//! and hands out results that are still on their way.

use crate::backend::exec::Exec;
use crate::backend::gpu::recording::Recording;
use crate::backend::store::Buffer;
use crate::backend::{Device, KernelTime, Pending, Store};
use crate::config::config;
use crate::error::{Error, Result};
use crate::ir::{Builder, Graph, InputKind, OutputKind, Prim, Tensor, Type};
use crate::passes::dce::dce;
use crate::plan::{self, Note, Place, Plan, PlanOptions, SlotKind, Step};
use crate::tensor::HostTensor;
use std::rc::Rc;

/// A compiled graph.
pub struct Program {
    store: Store,
    device: Device,
    plan: Plan,
    exec: Exec,
    feeds: Vec<Feed>,
    outputs: Vec<(String, Type)>,
    /// Buffer and bytes of each output.
    reads: Vec<(Rc<Buffer>, usize)>,
    /// True if a kernel of this plan may report a fault of the data.
    reports: bool,
    /// Keeps the memory of the plan's slots alive.
    _buffers: Vec<Rc<Buffer>>,
}

struct Feed {
    name: String,
    ty: Type,
    buffer: Rc<Buffer>,
}

/// What a program costs per run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Kernel launches.
    pub dispatches: usize,
    /// Submits to the device.
    pub submits: usize,
    /// Different compiled kernels (pipelines) that a run uses; 0 on backends that compile none.
    pub pipelines: usize,
    /// Regions that run on the CPU for want of support.
    pub fallbacks: usize,
    /// Composites that run as their bodies for want of a kernel.
    pub inlined: usize,
}

impl Program {
    /// Plans and compiles a graph. Its states must be in the store. Parts of the planner that the environment switches
    /// off are off.
    pub fn compile(store: &Store, graph: Graph) -> Result<Program> {
        let c = config();
        let options = PlanOptions { fuse: !c.no_fuse, reuse_memory: !c.no_memplan, kernels: !c.no_kernels };
        Program::compile_with(store, graph, options)
    }

    /// As [`Program::compile`], with parts of the planner switched off.
    pub fn compile_with(store: &Store, graph: Graph, options: PlanOptions) -> Result<Program> {
        let device = store.device();
        let plan = plan::plan(&graph, device.caps(), device.host_caps(), &options)?;
        log::debug!("planned {} nodes: {}", graph.nodes.len(), plan.summary());
        if config().debug >= 4 {
            log::debug!("plan:\n{plan}");
        }
        let transient: Vec<(Place, usize)> =
            plan.slots.iter().filter(|s| s.kind == SlotKind::Transient).map(|s| (s.place, s.bytes)).collect();
        let mut pool = store.transient(&transient)?.into_iter();
        let mut buffers = Vec::with_capacity(plan.slots.len());
        let mut feeds: Vec<Feed> = Vec::new();
        for slot in &plan.slots {
            let own = || Buffer::new(device.backend(slot.place), slot.bytes);
            buffers.push(match &slot.kind {
                SlotKind::Transient => pool.next().map_or_else(own, Ok)?,
                SlotKind::Fetch => own()?,
                SlotKind::Feed(name) => {
                    let buffer = own()?;
                    feeds.push(Feed { name: name.clone(), ty: input_type(&graph, name)?, buffer: buffer.clone() });
                    buffer
                }
                SlotKind::State(name) => {
                    let (ty, buffer) = store.state(name)?;
                    let wanted = input_type(&graph, name)?;
                    if ty != wanted {
                        let detail = format!("is {ty} in the store, but {wanted} in the graph");
                        return Err(Error::input(format!("state {name:?}"), detail));
                    }
                    buffer
                }
            });
        }
        let exec = Exec::compile(&device, &plan, &buffers)?;
        let outputs = plan.outputs.iter().map(|o| (o.name.clone(), o.ty.clone())).collect();
        let reads = plan.outputs.iter().map(|o| (buffers[o.slot.0 as usize].clone(), o.ty.bytes())).collect();
        let reports = plan.steps.iter().any(reports);
        Ok(Program { store: store.clone(), device, plan, exec, feeds, outputs, reads, reports, _buffers: buffers })
    }

    /// Builds a graph with feeds of these names and types, and compiles it. The results of `f` are its fetched outputs.
    #[track_caller]
    pub fn trace(store: &Store, feeds: &[(&str, Type)], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Result<Program> {
        let builder = Builder::new();
        let inputs: Vec<Tensor> =
            feeds.iter().map(|(name, ty)| builder.input(*name, InputKind::Feed, ty.clone())).collect();
        for (k, t) in f(&inputs).iter().enumerate() {
            builder.output(format!("{k}"), OutputKind::Fetch, t);
        }
        Program::compile(store, builder.build()?)
    }

    /// Runs once and waits for the fetched outputs, in the order in which the graph declares them.
    pub fn run(&mut self, feeds: &[(&str, &HostTensor)]) -> Result<Vec<HostTensor>> {
        self.launch(feeds)?.wait()
    }

    /// Starts a run. Several runs may be on their way at once; each sees the states that the one before it left.
    pub fn launch(&mut self, feeds: &[(&str, &HostTensor)]) -> Result<Fetches> {
        self.feed(feeds)?;
        let pending = self.exec.run_reading(&self.reads)?;
        Ok(self.fetches_of(pending))
    }

    /// As [`Program::launch`], with what each kernel took. Slower: every kernel is timed on its own.
    pub fn profile(&mut self, feeds: &[(&str, &HostTensor)]) -> Result<(Fetches, Vec<KernelTime>)> {
        self.feed(feeds)?;
        let times = self.exec.profile()?;
        let pending = self.reads.iter().map(|(buffer, bytes)| buffer.read(*bytes)).collect::<Result<_>>()?;
        Ok((self.fetches_of(pending), times))
    }

    /// Starts all steps again on what was fed last, and fetches nothing: what a run costs the host without its data. For
    /// `benches/host.rs`.
    #[doc(hidden)]
    pub fn replay(&mut self) -> Result<()> {
        self.exec.run()
    }

    /// What [`Program::replay`] submits; `None` unless all of it runs on one GPU.
    #[doc(hidden)]
    pub fn recording(&self) -> Option<Recording> {
        self.exec.recording()
    }

    fn feed(&self, feeds: &[(&str, &HostTensor)]) -> Result<()> {
        self.check(feeds)?;
        for feed in &self.feeds {
            if let Some((_, value)) = feeds.iter().find(|(name, _)| *name == feed.name) {
                feed.buffer.write(value.as_bytes())?;
            }
        }
        Ok(())
    }

    fn fetches_of(&self, pending: Vec<Box<dyn Pending>>) -> Fetches {
        let pending = self.outputs.iter().map(|(_, ty)| ty.clone()).zip(pending).collect();
        Fetches { pending, status: self.reports.then(|| self.device.clone()) }
    }

    fn check(&self, feeds: &[(&str, &HostTensor)]) -> Result<()> {
        for (k, (name, value)) in feeds.iter().enumerate() {
            let what = || format!("feed {name:?}");
            let Some(feed) = self.feeds.iter().find(|f| f.name == *name) else {
                let known: Vec<&str> = self.feeds.iter().map(|f| f.name.as_str()).collect();
                return Err(Error::input(what(), format!("is no input of this program, which takes {known:?}")));
            };
            if feeds[..k].iter().any(|(other, _)| other == name) {
                return Err(Error::input(what(), "is given twice"));
            }
            if value.dtype() != feed.ty.dtype || value.shape != feed.ty.shape {
                let given = Type { dtype: value.dtype(), shape: value.shape.clone() };
                return Err(Error::input(what(), format!("must be {}, but {given} was given", feed.ty)));
            }
        }
        match self.feeds.iter().find(|f| !feeds.iter().any(|(name, _)| *name == f.name)) {
            Some(missing) => {
                Err(Error::input(format!("feed {:?}", missing.name), format!("({}) is missing", missing.ty)))
            }
            None => Ok(()),
        }
    }

    /// Names and types of what must be fed.
    pub fn feeds(&self) -> Vec<(String, Type)> {
        self.feeds.iter().map(|f| (f.name.clone(), f.ty.clone())).collect()
    }

    /// Names and types of what comes back, in order.
    pub fn fetches(&self) -> Vec<(String, Type)> {
        self.outputs.clone()
    }

    /// The plan that it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The store that its states live in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What it costs per run.
    pub fn stats(&self) -> Stats {
        Stats {
            dispatches: self.exec.dispatches(),
            submits: self.exec.submits(),
            pipelines: self.exec.pipelines(),
            fallbacks: self.plan.steps.iter().filter(|s| matches!(s, Step::Run { place: Place::Host, .. })).count(),
            inlined: self.plan.notes.iter().filter(|n| matches!(n, Note::Inlined { .. })).count(),
        }
    }
}

fn input_type(graph: &Graph, name: &str) -> Result<Type> {
    let spec = graph.inputs.iter().find(|s| s.name == name);
    let missing = || Error::internal("program", format!("the plan has an input {name:?} that the graph has not"));
    spec.map(|s| graph.ty(s.value).clone()).ok_or_else(missing)
}

/// True for steps that look something up by an index that may be out of range.
fn reports(step: &Step) -> bool {
    let Step::Run { region, .. } = step else { return false };
    let indexed = |p: &Prim| {
        matches!(p, Prim::Take | Prim::ScatterAdd { .. } | Prim::TakeAlong { .. } | Prim::ScatterAddAlong { .. })
    };
    region.body.nodes.iter().any(|n| match &n.prim {
        Prim::Call(call) => call.body.nodes.iter().any(|n| indexed(&n.prim) || matches!(n.prim, Prim::Call(_))),
        p => indexed(p),
    })
}

/// Results on their way from the device.
pub struct Fetches {
    pending: Vec<(Type, Box<dyn Pending>)>,
    status: Option<Device>,
}

impl Fetches {
    /// True once `wait` will not block for the results. Never blocks.
    pub fn ready(&mut self) -> bool {
        self.pending.iter_mut().all(|(_, p)| p.ready())
    }

    /// Blocks until the results are there. Errors if the device reported a fault of the data.
    pub fn wait(self) -> Result<Vec<HostTensor>> {
        let status = self.status.clone();
        let out = self.values()?;
        status.map_or(Ok(()), |device| device.check_status())?;
        Ok(out)
    }

    /// Blocks until the results are there, but not for later runs, and does not ask for faults of the data: for callers
    /// that keep several runs on their way and ask [`Device::check_status`] themselves from time to time.
    pub fn values(self) -> Result<Vec<HostTensor>> {
        let value =
            |(ty, pending): (Type, Box<dyn Pending>)| HostTensor::from_bytes(ty.dtype, ty.shape, &pending.wait()?);
        self.pending.into_iter().map(value).collect()
    }
}

impl Tensor {
    /// Computes this value on a device. It may depend on constants only, not on inputs; for those, compile a [`Program`].
    pub fn eval(&self, device: &Device) -> Result<HostTensor> {
        // A copy with this value as the only output, so that the graph under construction is left as it is.
        let mut graph = self.builder().with_graph(Graph::clone);
        if !self.builder().is_ok() {
            self.builder().build()?;
        }
        graph.outputs.clear();
        graph.outputs.push(crate::ir::OutputSpec { name: "0".into(), kind: OutputKind::Fetch, value: self.value() });
        let mut graph = dce(&graph);
        let used = graph.use_counts();
        if let Some(spec) = graph.inputs.iter().find(|s| used[s.value.node.0 as usize] > 0) {
            let detail = format!("depends on input {:?}; compile a Program and feed it", spec.name);
            return Err(Error::input("eval", detail));
        }
        if !graph.inputs.is_empty() {
            graph = without_inputs(&graph)?;
        }
        Program::compile(&Store::new(device), graph)?
            .run(&[])?
            .pop()
            .ok_or_else(|| Error::internal("eval", "a program with one output gave none"))
    }
}

/// The graph without its input nodes, which nobody reads.
fn without_inputs(graph: &Graph) -> Result<Graph> {
    let builder = Builder::new();
    let mut map: Vec<Vec<Tensor>> = Vec::new();
    for node in &graph.nodes {
        if matches!(node.prim, Prim::Input { .. }) {
            map.push(Vec::new());
            continue;
        }
        let args = node.args.iter().map(|v| map[v.node.0 as usize][v.out as usize].value()).collect();
        map.push(builder.append(node.prim.clone(), args, node.types.clone(), node.loc));
    }
    for out in &graph.outputs {
        builder.output(out.name.clone(), out.kind.clone(), &map[out.value.node.0 as usize][out.value.out as usize]);
    }
    builder.build()
}
