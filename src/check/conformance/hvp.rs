//! Conformance cases of Hessian-vector products: an MLP with tanh between its layers, its loss, gradient, H v, and for
//! small ones the whole Hessian with its eigenvalues.

use crate::backend::Device;
use crate::check::conformance::exec::{Inputs, Outcome, run_graph};
use crate::check::conformance::file::{Case, unsupported};
use crate::check::conformance::functions::losses::loss_of;
use crate::error::{Error, Result};
use crate::grad;
use crate::ir::{OutputKind, Tensor};
use crate::tensor::HostTensor;

/// Runs one case.
pub fn run(case: &Case, device: &Device) -> Result<Outcome> {
    let x = Inputs::new(case)?;
    let activation = case.metadata.get("activation").map_or("", String::as_str);
    if activation != "tanh" {
        return Err(unsupported(format!("activation {activation:?}")));
    }
    let names: Vec<String> = serde_json::from_str(case.metadata.get("params").map_or("[]", String::as_str))
        .map_err(|e| Error::input(&case.file, format!("params: {e}")))?;
    let feed = |prefix: &str| -> Result<Vec<Tensor>> {
        let one = |name: &String| {
            let full = format!("{prefix}{name}");
            let host = case.tensor(&full)?;
            Ok(x.builder.feed(full.clone(), host.dtype(), host.shape.clone()))
        };
        names.iter().map(one).collect()
    };
    let (params, v) = (feed("param.")?, feed("v.")?);
    let named = |name: String| {
        let found = names.iter().position(|n| *n == name).map(|i| &params[i]);
        found.ok_or_else(|| unsupported(format!("an MLP without {name}")))
    };
    let layers = names.iter().filter(|n| n.ends_with(".weight")).count();
    let mut h = x.arg("input")?;
    for i in 0..layers {
        h = h.linear(named(format!("{i}.weight"))?, Some(named(format!("{i}.bias"))?));
        if i + 1 < layers {
            h = h.tanh();
        }
    }
    let loss = loss_of(&case.name, &x, &h)?;
    x.finish()?;
    let (wrt, v): (Vec<&Tensor>, Vec<&Tensor>) = (params.iter().collect(), v.iter().collect());
    x.builder.output("out.0", OutputKind::Fetch, &loss);
    for (name, g) in names.iter().zip(grad::grad(&loss, &wrt)) {
        x.builder.output(format!("grad.param.{name}"), OutputKind::Fetch, &g);
    }
    for (name, hv) in names.iter().zip(grad::hvp(&loss, &wrt, &v)) {
        x.builder.output(format!("hvp.{name}"), OutputKind::Fetch, &hv);
    }
    let full = case.tensors.contains_key("hessian") || case.tensors.contains_key("eigenvalues");
    if full {
        x.builder.output("hessian", OutputKind::Fetch, &grad::hessian(&loss, &wrt));
    }
    let mut outcome = run_graph(case, device, x.builder.build()?)?;
    if let Some(hessian) = outcome.results.get("hessian") {
        let n = hessian.shape[0];
        let values = eigenvalues(hessian.to_f64(), n).into_iter().map(|l| l as f32).collect();
        outcome.results.insert("eigenvalues".to_string(), HostTensor::f32([n], values)?);
    }
    Ok(outcome)
}

/// The eigenvalues of a symmetric matrix in ascending order, by cyclic Jacobi rotations.
fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    // Rounding leaves a Hessian not quite symmetric.
    for i in 0..n {
        for j in 0..i {
            let mean = 0.5 * (a[i * n + j] + a[j * n + i]);
            (a[i * n + j], a[j * n + i]) = (mean, mean);
        }
    }
    let norm: f64 = a.iter().map(|x| x * x).sum();
    // Convergence is quadratic: ten sweeps suffice in practice; 60 bound a matrix that holds NaN.
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|p| p / n != p % n).map(|p| a[p] * a[p]).sum();
        if off <= 1e-30 * norm {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, n, p, q);
            }
        }
    }
    let mut values: Vec<f64> = (0..n).map(|i| a[i * n + i]).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The rotation in the plane (p, q) that makes element (p, q) zero.
fn rotate(a: &mut [f64], n: usize, p: usize, q: usize) {
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
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::eigenvalues;

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        // Eigenvalues of the path graph's Laplacian on four nodes: 2 - 2 cos(k pi / 4).
        #[rustfmt::skip]
        let a = vec![
            1.0, -1.0, 0.0, 0.0,
            -1.0, 2.0, -1.0, 0.0,
            0.0, -1.0, 2.0, -1.0,
            0.0, 0.0, -1.0, 1.0,
        ];
        let s = std::f64::consts::SQRT_2;
        for (got, want) in eigenvalues(a, 4).iter().zip([0.0, 2.0 - s, 2.0, 2.0 + s]) {
            let err = (got - want).abs();
            assert!(err < 1e-12, "{got} {want}");
        }
    }
}
