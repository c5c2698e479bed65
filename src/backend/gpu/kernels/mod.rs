//! Kernel selection: a region and the adapter's capabilities in, kernel calls out. Pure: no wgpu type, no device.
//!
//! One module per kernel, of the same stem as its file in `shaders/`. Each has a `KERNEL` row; [`all`] lists them, and
//! everything else (dispatch, capability questions, shader tests, mutation tests) iterates over that list.

pub mod argmax;
pub mod attention;
pub(super) mod attention_stored;
mod attention_tile;
pub mod batch_norm;
mod call;
pub mod candidates;
pub mod chain;
pub mod check_index;
mod choice;
pub mod conv2d;
mod conv2d_packed;
pub mod copy_strided;
pub mod cross_entropy;
pub mod cumsum;
mod epilogue;
pub mod expr;
mod gemm;
pub mod half;
#[cfg(test)]
mod harness;
pub mod launches;
pub mod layer_norm;
mod loader;
pub mod matmul;
pub mod operands;
mod packed;
pub mod pad;
pub mod parts;
pub mod pointwise;
pub mod pool;
pub mod reduce;
mod row_team;
mod rows;
mod sample;
pub mod samples;
pub mod scatter_add;
mod shader;
pub mod softmax;
pub mod sort;
mod subgroup;
pub mod take;
pub mod take_along;

pub(crate) use call::params;
pub use call::{Bind, Grid, IMAGE_WIDTH, KernelCall, ParamStruct, Params};
pub use shader::{Shader, repeat, repeat2, storage_type};

use crate::backend::gpu::caps::GpuCaps;
use crate::ir::{Call, Node, Prim, Type};
use crate::plan::{Operand, Region, RegionKind, Source};

/// Chooses kernels for a region, or says why there is none.
pub type Select = fn(&Region, &GpuCaps) -> Result<Vec<KernelCall>, String>;

/// What a kernel module serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Regions of this kind.
    Kind(RegionKind),
    /// Calls of the composite of this name.
    Composite(&'static str),
}

/// A deliberate fault of a shader text, which the kernel's tests must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutation {
    /// Label of the kernel calls whose text is changed.
    pub stem: &'static str,
    /// What is replaced; it occurs in some text of the kernel.
    pub find: &'static str,
    /// By what.
    pub replace: &'static str,
}

impl KernelInfo {
    /// Names under which [`GpuCaps::variants`] may ask for a variant of this kernel: products and convolutions by their family's, attention by the
    /// composite's, the others by stem.
    pub fn asked_by(&self) -> impl Iterator<Item = &'static str> {
        let composite = if let Serves::Composite(name) = self.serves { Some(name) } else { None };
        self.stems.iter().copied().chain(composite).chain(["matmul", "conv2d"])
    }
}

/// A kernel module's row in the registry.
pub struct KernelInfo {
    /// What it serves.
    pub serves: Serves,
    /// Labels that its calls can have (stems of the .wgsl files).
    pub stems: &'static [&'static str],
    /// Variants that its calls can have; each must be reached by a sample under some capabilities.
    pub variants: &'static [&'static str],
    /// Chooses the calls for a region.
    pub select: Select,
    /// For composites, asked before planning: `Ok` if these attributes and argument types have a kernel.
    pub takes: fn(&Call, &[Type], &GpuCaps) -> Result<(), String>,
    /// True if argument `.1` of such a region is read through any strides.
    pub strided: fn(&Region, usize) -> bool,
    /// Regions that together make every text (tests iterate over them).
    pub samples: fn() -> Vec<Region>,
    /// Faults that tests must catch.
    pub mutations: &'static [Mutation],
}

/// Every kernel module. A new kernel adds its row here.
pub fn all() -> &'static [&'static KernelInfo] {
    static ALL: &[&KernelInfo] = &[
        &pointwise::KERNEL,
        &reduce::KERNEL,
        &argmax::KERNEL,
        &cumsum::KERNEL,
        &sort::KERNEL,
        &pad::KERNEL,
        &copy_strided::KERNEL,
        &take::KERNEL,
        &scatter_add::KERNEL,
        &take_along::KERNEL,
        &take_along::SCATTER,
        &matmul::KERNEL,
        &conv2d::KERNEL,
        &softmax::KERNELS[0],
        &softmax::KERNELS[1],
        &softmax::KERNELS[2],
        &softmax::KERNELS[3],
        &cross_entropy::KERNELS[0],
        &cross_entropy::KERNELS[1],
        &layer_norm::KERNELS[0],
        &layer_norm::KERNELS[1],
        &batch_norm::KERNELS[0],
        &batch_norm::KERNELS[1],
        &pool::KERNELS[0],
        &pool::KERNELS[1],
        &pool::KERNELS[2],
        &pool::KERNELS[3],
        &attention::KERNELS[0],
        &attention::KERNELS[1],
    ];
    ALL
}

/// All committed mutations.
pub fn mutations() -> Vec<Mutation> {
    all().iter().flat_map(|k| k.mutations).chain(chain::MUTATIONS).copied().collect()
}

/// The row that serves this region, or why there is none.
pub fn find(region: &Region) -> Result<&'static KernelInfo, String> {
    match region.kind {
        RegionKind::Fused => {
            let call = fused_call(region).ok_or("the region holds no composite call")?;
            composite(call.composite.name())
        }
        kind => all()
            .iter()
            .find(|k| k.serves == Serves::Kind(kind))
            .copied()
            .ok_or_else(|| format!("the GPU backend has no kernel for {kind:?} regions")),
    }
}

fn composite(name: &str) -> Result<&'static KernelInfo, String> {
    let serves = |k: &&&KernelInfo| matches!(k.serves, Serves::Composite(n) if n == name);
    all().iter().find(serves).copied().ok_or_else(|| format!("the GPU backend has no kernel for {name}"))
}

/// The composite call of a fused region.
pub fn fused_call(region: &Region) -> Option<&Call> {
    region.body.nodes.iter().find_map(|n| match &n.prim {
        Prim::Call(c) => Some(c),
        _ => None,
    })
}

/// The kernel calls of a region, or why it has none. Regions without elements have no calls.
pub fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let kernel = find(region)?;
    let elems = |n: usize| i64::try_from(n).is_ok_and(|n| n < 1 << 31);
    for arg in &region.args {
        if arg.view.span().is_some_and(|(_, hi)| !elems(hi)) || !elems(arg.view.shape.elems()) {
            return Err(format!("an operand reaches beyond 2^31 elements ({})", arg.view.shape));
        }
    }
    if let Some(out) = region.outs.iter().find(|o| !elems(o.ty.shape.elems())) {
        return Err(format!("the result {} has more than 2^31 elements", out.ty));
    }
    if region.outs.iter().all(|o| o.ty.shape.elems() == 0) {
        return Ok(Vec::new());
    }
    // A pick of a tuning file that no longer fits is none; compiling says so.
    match candidates::picked(region, caps) {
        Some((_, Ok(calls))) => Ok(calls),
        _ => plain(kernel, region, caps),
    }
}

/// The calls that a kernel chooses without tuning, if the adapter binds as many buffers.
fn plain(kernel: &KernelInfo, region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let calls = selected(kernel, region, caps)?;
    for call in &calls {
        let buffers = call.bindings.iter().filter(|b| !matches!(b, Bind::Image { .. })).count();
        if buffers > caps.max_storage_buffers as usize {
            return Err(format!(
                "{} binds {buffers} buffers, the adapter allows {}",
                call.label, caps.max_storage_buffers
            ));
        }
    }
    Ok(calls)
}

/// The calls that a kernel chooses, with f16 where operands and results are.
fn selected(kernel: &KernelInfo, region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let half = half::stored(region);
    if half && !caps.f16 {
        return Err("the adapter's shaders have no f16 (the feature SHADER_F16)".into());
    }
    let mut calls = (kernel.select)(region, caps)?;
    calls.iter_mut().try_for_each(|call| half::finish(region, call))?;
    Ok(calls)
}

/// Under this name of a variant, [`BODY`] asks for no kernel of any composite.
pub const COMPOSITES: &str = "composites";
/// See [`COMPOSITES`].
pub const BODY: &str = "body";

/// `Ok` if there is a kernel for this call on these argument types, else why not.
pub fn takes(call: &Call, args: &[Type], caps: &GpuCaps) -> Result<(), String> {
    if caps.wanted(COMPOSITES) == Some(BODY) {
        return Err("bodies were asked for".into());
    }
    (composite(call.composite.name())?.takes)(call, args, caps)
}

/// The one node of a region that is no input.
pub fn only_node(region: &Region) -> Result<&Node, String> {
    let mut nodes = region.body.nodes.iter().filter(|n| !matches!(n.prim, Prim::Input { .. }));
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node),
        _ => Err(format!("a {:?} region holds one operation", region.kind)),
    }
}

/// Argument `i`, which must lie in a slot.
pub fn slot_arg(region: &Region, i: usize) -> Result<&Operand, String> {
    match region.args.get(i) {
        Some(arg) if matches!(arg.source, Source::Slot(_)) => Ok(arg),
        Some(_) => Err("an operand is positions without memory".into()),
        None => Err(format!("there is no argument {i}")),
    }
}

/// Argument `i`, which must lie in a slot in row-major order (possibly after an offset).
pub fn dense(region: &Region, i: usize) -> Result<&Operand, String> {
    let arg = slot_arg(region, i)?;
    if arg.view.is_contiguous() { Ok(arg) } else { Err(format!("argument {i} is not dense")) }
}
