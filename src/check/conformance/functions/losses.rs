//! Softmax and the losses.

use super::{Found, int, outs, reduction};
use crate::check::conformance::exec::Inputs;
use crate::check::conformance::file::unsupported;
use crate::error::Result;
use crate::ir::Tensor;
use crate::ops::{CrossEntropyOptions, Reduction};

/// Builds a function of this family.
pub fn build(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let one = |t: Tensor| outs([t]);
    match name {
        "softmax" => one(x.arg("input")?.softmax(int(a, "dim")? as isize)),
        "log_softmax" => one(x.arg("input")?.log_softmax(int(a, "dim")? as isize)),
        "cross_entropy" => one(loss(name, x)?),
        "nll_loss" => {
            let weight = x.opt("weight");
            let options = CrossEntropyOptions {
                weight: weight.as_ref(),
                ignore_index: a.int("ignore_index", -100)? as i32,
                reduction: reduction(a)?,
                label_smoothing: 0.0,
            };
            one(x.arg("input")?.nll_loss(&x.arg("target")?, &options))
        }
        "mse_loss" => one(loss(name, x)?),
        "l1_loss" => one(x.arg("input")?.l1_loss(&x.arg("target")?, reduction(a)?)),
        "smooth_l1_loss" => {
            one(x.arg("input")?.smooth_l1_loss(&x.arg("target")?, a.float("beta", 1.0)?, reduction(a)?))
        }
        "huber_loss" => one(x.arg("input")?.huber_loss(&x.arg("target")?, a.float("delta", 1.0)?, reduction(a)?)),
        "binary_cross_entropy_with_logits" => {
            let (weight, positive) = (x.opt("weight"), x.opt("pos_weight"));
            let (t, r) = (x.arg("target")?, reduction(a)?);
            one(x.arg("input")?.binary_cross_entropy_with_logits(&t, weight.as_ref(), positive.as_ref(), r))
        }
        "kl_div" => {
            let (t, target, log_target) = (x.arg("input")?, x.arg("target")?, a.flag("log_target", false)?);
            one(if a.word("reduction", "mean")? == "batchmean" {
                t.kl_div(&target, log_target, Reduction::Sum) / t.size(0) as f64
            } else {
                t.kl_div(&target, log_target, reduction(a)?)
            })
        }
        "hinge_embedding_loss" => {
            one(x.arg("input")?.hinge_embedding_loss(&x.arg("target")?, a.float("margin", 1.0)?, reduction(a)?))
        }
        "multi_margin_loss" => {
            let p = match a.float("p", 1.0)? {
                1.0 => 1,
                2.0 => 2,
                other => return Err(unsupported(format!("p = {other}"))),
            };
            let (t, w, margin) = (x.arg("target")?, x.opt("weight"), a.float("margin", 1.0)?);
            one(x.arg("input")?.multi_margin_loss(&t, w.as_ref(), p, margin, reduction(a)?))
        }
        _ => Ok(None),
    }
}

/// The losses that Hessian-vector cases use too, of `input` and `target`.
fn loss(name: &str, x: &Inputs) -> Result<Tensor> {
    loss_of(name, x, &x.arg("input")?)
}

/// The loss `name` of `prediction` and the case's target.
pub fn loss_of(name: &str, x: &Inputs, prediction: &Tensor) -> Result<Tensor> {
    let a = &x.case.attrs;
    let target = x.arg("target")?;
    match name {
        "mse_loss" => Ok(prediction.mse_loss(&target, reduction(a)?)),
        "cross_entropy" => {
            let weight = x.opt("weight");
            let options = CrossEntropyOptions {
                weight: weight.as_ref(),
                ignore_index: a.int("ignore_index", -100)? as i32,
                reduction: reduction(a)?,
                label_smoothing: a.float("label_smoothing", 0.0)?,
            };
            Ok(prediction.cross_entropy(&target, &options))
        }
        other => Err(unsupported(format!("loss {other}"))),
    }
}
