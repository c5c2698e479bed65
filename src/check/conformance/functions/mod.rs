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
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
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

/// The attribute `reduction`, or the older `size_average` and `reduce`, which win where they are given.
fn reduction(attrs: &Attrs) -> Result<Reduction> {
    let (average, reduce) = (attrs.has("size_average"), attrs.has("reduce"));
    let (by_size, reduced) = (attrs.flag("size_average", true)?, attrs.flag("reduce", true)?);
    if average || reduce {
        attrs.same_result(&["reduction"]);
        return Ok(match (reduced, by_size) {
            (false, _) => Reduction::None,
            (true, false) => Reduction::Sum,
            (true, true) => Reduction::Mean,
        });
    }
    match attrs.word("reduction", "mean")?.as_str() {
        "mean" => Ok(Reduction::Mean),
        "sum" => Ok(Reduction::Sum),
        "none" => Ok(Reduction::None),
        other => Err(unsupported(format!("reduction {other:?}"))),
    }
}

/// Which numbers a tensor or attribute holds, in torch's order of promotion.
fn category(t: DType) -> u8 {
    match t {
        DType::Bool => 0,
        t if t.is_float() => 2,
        _ => 1,
    }
}

/// Two operands, each an input or a number among the attributes, of the type that torch promotes them to.
fn operands(x: &Inputs, first: &str, second: &str) -> Result<(Tensor, Tensor)> {
    let given = [x.opt(first), x.opt(second)];
    let number = |name: &str| -> Result<Option<(f64, DType)>> {
        let Some(value) = x.case.attrs.opt_float(name)? else { return Ok(None) };
        let dtype = match x.case.attrs.get(name) {
            Some(v) if v.is_i64() => DType::I32,
            Some(v) if v.is_boolean() => DType::Bool,
            _ => DType::F32,
        };
        Ok(Some((value, dtype)))
    };
    let numbers = [number(first)?, number(second)?];
    let tensors = given.iter().flatten().map(Tensor::dtype);
    // Numbers count where they are of a higher category.
    let all = tensors.chain(numbers.iter().flatten().map(|n| n.1));
    let dtype = all.reduce(|a, b| if category(b) > category(a) { b } else { a });
    let one = |k: usize, name: &str| match (&given[k], numbers[k], dtype) {
        (Some(t), _, Some(dtype)) => Ok(t.cast(dtype)),
        (None, Some((value, _)), Some(dtype)) => Ok(x.builder.constant(Scalar::of(dtype, value))),
        _ => Err(Error::input(&x.case.file, format!("has no input {name:?}"))),
    };
    Ok((one(0, first)?, one(1, second)?))
}

/// Whole numbers and booleans as floats, for functions that only floats have.
fn floating(t: Tensor) -> Tensor {
    if t.dtype().is_float() { t } else { t.cast(DType::F32) }
}

/// Booleans as whole numbers, for functions that count.
fn counting(t: Tensor) -> Tensor {
    if t.dtype() == DType::Bool { t.cast(DType::I32) } else { t }
}

/// A function of numbers on booleans too, which it maps to booleans.
fn logical(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> Tensor {
    let counts: Vec<Tensor> = inputs.iter().map(|&t| counting(t.clone())).collect();
    let result = f(&counts);
    if inputs[0].dtype() == DType::Bool { result.gt(&result.like(0.0)) } else { result }
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
