//! Layer normalisation as a composite over the rows of a matrix with an explicit gradient, and torch's `layer_norm`
//! over any trailing dimensions.

use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs, ranks};
use std::any::Any;
use std::panic::Location;

/// `x[rows,n], weight[n], bias[n] -> y, mean[rows], rstd[rows]` with the biased variance in two passes:
/// rstd = 1 / sqrt(var + eps), `y = (x - mean) * rstd * weight + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f64,
}

/// `x, weight, mean, rstd, g -> dx, dweight, dbias` of [`LayerNorm`]. With xh = (x - mean) rstd and gw = g weight:
/// dx = rstd (gw - mean(gw) - xh mean(gw xh)), means along rows; dweight = sum(g xh), dbias = sum(g) over rows.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormGrad {
    /// Added to the variance.
    pub eps: f64,
}

impl Composite for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn attrs(&self) -> String {
        format!("eps={:?}", self.eps)
    }
    fn outputs(&self) -> usize {
        3
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("layer_norm", args, &[2, 1, 1]) {
            return [bad.clone(), bad.clone(), bad].concat();
        }
        let (x, rows) = (&args[0], args[0].size(0));
        let mean = x.mean(&[1], true);
        let d = x - &mean;
        let rstd = (d.square().mean(&[1], true) + self.eps).rsqrt();
        let y = d * &rstd * &args[1] + &args[2];
        vec![y, mean.reshape([rows]), rstd.reshape([rows])]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        if v.cotangents[1].is_some() || v.cotangents[2].is_some() {
            return None;
        }
        let g = v.cotangents[0].as_ref()?;
        let args = [&v.args[0], &v.args[1], &v.outs[1], &v.outs[2], g];
        Some(v.builder.call(LayerNormGrad { eps: self.eps }, &args).into_iter().map(Some).collect())
    }
    fn rounds_to_f16(&self) -> (&'static [usize], &'static [usize]) {
        (&[0], &[0])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Composite for LayerNormGrad {
    fn name(&self) -> &'static str {
        "layer_norm_grad"
    }
    fn attrs(&self) -> String {
        format!("eps={:?}", self.eps)
    }
    fn outputs(&self) -> usize {
        3
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(bad) = ranks("layer_norm_grad", args, &[2, 1, 1, 1, 2]) {
            return [bad.clone(), bad.clone(), bad].concat();
        }
        let (x, weight, g) = (&args[0], &args[1], &args[4]);
        let (mean, rstd) = (args[2].unsqueeze(1), args[3].unsqueeze(1));
        let xh = (x - mean) * &rstd;
        let gw = g * weight;
        let along = (&gw * &xh).mean(&[1], true);
        let dx = rstd * (&gw - gw.mean(&[1], true) - &xh * along);
        vec![dx, (g * xh).sum(&[0], false), g.sum(&[0], false)]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Tensor {
    /// Normalises over the trailing dimensions `normalized_shape`; `weight` and `bias` have that shape (`None`: 1 and 0).
    #[track_caller]
    pub fn layer_norm(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let loc = Location::caller();
        if normalized_shape.is_empty() || !self.shape().ends_with(normalized_shape) {
            let detail = format!("{} does not end in the normalized shape {normalized_shape:?}", self.ty());
            return self.fail("layer_norm", detail, loc);
        }
        for (name, t) in [("weight", weight), ("bias", bias)] {
            if let Some(t) = t.filter(|t| t.shape()[..] != *normalized_shape) {
                let detail = format!("{name} {} has not the normalized shape {normalized_shape:?}", t.ty());
                return self.fail("layer_norm", detail, loc);
            }
        }
        let n: usize = normalized_shape.iter().product();
        let rows: usize = self.shape()[..self.rank() - normalized_shape.len()].iter().product();
        let vector = |t: Option<&Tensor>, default: f64| match t {
            Some(t) => t.reshape([n]),
            None => self.builder().full([n], default),
        };
        let args = [self.reshape([rows, n]), vector(weight, 1.0), vector(bias, 0.0)];
        let outs = self.builder().call(LayerNorm { eps }, &[&args[0], &args[1], &args[2]]);
        outs[0].reshape(self.shape())
    }
}
