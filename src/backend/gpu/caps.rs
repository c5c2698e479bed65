//! `GpuCaps`: what kernel selection may know of an adapter. Pure data, no wgpu type, so that selection is tested
//! without a device.

use super::kernels::candidates::Picks;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What sort of processor an adapter is. Defaults of kernel variants go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdapterClass {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A rasterizer that runs on the CPU (lavapipe, SwiftShader, WARP).
    Software,
    /// Virtual or unknown.
    Other,
}

/// Limits and features of an adapter, as far as kernels depend on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuCaps {
    /// What sort of processor it is.
    pub class: AdapterClass,
    /// Smallest and largest subgroup size, or `None` where subgroup operations do not work.
    pub subgroups: Option<(u32, u32)>,
    /// Most invocations of one workgroup.
    pub max_invocations: u32,
    /// Most invocations of one workgroup along x, y and z.
    pub max_workgroup_size: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Most workgroups of one dispatch along each dimension.
    pub max_workgroups: u32,
    /// Most storage buffers that one kernel may bind (one fewer than the adapter says: Metal hides one).
    pub max_storage_buffers: u32,
    /// Most bytes of one storage binding.
    pub max_binding_bytes: u64,
    /// Most rows of a storage texture.
    pub image_rows: u32,
    /// True if shaders may use f16.
    pub f16: bool,
    /// True if shaders may use u64.
    pub int64: bool,
    /// True if a buffer can be declared `@coherent`.
    pub coherent: bool,
    /// Variants that a test or a measurement wants for all regions instead of the default: kernel stem -> variant.
    pub variants: BTreeMap<String, String>,
    /// What a tuning file wants for single regions.
    pub picks: Arc<Picks>,
}

impl GpuCaps {
    /// The limits that every WebGPU adapter has, on a discrete GPU without subgroups: for tests without a device.
    pub fn default_limits() -> GpuCaps {
        GpuCaps {
            class: AdapterClass::Discrete,
            subgroups: None,
            max_invocations: 256,
            max_workgroup_size: [256, 256, 64],
            workgroup_bytes: 16 << 10,
            max_workgroups: 65_535,
            max_storage_buffers: 7,
            max_binding_bytes: 128 << 20,
            image_rows: 8192,
            f16: false,
            int64: false,
            coherent: false,
            variants: BTreeMap::new(),
            picks: Arc::default(),
        }
    }

    /// Default limits, but of this class, with these subgroup sizes: for tests without a device.
    pub fn sample(class: AdapterClass, subgroups: Option<(u32, u32)>) -> GpuCaps {
        GpuCaps { class, subgroups, ..GpuCaps::default_limits() }
    }

    /// True for adapters that compute on the CPU: wide workgroup trees are slow there.
    pub fn software(&self) -> bool {
        self.class == AdapterClass::Software
    }

    /// True if this kernel should load eight words at once, as `vec4<u64>`, where its operands allow it: lavapipe takes apart every load lane
    /// by lane and component by component, and 64 bits cost what 32 do (benches/REJECTED.md has what each load costs).
    pub fn wide(&self, stem: &str) -> bool {
        self.int64 && self.wanted(stem).map_or(self.software(), |v| v == "wide")
    }

    /// The variant that is asked for, if any. `kernel` asks for a kernel of a composite and leaves the choice.
    pub fn wanted(&self, stem: &str) -> Option<&str> {
        self.variants.get(stem).map(String::as_str).filter(|&v| v != "kernel")
    }

    /// Lanes of a subgroup where that is one number, or 1.
    pub fn lanes(&self) -> u32 {
        self.subgroups.filter(|s| s.0 == s.1).map_or(1, |s| s.0)
    }

    /// Invocations of a workgroup whose work needs no cooperation. Few on software adapters, where a workgroup runs
    /// on one thread; never above the limit.
    pub fn flat_workgroup(&self) -> u32 {
        let wanted = if self.software() { 64 } else { 256 };
        wanted.min(self.max_invocations).min(self.max_workgroup_size[0])
    }

    /// Invocations of a workgroup that folds values in a tree, always a power of two: on software adapters one SIMD
    /// group, since each barrier costs nanoseconds per invocation there.
    pub fn tree_workgroup(&self) -> u32 {
        let wanted = if self.software() { 8 } else { 256 };
        let most = wanted.min(self.max_invocations).min(self.max_workgroup_size[0]).max(1);
        1 << most.ilog2()
    }
}
