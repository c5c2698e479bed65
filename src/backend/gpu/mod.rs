//! The WebGPU backend: the only place that names wgpu. Kernel selection (`kernels/`) and capabilities (`caps`) are pure;
//! `device` opens adapters, `pipelines` and `buffers` cache, `record` turns kernel calls into submits.

mod buffers;
pub mod caps;
mod device;
#[cfg(test)]
pub(crate) mod harness;
pub mod kernels;
mod pipelines;
mod profile;
mod record;
#[doc(hidden)]
pub mod recording;
#[cfg(test)]
mod tests;
pub mod tuning;
mod warm;

pub use caps::{AdapterClass, GpuCaps};
pub use device::{Adapter, Request, adapters, choose};

use crate::backend::{Backend, BufferId, DeviceInfo, Executable, Pending, Work};
use crate::error::{Error, Result};
use crate::ir::{Call, Type};
use crate::plan::{Caps, Limits, Region, RegionKind};
use buffers::Buffers;
use device::Device;
use kernels::Mutation;
use kernels::candidates::Picks;
use pipelines::Pipelines;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the device's fault record.
const STATUS_BYTES: usize = 64;

/// What a device and everything made on it share.
pub(crate) struct GpuShared {
    device: Arc<Device>,
    buffers: Buffers,
    status: wgpu::Buffer,
    /// True once a kernel was compiled that can report a fault.
    reports: AtomicBool,
    /// The user's operations that can report faults; site n is entry n - 1.
    sites: Mutex<Vec<String>>,
}

impl GpuShared {
    fn site(&self, name: String) -> u32 {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sites.iter().position(|s| *s == name).unwrap_or_else(|| {
            sites.push(name);
            sites.len() - 1
        });
        at as u32 + 1
    }

    fn wait(&self) -> Result<()> {
        let name = &self.device.info.name;
        let poll = wgpu::PollType::Wait { submission_index: None, timeout: None };
        self.device.device.poll(poll).map_err(|e| Error::device(name, format!("waiting for it: {e}")))?;
        self.device.fault.check(name)
    }
}

/// A WebGPU adapter as a backend.
pub struct Gpu {
    shared: Arc<GpuShared>,
    pipelines: Arc<Pipelines>,
    caps: GpuCaps,
}

impl Gpu {
    /// Opens the adapter that the request means.
    pub fn open(request: &Request) -> Result<Gpu> {
        let device = Arc::new(device::open(request)?);
        let status = buffers::storage(&device, "status", STATUS_BYTES as u64)?;
        let shared = GpuShared {
            device,
            buffers: Buffers::default(),
            status,
            reports: AtomicBool::new(false),
            sites: Mutex::default(),
        };
        let caps = shared.device.caps.clone();
        Ok(Gpu { shared: Arc::new(shared), pipelines: Arc::default(), caps })
    }

    /// This device with a deliberate fault in a kernel's text, for tests of tests. Shares memory with `self`.
    pub fn mutated(&self, mutation: Mutation) -> Gpu {
        let pipelines = Arc::new(Pipelines::mutated(mutation));
        Gpu { shared: self.shared.clone(), pipelines, caps: self.caps.clone() }
    }

    /// This device with nothing compiled yet and so many others to help with compiling. Shares memory with `self`.
    #[cfg(test)]
    pub(crate) fn helped(&self, most: usize) -> Gpu {
        Gpu { shared: self.shared.clone(), pipelines: Arc::new(Pipelines::helped(most)), caps: self.caps.clone() }
    }

    /// Kernels that others have compiled.
    #[cfg(test)]
    pub(crate) fn compiled_elsewhere(&self) -> usize {
        self.pipelines.help.compiled.load(Ordering::Relaxed)
    }

    /// This device with these picks for single regions in place of what it had. Shares memory and pipelines with `self`.
    pub fn with_picks(&self, picks: Picks) -> Gpu {
        let caps = GpuCaps { picks: Arc::new(picks), ..self.caps.clone() };
        Gpu { shared: self.shared.clone(), pipelines: self.pipelines.clone(), caps }
    }

    /// This device with these variants for all regions: kernel stem -> variant. Shares memory and pipelines with `self`.
    pub fn with_variants(&self, variants: BTreeMap<String, String>) -> Gpu {
        let caps = GpuCaps { variants, ..self.caps.clone() };
        Gpu { shared: self.shared.clone(), pipelines: self.pipelines.clone(), caps }
    }

    /// This device with the kernels that an adapter of another class and of its limits would get: what GPUs compute, on a software adapter. For tests.
    /// Shares memory and pipelines with `self`.
    pub fn as_class(&self, class: AdapterClass) -> Gpu {
        let caps = GpuCaps { class, ..self.caps.clone() };
        Gpu { shared: self.shared.clone(), pipelines: self.pipelines.clone(), caps }
    }

    /// What kernel selection knows of this adapter.
    pub fn gpu_caps(&self) -> &GpuCaps {
        &self.caps
    }

    /// Number of pipelines compiled so far.
    pub fn pipelines(&self) -> usize {
        self.pipelines.len()
    }
}

impl Caps for Gpu {
    fn limits(&self) -> Limits {
        let caps = self.gpu_caps();
        // What the adapter binds and what the generated kernels take: a region within both never falls back for its size.
        let max_operands = (caps.max_storage_buffers as usize).min(kernels::operands::MAX_ARGS);
        Limits { max_operands, max_slot_bytes: caps.max_binding_bytes as usize }
    }
    fn kernel(&self, call: &Call, args: &[Type]) -> Result<(), String> {
        kernels::takes(call, args, self.gpu_caps())
    }
    fn reads(&self, call: &Call, args: &[Type], arg: usize) -> bool {
        kernels::attention_stored::reads(call, args, arg, self.gpu_caps())
    }
    fn supports(&self, region: &Region) -> Result<(), String> {
        let most = self.gpu_caps().max_binding_bytes;
        let slots = region.args.iter().filter_map(|a| Some((a.view.span()?.1 as u64 + 1) * a.dtype.bytes() as u64));
        if slots.chain(region.outs.iter().map(|o| o.ty.bytes() as u64)).any(|b| b > most) {
            return Err(format!("an operand exceeds the adapter's limit of {most} bytes per buffer"));
        }
        kernels::select(region, self.gpu_caps()).map(drop)
    }
    fn narrows(&self) -> bool {
        self.gpu_caps().f16
    }
    fn reads_strided(&self, region: &Region, arg: usize) -> bool {
        matches!(region.kind, RegionKind::Pointwise | RegionKind::Reduce)
            || kernels::find(region).is_ok_and(|k| (k.strided)(region, arg))
    }
}

impl Backend for Gpu {
    fn info(&self) -> DeviceInfo {
        let mut info = self.shared.device.info.clone();
        if !self.caps.picks.is_empty() {
            // Part of who computes: other picks add in another order, and a resumed run says so.
            info.driver += &format!(", {}", tuning::name(&self.caps.picks));
        }
        info
    }
    fn gpu(&self) -> Option<&Gpu> {
        Some(self)
    }
    fn as_caps(&self) -> &dyn Caps {
        self
    }
    fn alloc(&self, bytes: usize) -> Result<BufferId> {
        self.shared.buffers.alloc(&self.shared.device, bytes)
    }
    fn free(&self, buffer: BufferId) {
        self.shared.buffers.free(buffer);
    }
    fn write(&self, buffer: BufferId, bytes: &[u8]) -> Result<()> {
        let to = self.shared.buffers.get(buffer)?;
        if bytes.len() as u64 > to.size() {
            let detail = format!("{} bytes do not fit a buffer of {}", bytes.len(), to.size());
            return Err(Error::internal("gpu write", detail));
        }
        // Writes are of whole words; an odd number of f16 ends within one.
        let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        for (at, part) in [(0, words), (words.len() as u64, &last[..if rest.is_empty() { 0 } else { 4 }])] {
            if !part.is_empty() {
                self.shared.device.queue.write_buffer(&to, at, part);
            }
        }
        Ok(())
    }
    fn read(&self, buffer: BufferId, bytes: usize) -> Result<Box<dyn Pending>> {
        let from = self.shared.buffers.get(buffer)?;
        Ok(Box::new(self.shared.buffers.read(&self.shared.device, &from, bytes)?))
    }
    fn compile(&self, work: &[Work]) -> Result<Box<dyn Executable>> {
        Ok(Box::new(record::GpuRun::new(&self.shared, &self.pipelines, &self.caps, work)?))
    }
    fn sync(&self) -> Result<()> {
        self.shared.wait()
    }
    fn check_status(&self) -> Result<()> {
        if !self.shared.reports.load(Ordering::Relaxed) {
            return self.shared.wait();
        }
        let record = self.shared.buffers.read(&self.shared.device, &self.shared.status, STATUS_BYTES)?;
        let bytes = Box::new(record).wait()?;
        let word = |i: usize| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        if word(0) == 0 {
            return Ok(());
        }
        self.shared.device.queue.write_buffer(&self.shared.status, 0, &[0; STATUS_BYTES]);
        let sites = self.shared.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let what = sites.get(word(0) as usize - 1).cloned().unwrap_or_else(|| "an indexed operation".into());
        let (position, value, limit) = (word(1), word(2) as i32, word(3));
        Err(Error::runtime(what, format!("index {value} at position {position} is not in 0..{limit}")))
    }
}
