//! Cross-entropy of class logits as a composite with an explicit gradient (neither stores the probabilities), and
//! torch's `cross_entropy` and `nll_loss` in full on top of it: class weights, probabilities as targets, any rank.

use crate::dtype::DType;
use crate::ir::{Builder, Tensor};
use crate::ops::loss::Reduction;
use crate::ops::{Composite, VjpArgs, ranks};
use std::any::Any;
use std::panic::Location;

/// `logits[n, c], target i32[n] -> loss[n], max[n], log_sum[n]` with the maximum of the row, log_sum =
/// log(sum(exp(logits - max))), and loss = -(1-e) `logp[target]` - e/c sum(logp), logp = logits - max - log_sum, e =
/// `label_smoothing`. Rows whose target is `ignore_index` have loss 0; any other target outside 0..c is an error at run time.
///
/// The two residuals are kept apart: in their sum the logarithm would drown where logits are large.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropy {
    /// Target of rows that do not count.
    pub ignore_index: i32,
    /// Part of the target's weight that is spread over all classes.
    pub label_smoothing: f64,
}

/// `logits[n, c], target i32[n], max[n], log_sum[n], g[n] -> dlogits = g (exp(logits - max - log_sum) - (1-e) onehot - e/c)`,
/// 0 where ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropyGrad {
    /// Target of rows that do not count.
    pub ignore_index: i32,
    /// Part of the target's weight that is spread over all classes.
    pub label_smoothing: f64,
}

impl Composite for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn attrs(&self) -> String {
        format!("ignore_index={} label_smoothing={:?}", self.ignore_index, self.label_smoothing)
    }
    fn outputs(&self) -> usize {
        3
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("cross_entropy", args, &[2, 1]) {
            return [bad.clone(), bad.clone(), bad].concat();
        }
        let (x, target) = (&args[0], &args[1]);
        let (n, e) = (x.size(0), self.label_smoothing);
        let max = x.amax(&[1], true).detach();
        let d = x - &max;
        let log_sum = d.exp().sum(&[1], true).log();
        let logp = d - &log_sum;
        let ignored = target.eq(&target.like(self.ignore_index as f64));
        let safe = ignored.select(&target.like(0.0), target);
        let mut loss = -logp.gather(1, &safe.unsqueeze(1)).reshape([n]);
        if e != 0.0 {
            loss = loss * (1.0 - e) - logp.sum(&[1], false) * (e / x.size(1) as f64);
        }
        vec![ignored.select(&loss.like(0.0), &loss), max.reshape([n]), log_sum.reshape([n])]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        if v.cotangents[1].is_some() || v.cotangents[2].is_some() {
            return None;
        }
        let g = v.cotangents[0].as_ref()?;
        let grad = CrossEntropyGrad { ignore_index: self.ignore_index, label_smoothing: self.label_smoothing };
        let dx = v.builder.call(grad, &[&v.args[0], &v.args[1], &v.outs[1], &v.outs[2], g]).remove(0);
        Some(vec![Some(dx), None])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }
    fn attrs(&self) -> String {
        format!("ignore_index={} label_smoothing={:?}", self.ignore_index, self.label_smoothing)
    }
    fn body(&self, b: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("cross_entropy_grad", args, &[2, 1, 1, 1, 1]) {
            return bad;
        }
        let (x, e) = (&args[0], self.label_smoothing);
        let column = |i: usize| args[i].unsqueeze(1);
        let (target, g) = (column(1), column(4));
        let p = (x - column(2) - column(3)).exp();
        let hot = b.iota(x.size(1)).eq(&target);
        let towards = hot.select(&x.like(1.0 - e + e / x.size(1) as f64), &x.like(e / x.size(1) as f64));
        let dx = g * (p - towards);
        let ignored = target.eq(&target.like(self.ignore_index as f64));
        vec![ignored.select(&x.like(0.0), &dx)]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The optional arguments of [`Tensor::cross_entropy`] and [`Tensor::nll_loss`], with torch's defaults.
#[derive(Debug, Clone)]
pub struct CrossEntropyOptions<'a> {
    /// A weight per class, `[C]`.
    pub weight: Option<&'a Tensor>,
    /// Positions with this class as target do not count.
    pub ignore_index: i32,
    /// What becomes of the loss per position.
    pub reduction: Reduction,
    /// Part of the target's weight that is spread over all classes (not used by `nll_loss`).
    pub label_smoothing: f64,
}

impl Default for CrossEntropyOptions<'_> {
    fn default() -> Self {
        CrossEntropyOptions { weight: None, ignore_index: -100, reduction: Reduction::Mean, label_smoothing: 0.0 }
    }
}

impl Tensor {
    /// Cross-entropy of logits `[N, C, d..]` (or `[C]`) with targets: classes (i32, `[N, d..]`) or probabilities
    /// (of the logits' shape). `Mean` divides by the weights of the classes that count, for probabilities by the rows.
    #[track_caller]
    pub fn cross_entropy(&self, target: &Tensor, options: &CrossEntropyOptions) -> Tensor {
        let loc = Location::caller();
        let Some((axis, classes)) = self.class_axis("cross_entropy", target, options.weight, loc) else {
            return self.clone();
        };
        let e = options.label_smoothing;
        if target.dtype().is_float() {
            let smooth = target * (1.0 - e) + e / classes as f64;
            let mut terms = smooth * self.log_softmax(axis);
            if let Some(w) = options.weight {
                terms = terms * w.along_axis(axis as usize, self.rank());
            }
            let loss = -terms.sum(&[axis], false);
            let rows = (self.elems() / classes.max(1)) as f64;
            return match options.reduction {
                Reduction::None => loss,
                Reduction::Sum => loss.sum(&[], false),
                Reduction::Mean => loss.sum(&[], false) / rows,
            };
        }
        let flat = target.reshape([target.elems()]);
        let logits = self.class_rows(axis, classes);
        let loss = match options.weight {
            Some(w) if e != 0.0 => {
                let logp = logits.log_softmax(1);
                let ignored = flat.eq(&flat.like(options.ignore_index as f64));
                let (safe, picked) = logp.pick(&flat, options.ignore_index);
                let loss = -(picked * w.take(&safe) * (1.0 - e)) - (logp * w).sum(&[1], false) * (e / classes as f64);
                ignored.select(&loss.like(0.0), &loss)
            }
            weight => {
                let ce = CrossEntropy { ignore_index: options.ignore_index, label_smoothing: e };
                let loss = self.builder().call(ce, &[&logits, &flat]).remove(0);
                match weight {
                    Some(w) => loss * w.take(&flat.safe_class(options.ignore_index).1),
                    None => loss,
                }
            }
        };
        loss.reduce_classes(target, &flat, options)
    }

    /// `-weight[target] * self[target]` along the class dimension of log-probabilities `[N, C, d..]` (or `[C]`).
    #[track_caller]
    pub fn nll_loss(&self, target: &Tensor, options: &CrossEntropyOptions) -> Tensor {
        let loc = Location::caller();
        if target.dtype() != DType::I32 {
            return self.fail("nll_loss", format!("targets must be i32 classes, got {}", target.ty()), loc);
        }
        let Some((axis, classes)) = self.class_axis("nll_loss", target, options.weight, loc) else {
            return self.clone();
        };
        let flat = target.reshape([target.elems()]);
        let (safe, picked) = self.class_rows(axis, classes).pick(&flat, options.ignore_index);
        let mut loss = -picked;
        if let Some(w) = options.weight {
            loss = loss * w.take(&safe);
        }
        let ignored = flat.eq(&flat.like(options.ignore_index as f64));
        ignored.select(&loss.like(0.0), &loss).reduce_classes(target, &flat, options)
    }

    /// The class dimension and its size, or `None` after recording what does not fit.
    fn class_axis(
        &self,
        op: &str,
        target: &Tensor,
        weight: Option<&Tensor>,
        loc: crate::error::Loc,
    ) -> Option<(isize, usize)> {
        let axis = usize::from(self.rank() > 1);
        if self.rank() == 0 || !self.dtype().is_float() {
            self.fail(op, format!("needs floats [N, C, ..] or [C], got {}", self.ty()), loc);
            return None;
        }
        let expected = if target.dtype().is_float() { self.shape().clone() } else { self.shape().without(&[axis]) };
        if *target.shape() != expected || !(target.dtype().is_float() || target.dtype() == DType::I32) {
            let detail = format!("target {} does not fit input {} (expected shape {expected})", target.ty(), self.ty());
            self.fail(op, detail, loc);
            return None;
        }
        let classes = self.shape()[axis];
        if let Some(w) = weight.filter(|w| w.shape()[..] != [classes] || !w.dtype().is_float()) {
            self.fail(op, format!("weight {} is not one float per class of {}", w.ty(), self.ty()), loc);
            return None;
        }
        Some((axis as isize, classes))
    }

    /// `[N, C, d..]` as `[N * d.., C]`.
    fn class_rows(&self, axis: isize, classes: usize) -> Tensor {
        let mut order: Vec<isize> = (0..self.rank() as isize).filter(|&d| d != axis).collect();
        order.push(axis);
        self.permute(&order).reshape([self.elems() / classes.max(1), classes])
    }

    /// Of classes: which are `ignore`, and the classes with 0 in their place.
    fn safe_class(&self, ignore: i32) -> (Tensor, Tensor) {
        let ignored = self.eq(&self.like(ignore as f64));
        let safe = ignored.select(&self.like(0.0), self);
        (ignored, safe)
    }

    /// Of rows `[n, c]`: the safe classes and the element of each row at its class.
    fn pick(&self, flat: &Tensor, ignore: i32) -> (Tensor, Tensor) {
        let (_, safe) = flat.safe_class(ignore);
        let picked = self.gather(1, &safe.unsqueeze(1)).reshape([flat.elems()]);
        (safe, picked)
    }

    /// Reduces a loss per row; the mean is over the weights of the classes that count.
    fn reduce_classes(&self, target: &Tensor, flat: &Tensor, options: &CrossEntropyOptions) -> Tensor {
        match options.reduction {
            Reduction::None => self.reshape(target.shape()),
            Reduction::Sum => self.sum(&[], false),
            Reduction::Mean => {
                let (ignored, safe) = flat.safe_class(options.ignore_index);
                let weight = match options.weight {
                    Some(w) => w.take(&safe),
                    None => self.like(1.0),
                };
                let total = ignored.select(&self.like(0.0), &weight).sum(&[], false);
                self.sum(&[], false) / total
            }
        }
    }
}
