//! The planner: graph and capabilities in, plan out. Pure data: no device, no I/O, printable and verifiable.
//!
//! A plan is a list of steps over slots. A step runs a [`Region`]: a small graph (its body) applied to strided views of
//! slots. The body IS the meaning: the reference backend evaluates it; the other backends read from `kind` and body
//! which loops or kernels to use.

pub mod caps;
mod fuse;
mod items;
mod keep;
mod memory;
mod order;
mod place;
mod recompute;
mod regions;
mod text;
mod verify;
mod widen;

pub use caps::{Caps, Limits};
pub use text::Summary;

use crate::dtype::DType;
use crate::error::Result;
use crate::ir::{Graph, Prim, Type, Value};
use crate::passes;
use crate::shape::{Shape, View};

/// A piece of memory that a plan uses, in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

/// On which side a step runs and a slot lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The backend that the plan was made for.
    Device,
    /// The CPU path, which takes what that backend does not support.
    Host,
}

/// What a slot holds between runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// The state of this name in the store.
    State(String),
    /// The fed input of this name.
    Feed(String),
    /// Results that the caller reads; not shared with anything.
    Fetch,
    /// Nothing: space for intermediate results, reused within a run and by other plans.
    Transient,
}

/// A piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Where it lives.
    pub place: Place,
    /// What it is for.
    pub kind: SlotKind,
    /// Its size.
    pub bytes: usize,
}

/// Where an operand's elements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// From a slot.
    Slot(SlotId),
    /// From nowhere: element at position p is the integer p. (The view of an `Iota` node makes index arithmetic.)
    Iota,
}

/// An argument of a region: a strided view of a slot. The region's body sees a tensor of the view's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// Where the elements are.
    pub source: Source,
    /// How they are laid out there.
    pub view: View,
    /// Their type.
    pub dtype: DType,
}

/// A result of a region: written densely in row-major order from the start of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it goes.
    pub slot: SlotId,
    /// Element type and shape.
    pub ty: Type,
}

/// What kind of loops a region needs. The attributes are in the body's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegionKind {
    /// Only pointwise nodes, constants (`Const`, then `Reshape` to ones and `Broadcast` where the rank asks for them), and
    /// `Random`; every argument and result has one shape, but for the counter of a `Random`, which is a `u32[4]` of its
    /// own. Several results are possible; a result may be an argument as it is. A plain copy is a body with one argument
    /// (or one constant) and no pointwise nodes. A result may also be a `Concat` of equally large values of the region
    /// (seen through a `Reshape` where the index space is written otherwise): see [`Region::written`].
    Pointwise,
    /// Pointwise nodes as for `Pointwise`, then one `Reduce` over them; its value is the only result. `Reduce` keeps dimensions as 1.
    Reduce,
    /// One `ArgMax`.
    ArgMax,
    /// One `CumSum`.
    CumSum,
    /// One `Sort` (two results).
    Sort,
    /// One `Pad`.
    Pad,
    /// One `Concat`.
    Concat,
    /// One `Dot` on arguments 0 and 1, then possibly pointwise nodes on its result and on further arguments of its
    /// shape (the epilogue). The last node is the only result.
    Dot,
    /// One `Conv` on arguments 0 and 1, then possibly an epilogue as for `Dot`.
    Conv,
    /// One `Take`.
    Take,
    /// One `ScatterAdd`.
    ScatterAdd,
    /// One `TakeAlong`.
    TakeAlong,
    /// One `ScatterAddAlong`.
    ScatterAddAlong,
    /// One `Call` of a composite that the backend has a kernel for.
    Fused,
}

/// A piece of work: one kernel (or a few that belong together).
#[derive(Debug, Clone)]
pub struct Region {
    /// Which loops it needs.
    pub kind: RegionKind,
    /// What it means: inputs are `args` in order, outputs are `outs` in order.
    pub body: Graph,
    /// What it reads.
    pub args: Vec<Operand>,
    /// What it writes. A slot is also read only where `in_place` says so.
    pub outs: Vec<Target>,
    /// For each result, the argument whose memory it takes over: same slot, identity view, elements read before they are written.
    pub in_place: Vec<Option<usize>>,
}

/// What a pointwise region writes into one of its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The values, of equal size: several for a `Concat`, else one.
    pub pieces: Vec<Value>,
    /// Elements of a piece that lie together: element `i` of piece `p` of `n` goes to `(i / run * n + p) * run + i % run`.
    pub run: usize,
}

impl Region {
    /// What a pointwise region writes into result `k`.
    pub fn written(&self, k: usize) -> Written {
        let value = self.body.outputs[k].value;
        let node = self.body.node(value.node);
        let Prim::Concat { axis } = node.prim else {
            return Written { pieces: vec![value], run: self.body.shape(value).elems().max(1) };
        };
        let run = self.body.shape(node.args[0])[axis..].iter().product();
        let inside = |v: &Value| match self.body.node(v.node).prim {
            Prim::Reshape(_) => self.body.node(v.node).args[0],
            _ => *v,
        };
        Written { pieces: node.args.iter().map(inside).collect(), run }
    }

    /// The index space of a pointwise region: the shape of its values but for those that it joins.
    pub fn space(&self) -> &Shape {
        self.body.shape(self.written(0).pieces[0])
    }
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub enum Step {
    /// Runs a region at a place.
    Run {
        /// Where.
        place: Place,
        /// What.
        region: Region,
    },
    /// Copies a slot to another one, possibly at another place: as many bytes as the smaller of them has.
    Copy {
        /// The source.
        from: SlotId,
        /// The destination.
        to: SlotId,
    },
}

/// Where a graph's output is after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOutput {
    /// Its name in the graph.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Where it lies, dense from the start.
    pub slot: SlotId,
}

/// Something the user should be able to see about how a graph was planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A step runs on the CPU, and why.
    Fallback {
        /// The operation.
        op: String,
        /// Why the device does not take it.
        reason: String,
    },
    /// A composite has no kernel for these arguments and runs as its body, and why.
    Inlined {
        /// The composite.
        op: String,
        /// Why its kernel does not take it.
        reason: String,
    },
}

/// Everything a backend needs to run a graph.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Memory.
    pub slots: Vec<Slot>,
    /// Work, in order.
    pub steps: Vec<Step>,
    /// Fetched outputs, in the order of the graph's outputs of kind `Fetch`. State outputs lie in their state's slot.
    pub outputs: Vec<PlanOutput>,
    /// Fallbacks and inlined composites.
    pub notes: Vec<Note>,
    /// The most bytes of intermediate values that are needed at once: no assignment of memory can do with less.
    pub peak_live_bytes: usize,
}

/// Which parts of the planner are on; all by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Merge pointwise chains, reduction prologues and epilogues. Off: one region per node.
    pub fuse: bool,
    /// Reuse memory, also in place. Off: one slot per value.
    pub reuse_memory: bool,
    /// Keep composites for which the backend has a kernel. Off: every composite runs as its body.
    pub kernels: bool,
}

impl Default for PlanOptions {
    fn default() -> PlanOptions {
        PlanOptions { fuse: true, reuse_memory: true, kernels: true }
    }
}

/// Plans a graph for a device: passes, fusion, placement, order, memory. What the device does not support runs on the
/// host, if there is one, and a note says why. The plan is verified before it is returned.
pub fn plan(graph: &Graph, device: &dyn Caps, host: Option<&dyn Caps>, options: &PlanOptions) -> Result<Plan> {
    let (graph, mut notes) = passes::run(graph, device, options.kernels)?;
    let mut items = items::items(&graph)?;
    if options.fuse {
        items = recompute::recompute(widen::spread(items));
    }
    let fused = |items: &items::Items| {
        fuse::fuse(items, device.limits(), options.fuse, &|cluster| fuse::accepted(items, cluster, device))
    };
    let mut clusters = fused(&items);
    if options.fuse {
        items = keep::keep(items, clusters.list, device.limits());
        clusters = fused(&items);
    }
    let mut draft = place::Placer::new(&graph, &items, device, host).run(&clusters.list)?;
    notes.append(&mut draft.notes);
    notes.sort();
    notes.dedup();
    draft.notes = notes;
    let bound = order::order(&mut draft, &graph, options.reuse_memory)?;
    let plan = memory::assign(&draft, &graph, &bound, options.reuse_memory);
    verify::verify(&plan, &draft, &graph, &bound)?;
    Ok(plan)
}
