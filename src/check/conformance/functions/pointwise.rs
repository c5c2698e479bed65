//! Elementwise functions, of one and of two tensors, and reductions.

use super::{Found, dims, outs};
use crate::check::conformance::exec::Inputs;
use crate::check::conformance::file::unsupported;
use crate::ir::Tensor;
use crate::ops::Gelu;

/// Builds a function of these families.
pub fn build(name: &str, x: &Inputs) -> Found {
    if let Some(f) = plain(name) {
        return outs([f(&x.arg("input")?)]);
    }
    let a = &x.case.attrs;
    let one = |t: Tensor| outs([t]);
    match name {
        "hardtanh" => one(x.arg("input")?.hardtanh(a.float("min_val", -1.0)?, a.float("max_val", 1.0)?)),
        "gelu" => {
            let form = match a.word("approximate", "none")?.as_str() {
                "none" => Gelu::Exact,
                "tanh" => Gelu::Tanh,
                other => return Err(unsupported(format!("approximate {other:?}"))),
            };
            one(x.arg("input")?.gelu(form))
        }
        "elu" => one(x.arg("input")?.elu(a.float("alpha", 1.0)?)),
        "leaky_relu" => one(x.arg("input")?.leaky_relu(a.float("negative_slope", 0.01)?)),
        "softplus" => one(x.arg("input")?.softplus(a.float("beta", 1.0)?, a.float("threshold", 20.0)?)),
        "clamp" => one(x.arg("input")?.clamp(a.opt_float("min")?, a.opt_float("max")?)),
        "pow" => one(match (x.opt("exponent"), a.opt_float("exponent")?) {
            (Some(e), None) => x.arg("input")?.pow(&e),
            (None, Some(e)) => x.arg("input")?.powf(e),
            _ => return Err(unsupported("pow without one exponent")),
        }),
        "add" => one(x.arg("input")?.add_scaled(&x.arg("other")?, a.float("alpha", 1.0)?)),
        "sub" => one(x.arg("input")?.add_scaled(&-x.arg("other")?, a.float("alpha", 1.0)?)),
        "mul" => one(x.arg("input")? * x.arg("other")?),
        "div" => one(x.arg("input")? / x.arg("other")?),
        "maximum" => one(x.arg("input")?.maximum(&x.arg("other")?)),
        "minimum" => one(x.arg("input")?.minimum(&x.arg("other")?)),
        "eq" => one(x.arg("input")?.eq(&x.arg("other")?)),
        "lt" => one(x.arg("input")?.lt(&x.arg("other")?)),
        "gt" => one(x.arg("input")?.gt(&x.arg("other")?)),
        "where" => one(x.arg("condition")?.select(&x.arg("input")?, &x.arg("other")?)),
        _ => reductions(name, x),
    }
}

/// Functions of one tensor without attributes.
fn plain(name: &str) -> Option<fn(&Tensor) -> Tensor> {
    Some(match name {
        "relu" => Tensor::relu,
        "sigmoid" => Tensor::sigmoid,
        "tanh" => Tensor::tanh,
        "silu" => Tensor::silu,
        "exp" => Tensor::exp,
        "log" => Tensor::log,
        "log1p" => Tensor::log1p,
        "expm1" => Tensor::expm1,
        "sqrt" => Tensor::sqrt,
        "rsqrt" => Tensor::rsqrt,
        "abs" => Tensor::abs,
        "sin" => Tensor::sin,
        "cos" => Tensor::cos,
        "square" => Tensor::square,
        "reciprocal" => Tensor::reciprocal,
        "sign" => Tensor::sign,
        "floor" => Tensor::floor,
        "round" => Tensor::round,
        "erf" => Tensor::erf,
        "neg" => |x| -x,
        "hardsigmoid" => Tensor::hardsigmoid,
        _ => return None,
    })
}

fn reductions(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let keepdim = || a.flag("keepdim", false);
    let one = |t: Tensor| outs([t]);
    match name {
        "sum" => one(x.arg("input")?.sum(&dims(a)?, keepdim()?)),
        "mean" => one(x.arg("input")?.mean(&dims(a)?, keepdim()?)),
        "amax" => one(x.arg("input")?.amax(&dims(a)?, keepdim()?)),
        "amin" => one(x.arg("input")?.amin(&dims(a)?, keepdim()?)),
        "prod" => one(x.arg("input")?.prod(&dims(a)?, keepdim()?)),
        "logsumexp" => one(x.arg("input")?.logsumexp(&dims(a)?, keepdim()?)),
        "var" => one(x.arg("input")?.var(&dims(a)?, a.float("correction", 1.0)?, keepdim()?)),
        "std" => one(x.arg("input")?.std(&dims(a)?, a.float("correction", 1.0)?, keepdim()?)),
        "norm" => one(x.arg("input")?.norm(a.float("p", 2.0)?, &dims(a)?, keepdim()?)),
        "argmax" | "argmin" => {
            let (t, keepdim) = (x.arg("input")?, keepdim()?);
            let find = |t: &Tensor, dim, keep| if name == "argmax" { t.argmax(dim, keep) } else { t.argmin(dim, keep) };
            one(match a.opt_int("dim")? {
                Some(dim) => find(&t, dim as isize, keepdim),
                None => {
                    let flat = find(&t.reshape([t.elems()]), 0, false);
                    if keepdim { flat.reshape(vec![1; t.rank()]) } else { flat }
                }
            })
        }
        "cumsum" => one(x.arg("input")?.cumsum(super::int(a, "dim")? as isize)),
        _ => Ok(None),
    }
}
