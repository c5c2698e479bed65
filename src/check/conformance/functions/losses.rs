//! Softmax and the losses.

use super::{Found, outs, reduction};
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
        "softmax" | "log_softmax" => {
            let t = x.arg("input")?;
            // Without one torch takes this.
            let implied = i64::from(![0, 1, 3].contains(&t.rank()));
            let dim = a.int("dim", implied)? as isize;
            one(if name == "softmax" { t.softmax(dim) } else { t.log_softmax(dim) })
        }
        "cross_entropy"
        | "nll_loss"
        | "mse_loss"
        | "l1_loss"
        | "smooth_l1_loss"
        | "huber_loss"
        | "binary_cross_entropy_with_logits"
        | "kl_div"
        | "hinge_embedding_loss"
        | "multi_margin_loss" => one(loss_of(name, x, &x.arg("input")?)?),
        _ => Ok(None),
    }
}

/// The loss `name` of `prediction` and the case's target.
pub fn loss_of(name: &str, x: &Inputs, prediction: &Tensor) -> Result<Tensor> {
    let a = &x.case.attrs;
    let (target, weight) = (x.arg("target")?, x.opt("weight"));
    let weight = weight.as_ref();
    Ok(match name {
        "mse_loss" => prediction.mse_loss(&target, Reduction::None).reduced_by(weight, reduction(a)?),
        "l1_loss" => prediction.l1_loss(&target, Reduction::None).reduced_by(weight, reduction(a)?),
        "smooth_l1_loss" if weight.is_none() => {
            prediction.smooth_l1_loss(&target, a.float("beta", 1.0)?, reduction(a)?)
        }
        "huber_loss" => {
            let loss = prediction.huber_loss(&target, a.float("delta", 1.0)?, Reduction::None);
            // Here the mean is over the elements, whatever they weigh.
            weight.map_or(loss.clone(), |w| loss * w).reduced(reduction(a)?)
        }
        "cross_entropy" | "nll_loss" => {
            let options = CrossEntropyOptions {
                weight,
                ignore_index: a.int("ignore_index", -100)? as i32,
                reduction: reduction(a)?,
                label_smoothing: if name == "nll_loss" { 0.0 } else { a.float("label_smoothing", 0.0)? },
            };
            match name {
                "nll_loss" => prediction.nll_loss(&target, &options),
                _ => prediction.cross_entropy(&target, &options),
            }
        }
        "binary_cross_entropy_with_logits" => {
            let positive = x.opt("pos_weight");
            prediction.binary_cross_entropy_with_logits(&target, weight, positive.as_ref(), reduction(a)?)
        }
        "kl_div" if weight.is_none() => {
            let log_target = a.flag("log_target", false)?;
            if a.word("reduction", "mean")? == "batchmean" {
                prediction.kl_div(&target, log_target, Reduction::Sum) / prediction.size(0) as f64
            } else {
                prediction.kl_div(&target, log_target, reduction(a)?)
            }
        }
        "hinge_embedding_loss" if weight.is_none() => {
            prediction.hinge_embedding_loss(&target, a.float("margin", 1.0)?, reduction(a)?)
        }
        "multi_margin_loss" => {
            let p = match a.float("p", 1.0)? {
                1.0 => 1,
                2.0 => 2,
                other => return Err(unsupported(format!("p = {other}"))),
            };
            prediction.multi_margin_loss(&target, weight, p, a.float("margin", 1.0)?, reduction(a)?)
        }
        other => return Err(unsupported(format!("loss {other}"))),
    })
}
