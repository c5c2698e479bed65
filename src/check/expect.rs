//! What is known not to work where: the short committed lists of exceptions, each with its reason, and the only way to
//! have any. An expected failure that passes is a failure too, so that the list cannot outlive its reasons. Nothing is
//! ever skipped silently.

use crate::check::conformance::file::Case;

/// A failure that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// Part of the adapter's name or driver; empty for all.
    pub adapter: &'static str,
    /// Part of the case's name.
    pub case: &'static str,
    /// Why, with a link where there is one.
    pub reason: &'static str,
}

/// All known failures.
pub const EXPECTATIONS: &[Expectation] = &[];

/// Functions and modules that may run in part on the CPU although a GPU is asked to do all, with the limit that forces it.
const FALLBACKS: &[(&str, &str)] = &[];

/// True if this case is on the list of those that may run in part on the CPU.
pub fn may_fall_back(case: &Case) -> bool {
    FALLBACKS.iter().any(|(name, _)| *name == case.name)
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Wrong, and nobody said it would be.
    Failed(String),
    /// Wrong as expected, for this reason.
    ExpectedFailure(&'static str),
    /// Right, although a failure was expected for this reason: the expectation must go.
    UnexpectedPass(&'static str),
}

impl Verdict {
    /// True for what must not stop a merge.
    pub fn is_good(&self) -> bool {
        matches!(self, Verdict::Passed | Verdict::ExpectedFailure(_))
    }
}

/// Judges an outcome on an adapter against these expectations.
pub fn judge(expectations: &[Expectation], adapter: &str, case: &str, outcome: Result<(), String>) -> Verdict {
    let known = expectations.iter().find(|e| adapter.contains(e.adapter) && case.contains(e.case));
    match (outcome, known) {
        (Ok(()), None) => Verdict::Passed,
        (Ok(()), Some(e)) => Verdict::UnexpectedPass(e.reason),
        (Err(_), Some(e)) => Verdict::ExpectedFailure(e.reason),
        (Err(detail), None) => Verdict::Failed(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_strict() {
        let known = [Expectation { adapter: "llvmpipe", case: "pow/", reason: "pow(0, -y)" }];
        let judge = |adapter, case, outcome| judge(&known, adapter, case, outcome);
        assert_eq!(judge("AMD", "pow/3", Ok(())), Verdict::Passed);
        assert_eq!(judge("AMD", "pow/3", Err("x".into())), Verdict::Failed("x".into()));
        assert_eq!(judge("llvmpipe (LLVM 15)", "pow/3", Err("x".into())), Verdict::ExpectedFailure("pow(0, -y)"));
        assert!(!judge("llvmpipe (LLVM 15)", "pow/3", Ok(())).is_good());
    }
}
