//! The Lanczos method with full reorthogonalisation: extreme eigenvalues and eigenvectors of a symmetric operator that is
//! only known by its products with vectors (Golub and Van Loan, chapter 10). Host arithmetic in f64; the operator may be
//! as inexact as f32: every pair comes with the residual that one more product measures.

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::train::symmetric::eigen;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lanczos {
    /// Pairs that are wanted at each end of the spectrum.
    pub pairs: usize,
    /// Products with the operator at most, before those that measure residuals.
    pub steps: usize,
    /// Stops when the wanted pairs' residuals are estimated below this, relative to the largest eigenvalue.
    pub tolerance: f64,
    /// The start vector is drawn from it.
    pub seed: u64,
}

impl Default for Lanczos {
    fn default() -> Lanczos {
        Lanczos { pairs: 1, steps: 100, tolerance: 1e-4, seed: 0 }
    }
}

/// An approximate eigenvalue and eigenvector.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigenpair {
    /// The eigenvalue.
    pub value: f64,
    /// The eigenvector, of length 1.
    pub vector: Vec<f64>,
    /// `|H v - value v|`, measured: a symmetric H has an eigenvalue no farther than this from `value`.
    pub residual: f64,
}

/// The ends of a spectrum.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// The smallest eigenvalues, ascending.
    pub smallest: Vec<Eigenpair>,
    /// The largest eigenvalues, descending.
    pub largest: Vec<Eigenpair>,
    /// Ritz values and their weights, which sum to 1: a quadrature rule for the spectral density as the start vector
    /// sees it (arXiv 1901.10159).
    pub density: Vec<(f64, f64)>,
    /// Steps that were taken.
    pub steps: usize,
}

/// The ends of the spectrum of the symmetric operator `apply` on vectors of length `n`. Errors if `n` is 0, or if a
/// product is not finite.
pub fn extremes(n: usize, o: &Lanczos, mut apply: impl FnMut(&[f64]) -> Result<Vec<f64>>) -> Result<Spectrum> {
    if n == 0 || o.pairs == 0 || o.steps == 0 {
        let detail = format!("needs something to do: {n} dimensions, {} pairs, {} steps", o.pairs, o.steps);
        return Err(Error::input("lanczos", detail));
    }
    let mut product = |v: &[f64]| {
        let y = apply(v)?;
        match y.len() == n && y.iter().all(|x| x.is_finite()) {
            true => Ok(y),
            false => {
                Err(Error::runtime("lanczos", "a product with the Hessian is not finite; the loss or a weight may be"))
            }
        }
    };
    let mut rng = Rng::named(o.seed, "lanczos");
    let mut q: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
    normalize(&mut q);
    let (mut basis, mut alpha, mut beta) = (Vec::<Vec<f64>>::new(), Vec::<f64>::new(), Vec::<f64>::new());
    let ritz = loop {
        let mut w = product(&q)?;
        alpha.push(dot(&q, &w));
        basis.push(std::mem::take(&mut q));
        // Against all vectors, twice: in one pass the rounding of a nearly dependent vector would remain.
        for _ in 0..2 {
            for b in &basis {
                let along = dot(b, &w);
                w.iter_mut().zip(b).for_each(|(w, b)| *w -= along * b);
            }
        }
        let length = normalize(&mut w);
        let (m, scale) = (basis.len(), alpha.iter().chain(&beta).fold(0.0f64, |m, x| m.max(x.abs())));
        // The operator's own rounding is far above this: what is left of w is noise, the space is invariant.
        let closed = length <= 1e-9 * scale || m == n;
        let last = closed || m >= o.steps;
        if last || m.is_multiple_of(8) {
            let e = eigen(tridiagonal(&alpha, &beta), m);
            let open = |k: usize| length * e.vectors[k][m - 1].abs();
            let largest = e.values[0].abs().max(e.values[m - 1].abs());
            let done = m >= 2 * o.pairs && (0..o.pairs).all(|k| open(k).max(open(m - 1 - k)) <= o.tolerance * largest);
            if last || done {
                break e;
            }
        }
        beta.push(length);
        q = w;
    };
    let m = basis.len();
    let mut pair = |k: usize| -> Result<Eigenpair> {
        let mut vector = vec![0.0; n];
        for (b, s) in basis.iter().zip(&ritz.vectors[k]) {
            vector.iter_mut().zip(b).for_each(|(v, b)| *v += s * b);
        }
        normalize(&mut vector);
        let y = product(&vector)?;
        // The quotient is the best value for this vector.
        let value = dot(&vector, &y);
        let residual = y.iter().zip(&vector).map(|(y, v)| (y - value * v).powi(2)).sum::<f64>().sqrt();
        Ok(Eigenpair { value, vector, residual })
    };
    let count = o.pairs.min(m);
    Ok(Spectrum {
        smallest: (0..count).map(&mut pair).collect::<Result<_>>()?,
        largest: (0..count).map(|k| pair(m - 1 - k)).collect::<Result<_>>()?,
        density: ritz.values.iter().zip(&ritz.vectors).map(|(&v, s)| (v, s[0] * s[0])).collect(),
        steps: m,
    })
}

fn tridiagonal(alpha: &[f64], beta: &[f64]) -> Vec<f64> {
    let m = alpha.len();
    let mut t = vec![0.0; m * m];
    for i in 0..m {
        t[i * m + i] = alpha[i];
        if i + 1 < m {
            (t[i * m + i + 1], t[(i + 1) * m + i]) = (beta[i], beta[i]);
        }
    }
    t
}

/// The inner product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Scales to length 1 (unless zero); returns the length it had.
fn normalize(v: &mut [f64]) -> f64 {
    let length = dot(v, v).sqrt();
    if length > 0.0 {
        v.iter_mut().for_each(|x| *x /= length);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H v for H with eigenvalues `d` in a basis that a reflection turns away from the axes.
    fn reflected(d: &[f64], v: &[f64]) -> Vec<f64> {
        let n = d.len();
        let reflect = |v: &[f64]| {
            let along = 2.0 * v.iter().sum::<f64>() / n as f64;
            v.iter().map(|x| x - along).collect::<Vec<f64>>()
        };
        let turned: Vec<f64> = reflect(v).iter().zip(d).map(|(x, d)| x * d).collect();
        reflect(&turned)
    }

    #[test]
    fn known_spectra() {
        let n = 400;
        let spread: Vec<f64> = (0..n).map(|i| i as f64 / n as f64).collect();
        let mut outliers = spread.clone();
        (outliers[3], outliers[7], outliers[11]) = (-5.0, 8.0, 6.0);
        let o = Lanczos { pairs: 2, tolerance: 1e-9, ..Lanczos::default() };
        let s = extremes(n, &o, |v| Ok(reflected(&outliers, v))).unwrap();
        for (got, want) in [(&s.smallest[0], -5.0), (&s.largest[0], 8.0), (&s.largest[1], 6.0)] {
            assert!((got.value - want).abs() < 1e-7 && got.residual < 1e-3, "{} {want} {}", got.value, got.residual);
        }
        assert!((s.density.iter().map(|(_, w)| w).sum::<f64>() - 1.0).abs() < 1e-9);
        // Every reported value has an eigenvalue within its residual.
        for p in s.smallest.iter().chain(&s.largest) {
            let nearest = outliers.iter().map(|d| (d - p.value).abs()).fold(f64::INFINITY, f64::min);
            assert!(nearest <= p.residual + 1e-9, "{} {nearest} {}", p.value, p.residual);
        }
    }

    #[test]
    fn small_and_degenerate_operators() {
        let one = extremes(1, &Lanczos::default(), |v| Ok(vec![-3.0 * v[0]])).unwrap();
        assert_eq!((one.smallest[0].value, one.largest[0].value, one.steps), (-3.0, -3.0, 1));
        let same = extremes(5, &Lanczos::default(), |v| Ok(v.iter().map(|x| 2.0 * x).collect())).unwrap();
        assert!((same.largest[0].value - 2.0).abs() < 1e-12 && same.steps == 1);
        let zero = extremes(3, &Lanczos::default(), |v| Ok(vec![0.0; v.len()])).unwrap();
        assert_eq!(zero.smallest[0].value, 0.0);
    }

    #[test]
    fn bad_products_are_errors() {
        let e = extremes(2, &Lanczos::default(), |v| Ok(vec![f64::NAN; v.len()])).unwrap_err().to_string();
        assert!(e.contains("not finite"), "{e}");
        assert!(extremes(0, &Lanczos::default(), |v| Ok(v.to_vec())).is_err());
    }
}
