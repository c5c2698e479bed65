//! Conformance cases of functions: tables from torch's names to builders, which read the arguments and attributes
//! they know. What a builder does not ask for is reported as unsupported, never ignored.

mod layers;
pub(super) mod losses;
mod more;
mod pointwise;
mod shapes;

use crate::backend::Device;
use crate::check::conformance::exec::{Built, Inputs, Outcome, run_built};
use crate::check::conformance::file::{Attrs, Case, unsupported};
use crate::error::Result;
use crate::ir::Tensor;
use crate::ops::Reduction;

/// Runs one case.
pub fn run(case: &Case, device: &Device) -> Result<Outcome> {
    let inputs = Inputs::new(case)?;
    let mut built = build(&case.name, &inputs)?;
    inputs.finish()?;
    built.leaves = inputs.leaves();
    run_built(case, device, &inputs.builder, &built)
}

/// Looks the name up in the families.
fn build(name: &str, x: &Inputs) -> Result<Built> {
    let families = [pointwise::build, shapes::build, losses::build, layers::build, more::build];
    for family in families {
        if let Some(built) = family(name, x)? {
            return Ok(built);
        }
    }
    Err(unsupported(format!("function {name}")))
}

/// What a family of functions makes of a name: nothing if it has no such function.
type Found = Result<Option<Built>>;

/// Results and nothing else.
fn outs(outs: impl IntoIterator<Item = Tensor>) -> Found {
    Ok(Some(Built { outs: outs.into_iter().collect(), ..Built::default() }))
}

/// The attribute `reduction`.
fn reduction(attrs: &Attrs) -> Result<Reduction> {
    match attrs.word("reduction", "mean")?.as_str() {
        "mean" => Ok(Reduction::Mean),
        "sum" => Ok(Reduction::Sum),
        "none" => Ok(Reduction::None),
        other => Err(unsupported(format!("reduction {other:?}"))),
    }
}

/// The attribute `dim`, which may be missing (all), one or several.
fn dims(attrs: &Attrs) -> Result<Vec<isize>> {
    Ok(signed(attrs.opt_ints("dim")?.unwrap_or_default()))
}

fn signed(list: Vec<i64>) -> Vec<isize> {
    list.into_iter().map(|n| n as isize).collect()
}

/// A required attribute with integers.
fn ints(attrs: &Attrs, name: &str) -> Result<Vec<i64>> {
    attrs.opt_ints(name)?.ok_or_else(|| unsupported(format!("a call without {name}")))
}

/// A required attribute with one integer.
fn int(attrs: &Attrs, name: &str) -> Result<i64> {
    attrs.opt_int(name)?.ok_or_else(|| unsupported(format!("a call without {name}")))
}

/// A required attribute with counts.
fn counts(attrs: &Attrs, name: &str) -> Result<Vec<usize>> {
    ints(attrs, name)?
        .into_iter()
        .map(|n| usize::try_from(n).map_err(|_| unsupported(format!("a negative {name}"))))
        .collect()
}
