//! Elementwise functions, of one and of two tensors, and reductions.

use super::{Found, counting, dims, floating, logical, operands, outs};
use crate::check::conformance::exec::Inputs;
use crate::check::conformance::file::unsupported;
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::Tensor;
use crate::ops::Gelu;

/// Builds a function of these families.
pub fn build(name: &str, x: &Inputs) -> Found {
    if let Some(f) = plain(name) {
        return outs([f(&x.arg("input")?)]);
    }
    let a = &x.case.attrs;
    let one = |t: Tensor| outs([t]);
    let both = || operands(x, "input", "other");
    match name {
        "round" => one(match a.int("decimals", 0)? {
            0 => whole(x.arg("input")?, Tensor::round),
            d => {
                let unit = 10f64.powi(d.unsigned_abs() as i32);
                let t = x.arg("input")?;
                if d > 0 { (t * unit).round() / unit } else { (t / unit).round() * unit }
            }
        }),
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
        "pow" => one(match (x.opt("input"), x.opt("exponent"), a.opt_float("exponent")?) {
            (Some(t), None, Some(e)) => t.powf(e),
            (_, Some(_), None) => {
                let (base, exponent) = operands(x, "input", "exponent")?;
                base.pow(&exponent)
            }
            _ => return Err(unsupported("pow without one exponent")),
        }),
        "add" | "sub" => {
            let (t, other) = both()?;
            let alpha = a.float("alpha", 1.0)?;
            one(logical(&[&t, &other], |v| v[0].add_scaled(&v[1], if name == "add" { alpha } else { -alpha })))
        }
        "mul" => one(both().map(|(t, other)| logical(&[&t, &other], |v| &v[0] * &v[1]))?),
        "div" => one(division(x)?),
        "maximum" => one(both().map(|(t, other)| logical(&[&t, &other], |v| v[0].maximum(&v[1])))?),
        "minimum" => one(both().map(|(t, other)| logical(&[&t, &other], |v| v[0].minimum(&v[1])))?),
        "eq" => one(both().map(|(t, other)| t.eq(&other))?),
        "lt" => one(both().map(|(t, other)| t.lt(&other))?),
        "gt" => one(both().map(|(t, other)| t.gt(&other))?),
        "where" => {
            let (on_true, on_false) = both()?;
            one(x.arg("condition")?.select(&on_true, &on_false))
        }
        _ => reductions(name, x),
    }
}

/// The quotient; with `rounding_mode` rounded down or towards zero, exactly: without the remainder.
fn division(x: &Inputs) -> Result<Tensor> {
    let (t, other) = operands(x, "input", "other")?;
    let whole = t.dtype() == DType::I32;
    Ok(match x.case.attrs.word("rounding_mode", "")?.as_str() {
        "" => floating(t) / floating(other),
        "floor" if whole => (&t - t.rem(&other)) / other,
        "floor" => ((&t - t.rem(&other)) / other).round(),
        "trunc" if whole => t / other,
        "trunc" => {
            let (size, by) = (t.abs(), other.abs());
            ((&size - size.rem(&by)) / by).round() * t.sign() * other.sign()
        }
        mode => return Err(unsupported(format!("rounding_mode {mode:?}"))),
    })
}

/// A function that leaves whole numbers as they are.
fn whole(t: Tensor, f: fn(&Tensor) -> Tensor) -> Tensor {
    if t.dtype().is_float() { f(&t) } else { t }
}

/// Functions of one tensor without attributes.
fn plain(name: &str) -> Option<fn(&Tensor) -> Tensor> {
    Some(match name {
        "relu" => Tensor::relu,
        "sigmoid" => |x| floating(x.clone()).sigmoid(),
        "tanh" => |x| floating(x.clone()).tanh(),
        "silu" => |x| floating(x.clone()).silu(),
        "exp" => |x| floating(x.clone()).exp(),
        "log" => |x| floating(x.clone()).log(),
        "log1p" => |x| floating(x.clone()).log1p(),
        "expm1" => |x| floating(x.clone()).expm1(),
        "sqrt" => |x| floating(x.clone()).sqrt(),
        "rsqrt" => |x| floating(x.clone()).rsqrt(),
        "abs" => Tensor::abs,
        "sin" => |x| floating(x.clone()).sin(),
        "cos" => |x| floating(x.clone()).cos(),
        "square" => Tensor::square,
        "reciprocal" => |x| floating(x.clone()).reciprocal(),
        "sign" => Tensor::sign,
        "floor" => |x| whole(x.clone(), Tensor::floor),
        "erf" => |x| floating(x.clone()).erf(),
        "neg" => |x| -x,
        "hardsigmoid" => |x| floating(x.clone()).hardsigmoid(),
        _ => return None,
    })
}

fn reductions(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let keepdim = || a.flag("keepdim", false);
    let one = |t: Tensor| outs([t]);
    // `unbiased` is the older word for a correction of 1 or 0.
    let correction = || a.float("correction", f64::from(a.flag("unbiased", true)?));
    match name {
        "sum" => one(counting(x.arg("input")?).sum(&dims(a)?, keepdim()?)),
        "mean" => one(x.arg("input")?.mean(&dims(a)?, keepdim()?)),
        "amax" | "amin" => {
            let (dims, keepdim) = (dims(a)?, keepdim()?);
            let f = |t: &Tensor| if name == "amax" { t.amax(&dims, keepdim) } else { t.amin(&dims, keepdim) };
            one(logical(&[&x.arg("input")?], |v| f(&v[0])))
        }
        "prod" => one(counting(x.arg("input")?).prod(&dims(a)?, keepdim()?)),
        "logsumexp" => one(floating(x.arg("input")?).logsumexp(&dims(a)?, keepdim()?)),
        "var" => one(x.arg("input")?.var(&dims(a)?, correction()?, keepdim()?)),
        "std" => one(x.arg("input")?.std(&dims(a)?, correction()?, keepdim()?)),
        "norm" => {
            // Of Frobenius: that of all elements as one vector.
            let frobenius = a.get("p").is_some_and(|p| p == "fro");
            let p = if frobenius { 2.0 } else { a.float("p", 2.0)? };
            one(x.arg("input")?.norm(p, &dims(a)?, keepdim()?))
        }
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
        "cumsum" => one(counting(x.arg("input")?).cumsum(super::int(a, "dim")? as isize)),
        _ => Ok(None),
    }
}
