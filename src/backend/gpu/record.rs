//! `GpuRun`: work made ready once (pipelines, bind groups, one uniform buffer for all `Params`), then recorded and
//! submitted at each run. A run allocates nothing of ours per dispatch.

use crate::backend::gpu::GpuShared;
use crate::backend::gpu::buffers::Readback;
use crate::backend::gpu::caps::{AdapterClass, GpuCaps};
use crate::backend::gpu::device::Device;
use crate::backend::gpu::kernels::launches::{Launch, launches};
use crate::backend::gpu::kernels::{self, Bind, Grid, KernelCall, candidates, parts};
use crate::backend::gpu::pipelines::{Pipeline, Pipelines};
use crate::backend::gpu::recording::Recording;
use crate::backend::gpu::{buffers, profile, warm};
use crate::backend::{BufferId, Executable, KernelTime, Pending, Work};
use crate::config::config;
use crate::error::{Error, Result};
use crate::plan::Region;
use std::sync::Arc;

/// Name of the `Params` field into which the recorder writes the number of the user's operation, for fault reports.
const SITE: &str = "site";

pub(super) struct Dispatch {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) group: wgpu::BindGroup,
    pub(super) grid: Grid,
    pub(super) label: &'static str,
    pub(super) variant: &'static str,
    pub(super) flops: u64,
    pub(super) bytes: u64,
}

impl Dispatch {
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        let [x, y, z] = self.grid.0;
        pass.dispatch_workgroups(x, y, z);
    }

    /// That it took so long.
    pub(super) fn time(&self, ns: f64) -> KernelTime {
        KernelTime { kernel: self.label, variant: self.variant, ns, flops: self.flops, bytes: self.bytes }
    }
}

pub(super) enum Item {
    Dispatch(Box<Dispatch>),
    Copy { from: wgpu::Buffer, to: wgpu::Buffer, bytes: u64 },
}

/// Work of one plan, ready to be repeated.
pub(super) struct GpuRun {
    pub(super) shared: Arc<GpuShared>,
    pub(super) items: Vec<Item>,
    /// Where each submit ends, as positions in `items`.
    pub(super) splits: Vec<usize>,
}

/// What one dispatch may take of a submit's time budget, in seconds: for watchdogs, rough and rather too long.
fn estimate(class: AdapterClass, flops: u64, bytes: u64) -> f64 {
    let (flops_per_s, bytes_per_s) = match class {
        AdapterClass::Discrete => (1e12, 1e11),
        AdapterClass::Integrated | AdapterClass::Other => (1e11, 1e10),
        AdapterClass::Software => (5e9, 2e9),
    };
    flops as f64 / flops_per_s + bytes as f64 / bytes_per_s + 2e-6
}

/// Seconds of work per submit. Software adapters have no watchdog, and a second submit waits there until the first is done.
fn budget(class: AdapterClass) -> f64 {
    if class == AdapterClass::Software { f64::INFINITY } else { 0.1 }
}

/// Of one call at most so many launches.
const MOST_PIECES: u64 = 4096;

/// How many launches a call should be, so that each fits into a submit.
fn pieces(call: &KernelCall, caps: &GpuCaps) -> Result<u64> {
    let wanted = caps.wanted(parts::PARTS).unwrap_or("1");
    let wanted: u64 =
        wanted.parse().map_err(|_| Error::input(parts::PARTS, format!("{wanted:?} is no number of parts")))?;
    let long = (estimate(caps.class, call.flops, call.bytes) / budget(caps.class)).ceil() as u64;
    Ok(long.max(wanted).min(MOST_PIECES))
}

/// The call in as many parts as it should have.
fn in_pieces(call: KernelCall, caps: &GpuCaps) -> Result<Vec<KernelCall>> {
    let wanted = pieces(&call, caps)?;
    let (label, all) = (call.label, parts::cut(call, wanted));
    if all.len() < wanted as usize && caps.wanted(parts::PARTS).is_none() {
        log::warn!("{label} should be {wanted} launches and can only be {}: one may take long", all.len());
    }
    Ok(all)
}

/// A region's calls with what its bindings name.
pub(super) struct Prepared {
    pub(super) call: KernelCall,
    pub(super) bound: Vec<Bound>,
}

/// What is bound at one binding.
#[derive(PartialEq)]
pub(super) enum Bound {
    Buffer(wgpu::Buffer),
    Image(wgpu::TextureView),
}

impl Bound {
    pub(super) fn resource(&self) -> wgpu::BindingResource<'_> {
        match self {
            Bound::Buffer(b) => b.as_entire_binding(),
            Bound::Image(v) => wgpu::BindingResource::TextureView(v),
        }
    }
}

/// What the calls of one region share and nobody else sees: buffers and textures by number.
#[derive(Default)]
struct Space<B, I> {
    buffers: Vec<B>,
    images: Vec<I>,
}

impl Space<u64, u64> {
    /// Takes the call's wishes in: each number is as large as the largest wish.
    fn add(&mut self, call: &KernelCall) {
        for bind in &call.bindings {
            let (sizes, id, size) = match *bind {
                Bind::Scratch { id, bytes, .. } => (&mut self.buffers, id, bytes),
                Bind::Image { id, texels, .. } => (&mut self.images, id, texels),
                _ => continue,
            };
            sizes.resize(sizes.len().max(id + 1), 0);
            sizes[id] = sizes[id].max(size);
        }
    }
    fn make(self, device: &Device) -> Result<Space<wgpu::Buffer, wgpu::TextureView>> {
        let buffers =
            self.buffers.into_iter().map(|b| buffers::storage(device, "scratch", b)).collect::<Result<_>>()?;
        let images = self.images.into_iter().map(|t| buffers::image(device, t)).collect::<Result<_>>()?;
        Ok(Space { buffers, images })
    }
}

impl GpuRun {
    pub(super) fn new(shared: &Arc<GpuShared>, pipelines: &Pipelines, caps: &GpuCaps, work: &[Work]) -> Result<GpuRun> {
        let device = &shared.device;
        let bug = |why: String| Error::internal("gpu compile", why);
        let mut scratch = Space::default();
        let mut selected = Vec::new();
        for launch in launches(work, caps).map_err(bug)? {
            let (ats, calls) = match launch {
                Launch::One(at) => match &work[at] {
                    Work::Copy { from, to, bytes } => {
                        let bytes = (*bytes as u64).next_multiple_of(4);
                        if bytes > 0 {
                            let (from, to) = (shared.buffers.get(*from)?, shared.buffers.get(*to)?);
                            selected.push(Err(Item::Copy { from, to, bytes }));
                        }
                        continue;
                    }
                    Work::Run { region, .. } => {
                        say_pick(region, caps);
                        let kind = region.kind;
                        let calls = kernels::select(region, caps)
                            .map_err(|why| bug(format!("{kind:?} region without a kernel: {why}")))?;
                        (vec![at], calls)
                    }
                },
                Launch::Chain(ats, call) => (ats, vec![*call]),
            };
            calls.iter().for_each(|c| scratch.add(c));
            selected.push(Ok((ats, calls)));
        }
        // Regions run one after the other, so that they all can use the same space.
        let scratch = scratch.make(device)?;
        let mut ready = Vec::new();
        for item in selected {
            let (ats, calls) = match item {
                Ok(run) => run,
                Err(copy) => {
                    ready.push(Err(copy));
                    continue;
                }
            };
            let memory = Memory::of(work, &ats);
            let calls = calls.into_iter().filter(|c| c.grid.count() > 0);
            let calls = calls.map(|c| in_pieces(c, caps)).collect::<Result<Vec<_>>>()?;
            for mut call in calls.into_iter().flatten() {
                let bound = memory.bound(shared, &call, &scratch)?;
                if let Work::Run { region, .. } = &work[ats[0]] {
                    set_site(shared, region, &mut call);
                }
                ready.push(Ok(Prepared { call, bound }));
            }
        }
        let items = finish(device, pipelines, ready)?;
        device.fault.check(&device.info.name)?;
        let splits = split(device.caps.class, &items);
        Ok(GpuRun { shared: shared.clone(), items, splits })
    }
}

/// Says what a tuning file wants for this region, if it says something.
fn say_pick(region: &Region, caps: &GpuCaps) {
    match candidates::picked(region, caps) {
        Some((variant, Ok(_))) => log::info!("tuned: {variant} for {}", candidates::describe(region)),
        Some((variant, Err(why))) => {
            let what = candidates::describe(region);
            log::warn!("the tuning file's {variant} for {what} is not used: {why}; `kiln tune` measures again");
        }
        None => {}
    }
}

/// The memory of the regions that a launch runs: their arguments and results, one region after the other.
#[derive(Default)]
struct Memory {
    args: Vec<Option<BufferId>>,
    outs: Vec<BufferId>,
}

impl Memory {
    fn of(work: &[Work], ats: &[usize]) -> Memory {
        let mut all = Memory::default();
        for &at in ats {
            if let Work::Run { args, outs, .. } = &work[at] {
                all.args.extend(args);
                all.outs.extend(outs);
            }
        }
        all
    }

    /// What a call's bindings name, checked: what is written is bound once.
    fn bound(
        &self,
        shared: &GpuShared,
        call: &KernelCall,
        scratch: &Space<wgpu::Buffer, wgpu::TextureView>,
    ) -> Result<Vec<Bound>> {
        let bug = |detail: String| Error::internal(format!("kernel {}", call.label), detail);
        let mut bound = Vec::with_capacity(call.bindings.len());
        for bind in &call.bindings {
            bound.push(Bound::Buffer(match *bind {
                Bind::Arg(i) => match self.args.get(i) {
                    Some(Some(id)) => shared.buffers.get(*id)?,
                    _ => return Err(bug(format!("argument {i} has no buffer"))),
                },
                Bind::Out(i) | Bind::InPlace(_, i) => match self.outs.get(i) {
                    Some(id) => shared.buffers.get(*id)?,
                    None => return Err(bug(format!("there is no result {i}"))),
                },
                Bind::Scratch { id, .. } => scratch.buffers[id].clone(),
                Bind::Image { id, .. } => {
                    bound.push(Bound::Image(scratch.images[id].clone()));
                    continue;
                }
                Bind::Status => {
                    shared.reports.store(true, std::sync::atomic::Ordering::Relaxed);
                    shared.status.clone()
                }
            }));
        }
        for (i, bind) in call.bindings.iter().enumerate().filter(|(_, b)| b.writes()) {
            if let Some(j) = (0..bound.len()).find(|&j| j != i && bound[j] == bound[i]) {
                return Err(bug(format!("{bind:?} is written and also bound as {:?}", call.bindings[j])));
            }
        }
        Ok(bound)
    }
}

/// Writes the number of the user's operation into the call's `site` parameter, if it has one.
fn set_site(shared: &GpuShared, region: &Region, call: &mut KernelCall) {
    let Some(&(_, at)) = call.params.fields.iter().find(|f| f.0 == SITE) else { return };
    let node = region.body.nodes.iter().find(|n| !matches!(n.prim, crate::ir::Prim::Input { .. }));
    let name = node.map_or_else(|| call.label.to_string(), |n| format!("{} at {}", n.prim.name(), n.loc));
    let number = shared.site(name);
    call.params.bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Pipelines, the uniform buffer and bind groups.
fn finish(device: &Device, pipelines: &Pipelines, ready: Vec<Result<Prepared, Item>>) -> Result<Vec<Item>> {
    let align = device.device.limits().min_uniform_buffer_offset_alignment.max(16) as usize;
    let mut bytes: Vec<u8> = Vec::new();
    let mut offsets = Vec::with_capacity(ready.len());
    for item in &ready {
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        offsets.push(bytes.len() as u64);
        if let Ok(p) = item {
            bytes.extend_from_slice(&p.call.params.bytes);
        }
    }
    let params = device.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("params"),
        size: (bytes.len() as u64).next_multiple_of(4).max(16),
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    if !bytes.is_empty() {
        device.queue.write_buffer(&params, 0, &bytes);
    }
    warm::compile(device, pipelines, &ready.iter().flatten().collect::<Vec<_>>())?;
    let mut items = Vec::with_capacity(ready.len());
    for (item, offset) in ready.into_iter().zip(offsets) {
        let Prepared { call, bound } = match item {
            Ok(p) => p,
            Err(copy) => {
                items.push(copy);
                continue;
            }
        };
        let pipeline = pipelines.get(device, &call)?;
        let uniform = wgpu::BufferBinding {
            buffer: &params,
            offset,
            size: std::num::NonZeroU64::new(call.params.bytes.len() as u64),
        };
        let resources = bound.iter().map(Bound::resource).chain([wgpu::BindingResource::Buffer(uniform)]);
        let entries: Vec<_> =
            resources.enumerate().map(|(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource }).collect();
        let desc = wgpu::BindGroupDescriptor { label: Some(call.label), layout: &pipeline.layout, entries: &entries };
        let group = device.device.create_bind_group(&desc);
        items.push(Item::Dispatch(Box::new(Dispatch {
            pipeline,
            group,
            grid: call.grid,
            label: call.label,
            variant: call.variant,
            flops: call.flops,
            bytes: call.bytes,
        })));
    }
    Ok(items)
}

fn split(class: AdapterClass, items: &[Item]) -> Vec<usize> {
    let (mut splits, mut spent) = (Vec::new(), 0.0);
    for (i, item) in items.iter().enumerate() {
        let cost = match item {
            Item::Dispatch(d) => estimate(class, d.flops, d.bytes),
            Item::Copy { bytes, .. } => estimate(class, 0, *bytes),
        };
        if i > 0 && (spent + cost > budget(class) || config().serial) {
            splits.push(i);
            spent = 0.0;
        }
        spent += cost;
    }
    if !items.is_empty() {
        splits.push(items.len());
    }
    splits
}

impl GpuRun {
    /// Records all items and submits them; the copies of `reads` for the host go into the last submit, since a submit of their
    /// own costs the host as much as a short step, and on software adapters a wait for everything before.
    fn submit(&self, reads: &[(BufferId, usize)]) -> Result<Vec<Readback>> {
        let device = &self.shared.device;
        let (mut start, mut readbacks) = (0, Vec::new());
        for &end in &self.splits {
            let mut encoder = device.device.create_command_encoder(&Default::default());
            let mut at = start;
            while at < end {
                match &self.items[at] {
                    Item::Copy { from, to, bytes } => {
                        encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(*bytes));
                        at += 1;
                    }
                    Item::Dispatch(_) => {
                        let mut pass = encoder.begin_compute_pass(&Default::default());
                        while let Some(Item::Dispatch(d)) = self.items[..end].get(at) {
                            d.record(&mut pass);
                            at += 1;
                        }
                    }
                }
            }
            let mut staged = Vec::new();
            if end == self.items.len() {
                for &(id, bytes) in reads {
                    let from = self.shared.buffers.get(id)?;
                    staged.push(self.shared.buffers.stage(device, &from, bytes, &mut encoder)?);
                }
            }
            let submission = device.queue.submit([encoder.finish()]);
            readbacks.extend(staged.into_iter().map(|s| s.map(device, submission.clone())));
            if config().serial {
                self.shared.wait()?;
            }
            start = end;
        }
        device.fault.check(&device.info.name)?;
        Ok(readbacks)
    }
}

impl Executable for GpuRun {
    fn run(&mut self) -> Result<()> {
        self.submit(&[]).map(drop)
    }

    fn run_reading(&mut self, reads: &[(BufferId, usize)]) -> Result<Option<Vec<Box<dyn Pending>>>> {
        // A run without items has no submit to put the copies into.
        if self.items.is_empty() {
            return Ok(None);
        }
        let boxed = |r: Readback| Box::new(r) as Box<dyn Pending>;
        Ok(Some(self.submit(reads)?.into_iter().map(boxed).collect()))
    }

    fn dispatches(&self) -> usize {
        self.items.iter().filter(|i| matches!(i, Item::Dispatch(_))).count()
    }

    fn submits(&self) -> usize {
        self.splits.len()
    }

    fn profiles(&self) -> bool {
        self.shared.device.tick.is_some()
    }

    fn pipelines(&self) -> usize {
        let used = self.items.iter().filter_map(|i| match i {
            Item::Dispatch(d) => Some(Arc::as_ptr(&d.pipeline)),
            Item::Copy { .. } => None,
        });
        used.collect::<std::collections::BTreeSet<_>>().len()
    }

    fn profile(&mut self) -> Result<Vec<KernelTime>> {
        profile::profile(&self.shared, &self.items, &self.splits)
    }

    fn recording(&self) -> Option<Recording> {
        Some(Recording::of(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_launch_exceeds_the_budget() {
        let calls = |n: usize, caps: &GpuCaps| {
            let whole = kernels::select(&kernels::samples::product(n), caps).expect("a product has a kernel");
            let cut = whole.into_iter().flat_map(|c| in_pieces(c, caps).expect("a number"));
            cut.map(|c| estimate(caps.class, c.flops, c.bytes)).collect::<Vec<_>>()
        };
        for class in [AdapterClass::Discrete, AdapterClass::Integrated, AdapterClass::Other] {
            let caps = GpuCaps { max_binding_bytes: 1 << 30, ..GpuCaps::sample(class, None) };
            assert_eq!(calls(1024, &caps).len(), 1, "{class:?}");
            let long = calls(8192, &caps);
            assert!(long.len() > 10 && long.iter().all(|&s| s <= 1.1 * budget(class)), "{class:?}: {long:?}");
        }
        assert_eq!(calls(8192, &GpuCaps::sample(AdapterClass::Software, None)).len(), 1);
        let odd = GpuCaps { variants: [("parts".into(), "some".into())].into(), ..GpuCaps::default_limits() };
        let whole = kernels::select(&kernels::samples::product(64), &odd).expect("a product has a kernel");
        assert!(pieces(&whole[0], &odd).unwrap_err().to_string().contains("\"some\" is no number of parts"));
    }
}
