//! Comparing results with references, in f64, element by element. NaN passes only where the reference is NaN.

use crate::check::conformance::file::Tolerance;
use crate::tensor::HostTensor;

/// Whether `got` is close enough to `want`.
pub fn passes(got: f64, want: f64, tol: Tolerance) -> bool {
    if want.is_nan() {
        return got.is_nan();
    }
    if want.is_infinite() {
        return got == want;
    }
    got.is_finite() && (got - want).abs() <= tol.atol + tol.rtol * want.abs()
}

/// How far an element that does not pass is off, in multiples of its tolerance.
fn badness(got: f64, want: f64, tol: Tolerance) -> f64 {
    let excess = (got - want).abs() / (tol.atol + tol.rtol * want.abs());
    if excess.is_nan() { f64::INFINITY } else { excess }
}

/// Compares a whole tensor; the message names the worst element.
pub fn compare(name: &str, got: &HostTensor, want: &HostTensor, tol: Tolerance) -> Result<(), String> {
    if got.shape != want.shape {
        return Err(format!("{name}: shape {} instead of {}", got.shape, want.shape));
    }
    if got.dtype() != want.dtype() {
        return Err(format!("{name}: type {} instead of {}", got.dtype(), want.dtype()));
    }
    let tol = if want.dtype().is_float() { tol } else { Tolerance { atol: 0.0, rtol: 0.0 } };
    let (got, reference) = (got.to_f64(), want.to_f64());
    let mut bad = 0;
    let mut worst: Option<(usize, f64)> = None;
    for (i, (&g, &r)) in got.iter().zip(&reference).enumerate() {
        if !passes(g, r, tol) {
            bad += 1;
            let b = badness(g, r, tol);
            if worst.is_none_or(|(_, w)| b > w) {
                worst = Some((i, b));
            }
        }
    }
    let Some((i, _)) = worst else { return Ok(()) };
    let mut rest = i;
    let mut index = vec![0; want.shape.len()];
    for d in (0..index.len()).rev() {
        index[d] = rest % want.shape[d];
        rest /= want.shape[d];
    }
    let allowed = tol.atol + tol.rtol * reference[i].abs();
    Err(format!(
        "{name}{index:?}: got {:e}, want {:e}, tolerance {allowed:e} ({bad} of {} elements)",
        got[i],
        reference[i],
        got.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOL: Tolerance = Tolerance { atol: 1e-6, rtol: 1e-5 };

    #[test]
    fn nan_passes_only_for_nan() {
        assert!(passes(f64::NAN, f64::NAN, TOL));
        assert!(!passes(f64::NAN, 1.0, TOL));
        assert!(!passes(1.0, f64::NAN, TOL));
        assert!(!passes(f64::INFINITY, 1.0, TOL));
        assert!(!passes(f64::INFINITY, f64::NEG_INFINITY, TOL));
        assert!(passes(f64::NEG_INFINITY, f64::NEG_INFINITY, TOL));
        assert!(passes(-0.0, 0.0, TOL));
    }

    #[test]
    fn the_worst_element_is_named() {
        let t = |v: Vec<f32>| HostTensor { shape: [2, 2].into(), data: crate::Data::F32(v) };
        let want = t(vec![1.0, 2.0, 3.0, 4.0]);
        assert!(compare("x", &want, &want, TOL).is_ok());
        let e = compare("x", &t(vec![1.0, 2.001, f32::NAN, 4.0]), &want, TOL).unwrap_err();
        assert!(e.starts_with("x[1, 0]: got NaN, want 3e0") && e.contains("(2 of 4 elements)"), "{e}");
        let other = HostTensor { shape: [4].into(), data: want.data.clone() };
        assert!(compare("x", &other, &want, TOL).is_err());
        let ints = |v: Vec<i32>| HostTensor { shape: [1].into(), data: crate::Data::I32(v) };
        assert!(compare("x", &ints(vec![1_000_001]), &ints(vec![1_000_000]), TOL).is_err());
    }
}
