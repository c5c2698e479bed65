//! Placement: where each cluster runs, with copies where it reads what another place computed and where a kernel
//! cannot read a view. The result is a draft: steps over values, each written once, before memory is shared.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Graph, InputKind, InputSpec, NodeId, OutputKind, OutputSpec, Prim, Type, Value};
use crate::plan::items::{Arg, Base, Items};
use crate::plan::regions::{Cluster, region};
use crate::plan::{Caps, Note, Operand, Place, Region, RegionKind, SlotId, Source, Step, Target};
use crate::shape::View;
use std::collections::{HashMap, HashSet};

/// A piece of memory that is written once.
#[derive(Debug, Clone)]
pub(super) struct Val {
    pub place: Place,
    pub bytes: usize,
    /// The graph input that it holds; else a step writes it.
    pub input: Option<usize>,
}

/// Steps over values: slot ids are indices into `values`.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub steps: Vec<Step>,
    pub values: Vec<Val>,
    /// For each output of the graph, the value that it is; `None` for a state that keeps its value.
    pub outputs: Vec<Option<SlotId>>,
    /// Pairs of steps of which the first must come before the second, beside what their reads and writes ask for.
    pub order: Vec<(usize, usize)>,
    pub notes: Vec<Note>,
}

pub(super) struct Placer<'a> {
    graph: &'a Graph,
    items: &'a Items,
    device: &'a dyn Caps,
    host: Option<&'a dyn Caps>,
    draft: Draft,
    /// Where the first instance of each base is.
    home: HashMap<Base, SlotId>,
    /// The step that computes each item.
    step_of: HashMap<usize, usize>,
    /// Copies of values at other places.
    moved: HashMap<(SlotId, Place), SlotId>,
    /// Dense copies of views.
    dense: HashMap<(SlotId, View, Place), SlotId>,
}

/// A region, and the arguments that must be copied first because its kernel does not read them in place.
struct Candidate {
    region: Region,
    copies: Vec<usize>,
}

impl<'a> Placer<'a> {
    pub fn new(graph: &'a Graph, items: &'a Items, device: &'a dyn Caps, host: Option<&'a dyn Caps>) -> Placer<'a> {
        let mut p = Placer {
            graph,
            items,
            device,
            host,
            draft: Draft::default(),
            home: HashMap::new(),
            step_of: HashMap::new(),
            moved: HashMap::new(),
            dense: HashMap::new(),
        };
        for (k, spec) in graph.inputs.iter().enumerate() {
            let id = p.value(Place::Device, graph.ty(spec.value).bytes(), Some(k));
            p.home.insert(Base::Input(k), id);
        }
        p
    }

    /// Places all clusters, which come in topological order.
    pub fn run(mut self, clusters: &[Cluster]) -> Result<Draft> {
        let owner: HashMap<usize, usize> =
            clusters.iter().enumerate().flat_map(|(c, x)| x.members.iter().map(move |&m| (m, c))).collect();
        let mut wanted: HashSet<(usize, u32)> = self.items.outputs.iter().flatten().copied().collect();
        for (i, item) in self.items.items.iter().enumerate() {
            for arg in &item.args {
                if let Arg::View { base: Base::Item(p, out), .. } = arg
                    && owner[p] != owner[&i]
                {
                    wanted.insert((*p, *out));
                }
            }
        }
        for cluster in clusters {
            let mut outs = Vec::new();
            for &m in &cluster.members {
                for out in 0..self.items.items[m].outs.len() as u32 {
                    // A kernel of several results writes them all, whether or not they are read.
                    let all = !matches!(cluster.kind, RegionKind::Pointwise | RegionKind::Reduce)
                        && self.items.items[m].kind == cluster.kind
                        && self.items.items[m].outs.len() > 1;
                    if wanted.contains(&(m, out)) || all {
                        outs.push((m, out));
                    }
                }
            }
            self.place(cluster, &outs)?;
        }
        for (at, spec) in self.items.outputs.iter().zip(&self.graph.outputs) {
            let value = match at {
                None => None,
                Some((item, out)) => {
                    let id = self.home_of(Base::Item(*item, *out))?;
                    // State lives on the device.
                    Some(if spec.kind == OutputKind::State { self.at(id, Place::Device) } else { id })
                }
            };
            self.draft.outputs.push(value);
        }
        Ok(self.draft)
    }

    fn value(&mut self, place: Place, bytes: usize, input: Option<usize>) -> SlotId {
        self.draft.values.push(Val { place, bytes, input });
        SlotId(self.draft.values.len() as u32 - 1)
    }

    fn val(&self, id: SlotId) -> &Val {
        &self.draft.values[id.0 as usize]
    }

    fn home_of(&self, base: Base) -> Result<SlotId> {
        let missing = || Error::internal("plan", format!("{base:?} is read before it is computed"));
        self.home.get(&base).copied().ok_or_else(missing)
    }

    /// The value at this place, copied there if need be.
    fn at(&mut self, id: SlotId, place: Place) -> SlotId {
        if self.val(id).place == place {
            return id;
        }
        if let Some(&copy) = self.moved.get(&(id, place)) {
            return copy;
        }
        let bytes = self.val(id).bytes;
        let copy = self.value(place, bytes, None);
        self.draft.steps.push(Step::Copy { from: id, to: copy });
        self.moved.insert((id, place), copy);
        copy
    }

    /// Adds the steps that compute a cluster.
    fn place(&mut self, cluster: &Cluster, outs: &[(usize, u32)]) -> Result<()> {
        // Results get their values first; the place is corrected below.
        let mut fresh = Vec::new();
        for &(m, out) in outs {
            let bytes = self.items.items[m].outs[out as usize].bytes();
            let id = self.value(Place::Device, bytes, None);
            self.home.insert(Base::Item(m, out), id);
            fresh.push(id);
        }
        let known = &self.home;
        let slot = |base: Base| known.get(&base).copied().unwrap_or(SlotId(u32::MAX));
        let Some(region) = region(self.items, cluster, outs, &slot) else {
            return Err(Error::internal("plan", "a cluster does not fit its own index space"));
        };
        // What needs no memory needs no step.
        if region.outs.iter().all(|t| t.ty.bytes() == 0) {
            return Ok(());
        }
        let views: Vec<View> = region.args.iter().map(|a| a.view.clone()).collect();
        let on_device = candidate(&region, self.device);
        let (place, chosen) = match self.refusal(&on_device.region, self.device) {
            None => (Place::Device, on_device),
            Some(reason) => {
                let op = describe(cluster, self.items);
                let Some(host) = self.host else {
                    return Err(Error::device("this device", format!("cannot run {op}: {reason}")));
                };
                let on_host = candidate(&region, host);
                if let Some(why) = self.refusal(&on_host.region, host) {
                    return Err(Error::device(
                        "this device",
                        format!("cannot run {op} ({reason}), nor can the CPU ({why})"),
                    ));
                }
                self.draft.notes.push(Note::Fallback { op, reason });
                (Place::Host, on_host)
            }
        };
        for id in fresh {
            self.draft.values[id.0 as usize].place = place;
        }
        let mut region = chosen.region;
        for (k, view) in views.iter().enumerate() {
            let Source::Slot(id) = region.args[k].source else { continue };
            let here = self.at(id, place);
            region.args[k].source = Source::Slot(here);
            if chosen.copies.contains(&k) {
                // The candidate shows the dense view already; the copy reads the original one.
                let copy = self.dense_copy(here, view.clone(), region.args[k].dtype, place);
                region.args[k].source = Source::Slot(copy);
            }
        }
        let step = self.draft.steps.len();
        for &m in &cluster.members {
            self.step_of.insert(m, step);
            let earlier = self.items.items[m].after.iter().filter_map(|p| self.step_of.get(p));
            self.draft.order.extend(earlier.map(|&p| (p, step)));
        }
        self.draft.steps.push(Step::Run { place, region });
        Ok(())
    }

    /// A dense copy of a view, as a region of its own.
    fn dense_copy(&mut self, from: SlotId, view: View, dtype: DType, place: Place) -> SlotId {
        let key = (from, view.clone(), place);
        if let Some(&copy) = self.dense.get(&key) {
            return copy;
        }
        let ty = Type { dtype, shape: view.shape.clone() };
        let to = self.value(place, ty.bytes(), None);
        self.draft.steps.push(Step::Run { place, region: copy_region(from, view, ty, to) });
        self.dense.insert(key, to);
        to
    }

    /// Why `caps` does not take a region.
    fn refusal(&self, region: &Region, caps: &dyn Caps) -> Option<String> {
        let limits = caps.limits();
        let slots = region.args.iter().filter_map(|a| match a.source {
            Source::Slot(id) => Some(self.val(id).bytes),
            Source::Iota => None,
        });
        if let Some(most) = slots.chain(region.outs.iter().map(|t| t.ty.bytes())).max()
            && most > limits.max_slot_bytes
        {
            return Some(format!("{most} bytes exceed the limit of {} bytes a buffer", limits.max_slot_bytes));
        }
        // A kernel of a composite or a movement may take several dispatches: `supports` knows.
        let bounded =
            matches!(region.kind, RegionKind::Pointwise | RegionKind::Reduce | RegionKind::Dot | RegionKind::Conv);
        let operands = region.args.iter().filter(|a| a.source != Source::Iota).count() + region.outs.len();
        if bounded && operands > limits.max_operands {
            return Some(format!("{operands} operands exceed the limit of {}", limits.max_operands));
        }
        caps.supports(region).err()
    }
}

/// The region with dense views wherever its kernel on `caps` needs them.
fn candidate(region: &Region, caps: &dyn Caps) -> Candidate {
    let mut out = Candidate { region: region.clone(), copies: Vec::new() };
    if matches!(region.kind, RegionKind::Pointwise | RegionKind::Reduce) {
        return out;
    }
    for (k, arg) in region.args.iter().enumerate() {
        if !arg.view.is_contiguous() && !caps.reads_strided(region, k) {
            out.region.args[k].view = View::contiguous(&arg.view.shape);
            out.copies.push(k);
        }
    }
    out
}

/// A pointwise region that writes a view densely.
pub(super) fn copy_region(from: SlotId, view: View, ty: Type, to: SlotId) -> Region {
    let mut body = Graph::default();
    let value = Value { node: NodeId(0), out: 0 };
    let loc = std::panic::Location::caller();
    body.nodes.push(crate::ir::Node { prim: Prim::Input { index: 0 }, args: vec![], types: vec![ty.clone()], loc });
    body.inputs.push(InputSpec { name: "0".into(), kind: InputKind::Feed, value });
    body.outputs.push(OutputSpec { name: "0".into(), kind: OutputKind::Fetch, value });
    Region {
        kind: RegionKind::Pointwise,
        body,
        args: vec![Operand { source: Source::Slot(from), view, dtype: ty.dtype }],
        outs: vec![Target { slot: to, ty }],
        in_place: vec![None],
    }
}

/// The operation of a cluster, for people: its main primitive with the types of its result.
fn describe(cluster: &Cluster, items: &Items) -> String {
    let main = cluster.members.iter().find(|&&m| items.items[m].kind == cluster.kind).or(cluster.members.last());
    match main.map(|&m| &items.items[m]) {
        Some(item) => {
            let name = item.prim.as_ref().map_or_else(|| "copy".into(), Prim::name);
            let types: Vec<String> = item.outs.iter().map(|t| t.to_string()).collect();
            format!("{name} -> {}", types.join(", "))
        }
        None => "nothing".into(),
    }
}
