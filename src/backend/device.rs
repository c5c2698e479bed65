//! `Device`: which backend runs the plans, and which one takes what it cannot. Opening one says what was chosen and why.

use crate::backend::cpu::Cpu;
use crate::backend::gpu::tuning::{self, Tuning};
use crate::backend::gpu::{AdapterClass, Gpu, Request, adapters};
use crate::backend::reference::Reference;
use crate::backend::{Backend, DeviceInfo};
use crate::error::Result;
use crate::plan::{Caps, Place};
use std::path::Path;
use std::sync::Arc;

/// A backend to run plans on, with the CPU path behind it. Clones share it.
#[derive(Clone)]
pub struct Device {
    device: Arc<dyn Backend>,
    host: Option<Arc<dyn Backend>>,
    reason: String,
}

impl Device {
    /// Opens what is asked for: `auto`, `cpu`, `reference`, `gpu`, `software`, or part of an adapter's name.
    ///
    /// `auto` takes a discrete or integrated GPU if there is one, else the CPU path; never a software adapter, which is far
    /// slower than the CPU path on the same cores. `gpu` with only a software adapter is an error that says so.
    pub fn open(request: &str) -> Result<Device> {
        match request {
            "reference" => Ok(Device::with(Arc::new(Reference::new()), None, "the reference was asked for")),
            "cpu" => Ok(Device::with(Arc::new(Cpu::new()), None, "the CPU path was asked for")),
            "auto" => Device::best(),
            other => {
                let gpu = Gpu::open(&Request::parse(other))?;
                let reason = match other {
                    "gpu" => "the best GPU was asked for".to_string(),
                    "software" => "a software adapter was asked for".to_string(),
                    name => format!("its name contains {name:?}"),
                };
                Ok(Device::with(Arc::new(gpu), Some(Arc::new(Cpu::new())), reason))
            }
        }
    }

    /// The best GPU, else the CPU path.
    fn best() -> Result<Device> {
        let cpu = |why: String| Ok(Device::with(Arc::new(Cpu::new()), None, why));
        let found = adapters();
        if found.iter().all(|a| a.class == AdapterClass::Software) {
            return cpu(match found.first() {
                None => "there is no GPU adapter".into(),
                Some(a) => {
                    format!("there is no GPU, and the software adapter {:?} is slower than the CPU path", a.name)
                }
            });
        }
        match Gpu::open(&Request::Gpu) {
            Ok(gpu) => {
                Ok(Device::with(Arc::new(gpu), Some(Arc::new(Cpu::new())), "it is the best GPU of this machine"))
            }
            Err(e) => cpu(format!("the GPU could not be opened ({e})")),
        }
    }

    /// A device made of these backends: for tests, and for backends from outside.
    pub fn with(device: Arc<dyn Backend>, host: Option<Arc<dyn Backend>>, reason: impl Into<String>) -> Device {
        Device { device, host, reason: reason.into() }
    }

    /// This device with the variants that `kiln tune` picked for this adapter, as far as they are still about it; itself where there
    /// are none. A file that cannot be used is said and not used.
    pub fn tuned(self) -> Device {
        let info = self.info();
        match self.device.gpu().and_then(|_| tuning::path(&info)) {
            Some(path) => self.tuned_by(&path),
            None => self,
        }
    }

    /// As [`Device::tuned`], by this file.
    pub fn tuned_by(self, path: &Path) -> Device {
        let info = self.info();
        let Some(gpu) = self.device.gpu() else { return self };
        match Tuning::read(path, &info) {
            Ok(Some(file)) => {
                log::info!("{} tuned picks of {}", file.entries.len(), path.display());
                Device { device: Arc::new(gpu.with_picks(file.picks())), ..self }
            }
            Ok(None) => self,
            Err(why) => {
                log::warn!("the tuning file {} {why}; it is not used (`kiln tune` makes a new one)", path.display());
                self
            }
        }
    }

    /// This device with the kernels that a discrete GPU of its limits would get, if it is a WebGPU adapter: what GPUs compute, on a software adapter.
    /// For tests.
    pub fn as_gpu(self) -> Device {
        match self.device.gpu() {
            Some(gpu) => Device { device: Arc::new(gpu.as_class(AdapterClass::Discrete)), ..self },
            None => self,
        }
    }

    /// The device as a WebGPU adapter, if it is one.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.device.gpu()
    }

    /// Why this device and no other.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Who it is.
    pub fn info(&self) -> DeviceInfo {
        self.device.info()
    }

    /// The backend of a place; the device's own where there is no other.
    pub fn backend(&self, place: Place) -> &Arc<dyn Backend> {
        match (place, &self.host) {
            (Place::Host, Some(host)) => host,
            (Place::Host, None) | (Place::Device, _) => &self.device,
        }
    }

    /// What the planner may know of the device.
    pub fn caps(&self) -> &dyn Caps {
        self.device.as_caps()
    }

    /// What the planner may know of the CPU path behind it.
    pub fn host_caps(&self) -> Option<&dyn Caps> {
        self.host.as_ref().map(|h| h.as_caps())
    }

    /// Blocks until all work on it is done.
    pub fn sync(&self) -> Result<()> {
        self.device.sync()?;
        self.host.as_ref().map_or(Ok(()), |h| h.sync())
    }

    /// Errors if a kernel reported a fault since the last call. Blocks until all work so far is done.
    pub fn check_status(&self) -> Result<()> {
        self.device.check_status()?;
        self.host.as_ref().map_or(Ok(()), |h| h.check_status())
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}: {})", self.info().name, self.reason)
    }
}
