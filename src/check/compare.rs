//! Compares results with a reference, element by element. NaN, infinities and shapes must agree; a comparison is
//! written `!(error <= bound)`, so that NaN never passes. Nothing is averaged over a tensor.

use super::bound::Approx;
use crate::tensor::{Data, HostTensor};
use std::fmt;

/// What is wrong with one tensor of results.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// Another element type or shape.
    Type {
        /// What came out.
        actual: String,
        /// What should have.
        expected: String,
    },
    /// Elements beyond their bounds.
    Elements {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
        /// Index of the worst, one number per dimension.
        index: Vec<usize>,
        /// Its value.
        actual: f64,
        /// The reference.
        expected: f64,
        /// The error it was allowed.
        bound: f64,
        /// How many f32 values lie between the two, where both are finite.
        ulps: Option<u64>,
    },
    /// Too few elements have a bound for the comparison to mean anything.
    Unchecked {
        /// How many have none.
        count: usize,
        /// Of how many.
        total: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Type { actual, expected } => write!(f, "got {actual}, expected {expected}"),
            Mismatch::Elements { count, total, index, actual, expected, bound, ulps } => {
                write!(
                    f,
                    "{count} of {total} elements are off; worst at {index:?}: {actual:e}, expected {expected:e}, error {:e}, bound {bound:e}",
                    (actual - expected).abs()
                )?;
                ulps.map_or(Ok(()), |n| write!(f, ", {n} ulp"))
            }
            Mismatch::Unchecked { count, total } => {
                write!(f, "{count} of {total} elements cannot be checked: they hang on undecided comparisons")
            }
        }
    }
}

/// Distance of two finite floats, counted in f32 values.
pub fn ulps(a: f32, b: f32) -> u64 {
    let ordered = |x: f32| {
        let bits = i64::from(x.to_bits() as i32);
        if bits < 0 { i64::from(i32::MIN) - bits } else { bits }
    };
    ordered(a).abs_diff(ordered(b))
}

/// The excess of one element over its bound, or `None` if it passes. Larger is worse; what is not finite is worst.
fn excess(actual: f64, expected: f64, bound: f64) -> Option<f64> {
    if bound == f64::INFINITY || (actual.is_nan() && expected.is_nan()) || actual == expected {
        return None;
    }
    let error = (actual - expected).abs();
    if actual.is_finite() && expected.is_finite() {
        return if !(error <= bound) { Some(error / bound.max(f64::MIN_POSITIVE)) } else { None };
    }
    Some(f64::INFINITY)
}

/// Checks one result. Each element may be off by `slack` times its bound; the reference is rounded to f32 first, which
/// is half an ulp that no result can avoid. A flushed denormal passes for what it was flushed from.
pub fn compare(actual: &HostTensor, expected: &Approx, slack: f64) -> Result<(), Mismatch> {
    let ty = expected.value.ty();
    if actual.dtype() != ty.dtype || actual.shape != ty.shape {
        let actual = format!("{}{}", actual.dtype(), actual.shape);
        return Err(Mismatch::Type { actual, expected: ty.to_string() });
    }
    let (values, references) = (actual.to_f64(), HostTensor::from(&expected.value).to_f64());
    let floats = matches!(actual.data, Data::F32(_));
    let (mut count, mut unchecked, mut worst) = (0, 0, None::<(f64, usize)>);
    for (i, (&a, &r)) in values.iter().zip(&references).enumerate() {
        if expected.error[i] == f64::INFINITY {
            unchecked += 1;
        }
        let flushed = floats && r.abs() < f64::from(f32::MIN_POSITIVE) && a == 0.0;
        if let (Some(e), false) = (excess(a, r, slack * expected.error[i]), flushed) {
            count += 1;
            if worst.is_none_or(|(w, _)| e > w) {
                worst = Some((e, i));
            }
        }
    }
    let total = values.len();
    if let Some((_, at)) = worst {
        let (a, r) = (values[at], references[at]);
        let both = floats && a.is_finite() && r.is_finite();
        return Err(Mismatch::Elements {
            count,
            total,
            index: unravel(&actual.shape, at),
            actual: a,
            expected: r,
            bound: slack * expected.error[at],
            ulps: both.then(|| ulps(a as f32, r as f32)),
        });
    }
    // One undecided element in ten is the most that a case may leave open (and always one).
    if unchecked > 1 + total / 10 {
        return Err(Mismatch::Unchecked { count: unchecked, total });
    }
    Ok(())
}

/// The largest error as a fraction of what it may be, of a result that [`compare`] passes. Elements without a bound, and
/// those that must be exact, count as 0.
pub fn fraction(actual: &HostTensor, expected: &Approx, slack: f64) -> f64 {
    let (values, references) = (actual.to_f64(), HostTensor::from(&expected.value).to_f64());
    let bounds = expected.error.iter().map(|e| slack * e);
    let errors = values.iter().zip(&references).map(|(a, r)| (a - r).abs());
    let checked = errors.zip(bounds).filter(|(e, b)| e.is_finite() && b.is_finite() && *b > 0.0);
    // A flushed denormal may be far beyond its bound, and passes.
    checked.map(|(e, b)| (e / b).min(1.0)).fold(0.0, f64::max)
}

/// The index of the element at `position`.
fn unravel(shape: &[usize], mut position: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for d in (0..shape.len()).rev() {
        index[d] = position % shape[d].max(1);
        position /= shape[d].max(1);
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::reference::Array;

    fn expected(v: &[f64], error: f64) -> Approx {
        Approx { value: Array::floats([v.len()], v.to_vec()), error: vec![error; v.len()] }
    }
    fn check(actual: &[f32], reference: &[f64], error: f64) -> Result<(), Mismatch> {
        let actual = HostTensor::f32([actual.len()], actual.to_vec()).unwrap();
        compare(&actual, &expected(reference, error), 1.0)
    }

    #[test]
    fn passes_and_failures() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        assert_eq!(check(&[1.0, 2.0], &[1.0, 2.0 + 1e-7], 1e-6), Ok(()));
        assert!(check(&[1.0, 2.1], &[1.0, 2.0], 1e-6).is_err());
        assert!(check(&[f32::NAN], &[1.0], 1e30).is_err());
        assert!(check(&[1.0], &[nan], 1e30).is_err());
        assert!(check(&[f32::INFINITY], &[1e38], 1e38).is_err());
        assert!(check(&[f32::NEG_INFINITY], &[inf], 1.0).is_err());
        assert!(check(&[1.0], &[inf], 1.0).is_err());
        assert_eq!(check(&[f32::NAN, f32::INFINITY, -0.0], &[nan, inf, 0.0], 0.0), Ok(()));
        assert_eq!(check(&[0.0], &[1e-39], 0.0), Ok(()));
    }

    #[test]
    fn reports_the_worst_element() {
        let e = check(&[1.0, 2.5, 3.0 + 1.0], &[1.0, 2.0, 3.0], 1e-3).unwrap_err();
        let Mismatch::Elements { count, total, index, ulps, .. } = &e else { panic!("{e}") };
        assert_eq!((*count, *total, index.as_slice(), *ulps), (2, 3, &[2][..], Some(1 << 22)));
        assert!(e.to_string().contains("2 of 3 elements"), "{e}");
        assert_eq!(super::ulps(-1e-45, 1e-45), 2);
    }

    #[test]
    fn nothing_checked_is_a_failure() {
        assert!(matches!(check(&[1.0; 20], &[5.0; 20], f64::INFINITY), Err(Mismatch::Unchecked { .. })));
    }
}
