//! Backends run plans. Three of them behind one trait: `reference` (the definition), `cpu` (fast, no GPU needed) and
//! `gpu` (WebGPU). What is above this module never names one of them.

pub mod cpu;
mod device;
mod exec;
pub mod gpu;
mod program;
pub mod reference;
mod store;

pub use device::Device;
pub use program::{Fetches, Program, Stats};
pub use store::Store;

use crate::error::{Error, Result};
use crate::plan::{Caps, Region};

/// A buffer of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u64);

/// Which of the three a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// Naive loops with f64 sums: the definition of every operation.
    Reference,
    /// The fast CPU path.
    Cpu,
    /// A WebGPU adapter.
    Gpu,
}

/// Who a backend is, for people.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// Which backend.
    pub kind: BackendKind,
    /// Name of the adapter or processor.
    pub name: String,
    /// Driver and API, or what the CPU path uses.
    pub driver: String,
    /// True for an adapter that computes on the CPU (lavapipe, SwiftShader, WARP).
    pub software: bool,
}

/// Bytes on their way from a device.
pub trait Pending {
    /// True once `wait` will not block. Never blocks.
    fn ready(&mut self) -> bool;
    /// Blocks until the bytes are there.
    fn wait(self: Box<Self>) -> Result<Vec<u8>>;
}

/// A run of steps, ready to be repeated.
pub trait Executable {
    /// Starts all steps in order. Returns when they are submitted, not when they are done.
    fn run(&mut self) -> Result<()>;
    /// As [`Executable::run`], and starts reading the first bytes of some of this backend's buffers as they are after it, where
    /// that costs less than reading them by [`Backend::read`]; `None` (after the run) leaves that to the caller.
    fn run_reading(&mut self, _reads: &[(BufferId, usize)]) -> Result<Option<Vec<Box<dyn Pending>>>> {
        self.run()?;
        Ok(None)
    }
    /// Dispatches (kernel launches) per run.
    fn dispatches(&self) -> usize;
    /// Submits per run.
    fn submits(&self) -> usize {
        0
    }
    /// True if [`Executable::profile`] can tell times.
    fn profiles(&self) -> bool {
        false
    }

    /// Different compiled kernels (pipelines) that a run uses; 0 where nothing is compiled.
    fn pipelines(&self) -> usize {
        0
    }
    /// Runs once and gives the device's own time of every kernel launch, in order. Errors where it cannot tell.
    fn profile(&mut self) -> Result<Vec<KernelTime>> {
        Err(Error::input("profile", "this device has no timestamps; measure whole runs by the wall clock"))
    }
    /// What a run submits, for measuring the graphics library without kiln; `None` where there is none.
    #[doc(hidden)]
    fn recording(&self) -> Option<gpu::recording::Recording> {
        None
    }
}

/// What one kernel launch took, by the device's clock (on software adapters by the host's).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelTime {
    /// The kernel.
    pub kernel: &'static str,
    /// Which variant of it.
    pub variant: &'static str,
    /// Nanoseconds.
    pub ns: f64,
    /// Floating-point operations, about.
    pub flops: u64,
    /// Bytes read and written, at least.
    pub bytes: u64,
}

/// One region or copy with its slots resolved to buffers: `args` and `outs` run parallel to the region's.
pub enum Work<'a> {
    /// Run a region.
    Run {
        /// The region.
        region: &'a Region,
        /// The buffer of each argument (`None` for `Source::Iota`).
        args: Vec<Option<BufferId>>,
        /// The buffer of each result.
        outs: Vec<BufferId>,
    },
    /// Copy whole buffers of this backend.
    Copy {
        /// Source.
        from: BufferId,
        /// Destination.
        to: BufferId,
        /// How much.
        bytes: usize,
    },
}

/// Memory and execution on one device. Operations take effect in the order in which they are called.
pub trait Backend: Caps + Send + Sync {
    /// Who this is.
    fn info(&self) -> DeviceInfo;
    /// This backend as a WebGPU adapter, if it is one.
    fn gpu(&self) -> Option<&gpu::Gpu> {
        None
    }
    /// This backend as what the planner may know of it.
    fn as_caps(&self) -> &dyn Caps;
    /// New memory of this size, holding zeros (sizes of 0 are allowed).
    fn alloc(&self, bytes: usize) -> Result<BufferId>;
    /// Gives memory back. The id must not be used again.
    fn free(&self, buffer: BufferId);
    /// Writes at the start of a buffer.
    fn write(&self, buffer: BufferId, bytes: &[u8]) -> Result<()>;
    /// Reads `bytes` from the start of a buffer, as they are after all work so far; later work may overwrite the buffer.
    fn read(&self, buffer: BufferId, bytes: usize) -> Result<Box<dyn Pending>>;
    /// Prepares work: chooses kernels, makes pipelines and bind groups. All cost that can be paid once is paid here.
    fn compile(&self, work: &[Work]) -> Result<Box<dyn Executable>>;
    /// Blocks until all work is done.
    fn sync(&self) -> Result<()>;
    /// Errors if a kernel has reported a fault since the last call (an index out of range: which operation, which
    /// position). Blocks until all work so far is done.
    fn check_status(&self) -> Result<()>;
}
