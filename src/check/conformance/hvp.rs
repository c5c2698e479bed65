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
use crate::train::symmetric::eigen;

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
        let values = eigen(hessian.to_f64(), n).values.into_iter().map(|l| l as f32).collect();
        outcome.results.insert("eigenvalues".to_string(), HostTensor::f32([n], values)?);
    }
    Ok(outcome)
}
