//! What the planner may know of a backend: limits and what it has kernels for. Pure data and questions, no device types.

use crate::ir::{Call, Type};
use crate::plan::Region;

/// Numbers that bound a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most slots (arguments and results together) that one region may touch.
    pub max_operands: usize,
    /// Most bytes that one slot may have.
    pub max_slot_bytes: usize,
}

/// What a backend can do.
pub trait Caps {
    /// Its limits.
    fn limits(&self) -> Limits;
    /// `Ok` if it has a kernel for this call on these argument types, else why not. Asked before planning. An empty
    /// reason says that this composite never has a kernel here; running as its body is then no news to anybody.
    fn kernel(&self, call: &Call, args: &[Type]) -> Result<(), String>;
    /// False if its kernel for this call does not read argument `arg`, nor does the body; that value need not be kept for it. Kernels
    /// read everything otherwise.
    fn reads(&self, call: &Call, args: &[Type], arg: usize) -> bool {
        let _ = (call, args, arg);
        true
    }
    /// `Ok` if it can run this region, else why not (it then runs on the CPU path).
    fn supports(&self, region: &Region) -> Result<(), String>;
    /// True if it reads argument `arg` of this region kind through any strides; if not, the planner copies views first.
    /// `Pointwise` and `Reduce` always do.
    fn reads_strided(&self, region: &Region, arg: usize) -> bool;
    /// True if its products, convolutions and composites read f16 operands and its composites write f16 results. If not,
    /// conversions are regions of their own.
    fn narrows(&self) -> bool {
        false
    }
}
