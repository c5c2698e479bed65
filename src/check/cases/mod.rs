//! The registry of cases: every primitive, every composite and the larger modules, on sizes that do not fit any tile. Adding an operation
//! means adding its cases here and nothing elsewhere: checks, gradient checks and benchmarks iterate over the registry.

mod elementwise;
mod fused;
mod half;
mod index;
mod linalg;
mod modules;
mod movement;
mod reduce;

use super::case::Case;

/// All cases.
pub fn all() -> Vec<Case> {
    families().into_iter().flat_map(|(_, cases)| cases).chain(half::cases()).chain(modules::cases()).collect()
}

/// The cases of operations, by family.
pub fn families() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("elementwise", elementwise::cases()),
        ("movement", movement::cases()),
        ("reductions", reduce::cases()),
        ("products", linalg::cases()),
        ("indexing", index::cases()),
        ("composites", fused::cases()),
    ]
}

/// Sizes around those of workgroups and tiles, and the smallest ones.
const SIZES: [usize; 6] = [1, 3, 63, 64, 65, 257];

/// Shapes or attributes as part of a name: `2x3x4`.
fn by(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
