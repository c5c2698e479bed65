//! Eigenvalues and eigenvectors of small symmetric matrices on the host, in f64, by cyclic Jacobi rotations (Golub and
//! Van Loan, section 8.5): slow beyond some hundred rows, accurate to rounding below.

/// All eigenvalues of a symmetric matrix in ascending order, with their eigenvectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// Ascending.
    pub values: Vec<f64>,
    /// `vectors[k]` has length 1 and belongs to `values[k]`.
    pub vectors: Vec<Vec<f64>>,
}

/// The eigensystem of the row-major `n` x `n` matrix `a`, of which the symmetric part is taken. A matrix that holds NaN
/// gives NaN.
pub fn eigen(mut a: Vec<f64>, n: usize) -> Eigen {
    // Rounding leaves a Hessian not quite symmetric.
    for i in 0..n {
        for j in 0..i {
            let mean = 0.5 * (a[i * n + j] + a[j * n + i]);
            (a[i * n + j], a[j * n + i]) = (mean, mean);
        }
    }
    // Row k of `v` becomes eigenvector k.
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    let norm: f64 = a.iter().map(|x| x * x).sum();
    // Convergence is quadratic: ten sweeps suffice in practice; 60 bound a matrix that holds NaN.
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|p| p / n != p % n).map(|p| a[p] * a[p]).sum();
        if off <= 1e-30 * norm {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[i * n + i].total_cmp(&a[j * n + j]));
    Eigen {
        values: order.iter().map(|&i| a[i * n + i]).collect(),
        vectors: order.iter().map(|&i| v[i * n..(i + 1) * n].to_vec()).collect(),
    }
}

/// The rotation in the plane (p, q) that makes element (p, q) zero.
fn rotate(a: &mut [f64], v: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for m in [a, v] {
        for k in 0..n {
            let (x, y) = (m[p * n + k], m[q * n + k]);
            (m[p * n + k], m[q * n + k]) = (c * x - s * y, s * x + c * y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::eigen;

    #[test]
    fn eigensystem_of_a_known_matrix() {
        // Eigenvalues of the path graph's Laplacian on four nodes: 2 - 2 cos(k pi / 4).
        #[rustfmt::skip]
        let a = vec![
            1.0, -1.0, 0.0, 0.0,
            -1.0, 2.0, -1.0, 0.0,
            0.0, -1.0, 2.0, -1.0,
            0.0, 0.0, -1.0, 1.0,
        ];
        let s = std::f64::consts::SQRT_2;
        let e = eigen(a.clone(), 4);
        for (k, want) in [0.0, 2.0 - s, 2.0, 2.0 + s].into_iter().enumerate() {
            let err = (e.values[k] - want).abs();
            assert!(err < 1e-12, "{} {want}", e.values[k]);
            let v = &e.vectors[k];
            for i in 0..4 {
                let av: f64 = (0..4).map(|j| a[i * 4 + j] * v[j]).sum();
                assert!((av - want * v[i]).abs() < 1e-12, "vector {k}: {v:?}");
            }
            assert!((v.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_and_not_a_number() {
        assert!(eigen(Vec::new(), 0).values.is_empty());
        assert!(eigen(vec![f64::NAN; 4], 2).values.iter().any(|x| x.is_nan()));
    }
}
