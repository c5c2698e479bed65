//! What is known not to work where: the short committed list of exceptions, each with its reason.

use crate::check::conformance::file::Case;

/// Functions and modules that may run in part on the CPU although a GPU is asked to do all, with the limit that forces it.
const FALLBACKS: &[(&str, &str)] = &[];

/// True if this case is on the list of those that may run in part on the CPU.
pub fn may_fall_back(case: &Case) -> bool {
    FALLBACKS.iter().any(|(name, _)| *name == case.name)
}
