//! Folds over neighbouring lanes by subgroup operations, in place of trees in workgroup memory: the variants `subgroup`. They run on subgroups of
//! any size from two lanes on, and of sizes that vary (32 or 64 on some chips): neighbours within the smallest size exchange values, what is left
//! meets in workgroup memory, at two barriers a fold instead of one a step. A fold's result is not taken by `workgroupUniformLoad`, since
//! teams of one workgroup have results of their own; texts use it in no condition of a barrier, as the lint checks.
//!
//! What is assumed: a workgroup that is a multiple of the largest subgroup is made of full ones. Vulkan promises that of pipelines that ask for it, which
//! wgpu has no way to; drivers do it for all.

use super::Shader;
use crate::backend::gpu::caps::GpuCaps;

/// A fold: its function's name, the type, and what joins `a` and `b`.
pub(super) type Fold<'a> = (&'a str, &'a str, &'a str);

/// The folds of `common/reduce.wgsl`.
pub(super) const TREES: [Fold<'static>; 3] =
    [("tree_sum", "f32", "a + b"), ("tree_sum2", "vec2<f32>", "a + b"), ("tree_max", "f32", "max_nan(a, b)")];

/// How many of `lanes` neighbours (a power of two) are sure to be of one subgroup, if a workgroup of so many invocations is whole subgroups.
pub(super) fn near(wg: u32, lanes: u32, caps: &GpuCaps) -> Option<u32> {
    let (least, most) = caps.subgroups?;
    let near = (1 << least.max(1).ilog2()).min(lanes);
    (near > 1 && wg.is_multiple_of(most) && lanes.is_multiple_of(near)).then_some(near)
}

impl Shader {
    /// Adds these folds over `LANES` lanes by subgroups, `near` of them at a time, and numbers the invocations of `main` accordingly.
    pub(super) fn subgroup_folds(self, near: u32, folds: &[Fold]) -> Shader {
        let text = include_str!("../../../../shaders/subgroup_fold.wgsl");
        folds.iter().fold(self.consts(&[("NEAR", near)]).lanes_by_subgroup(), |shader, (name, ty, join)| {
            shader.header(text.replace("NAME", name).replace("TYPE", ty).replace("JOIN", join))
        })
    }
}

/// True if the kernel `stem` should fold by subgroup operations: where asked for, and on software adapters under every variant but those that are
/// trees. There a barrier keeps the loops around it from being compiled well: with the same lanes batch norm of [32, 64, 784] takes 1.8 ms instead of
/// 3.2 on lavapipe, and on SwiftShader, where two subgroups meet in workgroup memory, 7.1 instead of 7.9.
pub(super) fn wanted(stem: &str, caps: &GpuCaps) -> bool {
    match caps.wanted(stem) {
        Some("subgroup") => true,
        Some("tree" | "tree_quads") => false,
        _ => caps.software(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::caps::AdapterClass;

    #[test]
    fn neighbours_are_of_one_subgroup_of_any_size() {
        let of = |sizes, wg, lanes| near(wg, lanes, &GpuCaps::sample(AdapterClass::Discrete, sizes));
        assert_eq!(of(Some((32, 32)), 256, 256), Some(32));
        assert_eq!(of(Some((32, 64)), 64, 64), Some(32));
        assert_eq!(of(Some((32, 64)), 64, 16), Some(16));
        // Half a workgroup of 32 would be an unfilled subgroup of 64.
        assert_eq!(of(Some((32, 64)), 32, 32), None);
        assert_eq!(of(Some((4, 64)), 128, 128), Some(4));
        assert_eq!(of(Some((1, 1)), 64, 64), None);
        assert_eq!(of(None, 64, 64), None);
    }
}
