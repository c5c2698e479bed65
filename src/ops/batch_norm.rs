//! Batch normalisation: the training pass as a composite over `[n, c, s]` with an explicit gradient, and torch's
//! `batch_norm`, whose inference is plain pointwise arithmetic.

use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs, ranks};
use std::any::Any;
use std::panic::Location;

/// `x[n,c,s], weight[c], bias[c] -> y, mean[c], var[c]` over n and s, with the biased variance in two passes:
/// `y = (x - mean) / sqrt(var + eps) * weight + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f64,
}

/// `x, weight, mean, var, g -> dx, dweight, dbias` of [`BatchNorm`]. With xh = (x - mean) / sqrt(var + eps), m = n s:
/// dbias = sum(g), dweight = sum(g xh), dx = weight / sqrt(var + eps) * (g - dbias/m - xh dweight/m).
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormGrad {
    /// Added to the variance.
    pub eps: f64,
}

impl Composite for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn attrs(&self) -> String {
        format!("eps={:?}", self.eps)
    }
    fn outputs(&self) -> usize {
        3
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("batch_norm", args, &[3, 1, 1]) {
            return [bad.clone(), bad.clone(), bad].concat();
        }
        let (x, c) = (&args[0], args[0].size(1));
        let (weight, bias) = (args[1].unsqueeze(1), args[2].unsqueeze(1));
        let mean = x.mean(&[0, 2], true);
        let d = x - &mean;
        let var = d.square().mean(&[0, 2], true);
        let y = d * (&var + self.eps).rsqrt() * weight + bias;
        vec![y, mean.reshape([c]), var.reshape([c])]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        if v.cotangents[1].is_some() || v.cotangents[2].is_some() {
            return None;
        }
        let g = v.cotangents[0].as_ref()?;
        let args = [&v.args[0], &v.args[1], &v.outs[1], &v.outs[2], g];
        Some(v.builder.call(BatchNormGrad { eps: self.eps }, &args).into_iter().map(Some).collect())
    }
    fn rounds_to_f16(&self) -> (&'static [usize], &'static [usize]) {
        (&[0], &[0])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for BatchNormGrad {
    fn name(&self) -> &'static str {
        "batch_norm_grad"
    }
    fn attrs(&self) -> String {
        format!("eps={:?}", self.eps)
    }
    fn outputs(&self) -> usize {
        3
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("batch_norm_grad", args, &[3, 1, 1, 1, 3]) {
            return [bad.clone(), bad.clone(), bad].concat();
        }
        let (x, c, g) = (&args[0], args[0].size(1), &args[4]);
        let (weight, mean, var) = (args[1].unsqueeze(1), args[2].unsqueeze(1), args[3].unsqueeze(1));
        let m = (x.size(0) * x.size(2)) as f64;
        let rstd = (var + self.eps).rsqrt();
        let xh = (x - mean) * &rstd;
        let dbias = g.sum(&[0, 2], true);
        let dweight = (g * &xh).sum(&[0, 2], true);
        let dx = weight * rstd * (g - &dbias / m - xh * (&dweight / m));
        vec![dx, dweight.reshape([c]), dbias.reshape([c])]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The arguments of [`Tensor::batch_norm`] beside the input, with torch's defaults.
#[derive(Debug, Clone)]
pub struct BatchNormOptions<'a> {
    /// Running mean `[C]`; needed for inference.
    pub running_mean: Option<&'a Tensor>,
    /// Running (unbiased) variance `[C]`; needed for inference.
    pub running_var: Option<&'a Tensor>,
    /// Factor `[C]`; `None` is 1.
    pub weight: Option<&'a Tensor>,
    /// Summand `[C]`; `None` is 0.
    pub bias: Option<&'a Tensor>,
    /// Normalise with the statistics of this batch, and update the running ones.
    pub training: bool,
    /// Weight of this batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
}

impl Default for BatchNormOptions<'_> {
    fn default() -> Self {
        BatchNormOptions {
            running_mean: None,
            running_var: None,
            weight: None,
            bias: None,
            training: false,
            momentum: 0.1,
            eps: 1e-5,
        }
    }
}

/// What [`Tensor::batch_norm`] gives.
#[derive(Debug, Clone)]
pub struct BatchNormResult {
    /// The normalised input.
    pub output: Tensor,
    /// The new running mean, if there was one (unchanged by inference).
    pub running_mean: Option<Tensor>,
    /// The new running variance, if there was one (unchanged by inference).
    pub running_var: Option<Tensor>,
}

impl Tensor {
    /// Normalises `[N, C, ..]` over all dimensions but 1.
    #[track_caller]
    pub fn batch_norm(&self, o: &BatchNormOptions) -> BatchNormResult {
        const OP: &str = "batch_norm";
        let loc = Location::caller();
        let result = |output: Tensor| BatchNormResult {
            output,
            running_mean: o.running_mean.cloned(),
            running_var: o.running_var.cloned(),
        };
        if self.rank() < 2 {
            return result(self.fail(OP, format!("needs [N, C, ..], got {}", self.ty()), loc));
        }
        let (n, c) = (self.size(0), self.size(1));
        let s: usize = self.shape()[2..].iter().product();
        let vectors =
            [("running_mean", o.running_mean), ("running_var", o.running_var), ("weight", o.weight), ("bias", o.bias)];
        for (name, t) in vectors {
            if let Some(t) = t.filter(|t| t.shape()[..] != [c]) {
                let detail = format!("{name} {} is not one value per channel of {}", t.ty(), self.ty());
                return result(self.fail(OP, detail, loc));
            }
        }
        if !o.training {
            let (Some(mean), Some(var)) = (o.running_mean, o.running_var) else {
                return result(self.fail(OP, "inference needs running_mean and running_var", loc));
            };
            let chan = |t: &Tensor| t.along_axis(1, self.rank());
            let mut y = (self - chan(mean)) * chan(&(var + o.eps).rsqrt());
            if let Some(w) = o.weight {
                y = y * chan(w);
            }
            if let Some(b) = o.bias {
                y = y + chan(b);
            }
            return result(y);
        }
        if n * s == 1 {
            let detail = format!("needs more than one value per channel when training, got {}", self.ty());
            return result(self.fail(OP, detail, loc));
        }
        let ones = || self.builder().full([c], 1.0);
        let weight = o.weight.cloned().unwrap_or_else(ones);
        let bias = o.bias.cloned().unwrap_or_else(|| self.builder().full([c], 0.0));
        let outs = self.builder().call(BatchNorm { eps: o.eps }, &[&self.reshape([n, c, s]), &weight, &bias]);
        let m = (n * s) as f64;
        let towards = |old: &Tensor, new: Tensor| old * (1.0 - o.momentum) + new * o.momentum;
        BatchNormResult {
            output: outs[0].reshape(self.shape()),
            running_mean: o.running_mean.map(|old| towards(old, outs[1].detach())),
            running_var: o.running_var.map(|old| towards(old, outs[2].detach() * (m / (m - 1.0)))),
        }
    }
}
