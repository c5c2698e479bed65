//! Rules for large batches, which scale the step of each tensor by the ratio of its norms: LARS and LAMB.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::adam::moments;
use crate::optim::{Optimizer, UpdateCx};

/// local = trust |w| / (|g| + wd |w| + eps), 1 if either norm is 0; m = momentum m + lr local (g + wd w); w -= m.
#[derive(Debug, Clone, PartialEq)]
pub struct Lars {
    /// Share of the last step that is kept.
    pub momentum: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// How far a tensor may move, as a share of its norm.
    pub trust_coefficient: f64,
    /// Added to the denominator.
    pub eps: f64,
}

impl Default for Lars {
    fn default() -> Lars {
        Lars { momentum: 0.9, weight_decay: 0.0, trust_coefficient: 0.001, eps: 1e-8 }
    }
}

#[track_caller]
fn norm(x: &Tensor) -> Tensor {
    x.square().sum(&[], false).sqrt()
}

/// `ratio` where both norms are positive, else 1.
#[track_caller]
fn unless_zero(a: &Tensor, b: &Tensor, ratio: &Tensor) -> Tensor {
    let zero = a.like(0.0);
    a.eq(&zero).or(&b.eq(&zero)).select(&a.like(1.0), ratio)
}

impl Optimizer for Lars {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        for ((name, w), g) in params.iter().zip(grads) {
            let (nw, ng) = (norm(w), norm(g));
            let ratio = &nw * self.trust_coefficient / (&ng + &nw * self.weight_decay + self.eps);
            let step = cx.lr() * unless_zero(&nw, &ng, &ratio);
            let m = cx.state(name, "momentum_buffer", w.shape(), Init::ZEROS);
            let new = cx.beta1(self.momentum).of(&m) + step * (g + w * self.weight_decay);
            cx.set_state(&m, &new);
            cx.set(name, w, &(w - new));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// r = m^/(sqrt(v^) + eps) + wd w, bias-corrected as Adam; w -= lr |w|/|r| r per tensor, ratio 1 if either norm is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Lamb {
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of each parameter in the direction.
    pub weight_decay: f64,
}

impl Default for Lamb {
    fn default() -> Lamb {
        Lamb { betas: (0.9, 0.999), eps: 1e-6, weight_decay: 0.0 }
    }
}

impl Optimizer for Lamb {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let (c1, root) = (cx.one_minus_beta1_pow(self.betas.0), cx.one_minus_pow(self.betas.1).sqrt());
        for ((name, w), g) in params.iter().zip(grads) {
            let (m, v) = moments(cx, name, g, self.betas);
            let r = m / &c1 / (v.sqrt() / &root + self.eps) + w * self.weight_decay;
            let (nw, nr) = (norm(w), norm(&r));
            let ratio = unless_zero(&nw, &nr, &(&nw / &nr));
            cx.set(name, w, &(w - cx.lr() * ratio * r));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
