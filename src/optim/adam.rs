//! Adam and AdamW, with AMSGrad.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::sgd::decayed;
use crate::optim::{Optimizer, UpdateCx};

/// m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2; p -= lr m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps).
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// The weight decay shrinks the parameters instead, as [`AdamW`]'s does.
    pub decoupled_weight_decay: bool,
    /// Divides by the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled_weight_decay: false, amsgrad: false }
    }
}

impl Adam {
    /// torch's defaults.
    pub fn new() -> Adam {
        Adam::default()
    }
}

/// Adam with decoupled weight decay: p *= 1 - lr wd first.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of each parameter (times lr) that every step removes.
    pub weight_decay: f64,
    /// Divides by the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01, amsgrad: false }
    }
}

impl AdamW {
    /// torch's defaults (weight decay 0.01).
    pub fn new() -> AdamW {
        AdamW::default()
    }
    /// The same with this weight decay.
    pub fn weight_decay(mut self, weight_decay: f64) -> AdamW {
        self.weight_decay = weight_decay;
        self
    }
}

/// Both moments of the gradient, updated: (m, v).
#[track_caller]
pub(crate) fn moments(cx: &UpdateCx, name: &str, g: &Tensor, betas: (f64, f64)) -> (Tensor, Tensor) {
    let m = cx.state(name, "exp_avg", g.shape(), Init::ZEROS);
    let v = cx.state(name, "exp_avg_sq", g.shape(), Init::ZEROS);
    let b1 = cx.beta1(betas.0);
    let new_m = b1.of(&m) + b1.rest_of(g);
    let new_v = &v * betas.1 + g.square() * (1.0 - betas.1);
    cx.set_state(&m, &new_m);
    cx.set_state(&v, &new_v);
    (new_m, new_v)
}

/// A weight decay in one of its two forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decay {
    pub weight_decay: f64,
    pub decoupled: bool,
}

impl Decay {
    /// The gradient with the penalty's, unless that is decoupled.
    #[track_caller]
    pub fn of_gradient(self, p: &Tensor, g: &Tensor) -> Tensor {
        decayed(p, g, if self.decoupled { 0.0 } else { self.weight_decay })
    }

    /// The parameter before the step: (1 - lr wd) p if the decay is decoupled.
    #[track_caller]
    pub fn of_parameter(self, cx: &UpdateCx, p: &Tensor) -> Tensor {
        if self.decoupled && self.weight_decay != 0.0 {
            p * (cx.num(1.0) - cx.lr() * self.weight_decay)
        } else {
            p.clone()
        }
    }
}

struct Rule {
    betas: (f64, f64),
    eps: f64,
    decay: Decay,
    amsgrad: bool,
}

impl Rule {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        // The scalars of the step, once: lr / (1 - b1^t), sqrt(1 - b2^t).
        let step_size = cx.lr() / cx.one_minus_beta1_pow(self.betas.0);
        let root = cx.one_minus_pow(self.betas.1).sqrt();
        for ((name, p), g) in params.iter().zip(grads) {
            let g = self.decay.of_gradient(p, g);
            let (m, mut v) = moments(cx, name, &g, self.betas);
            if self.amsgrad {
                let max = cx.state(name, "max_exp_avg_sq", p.shape(), Init::ZEROS);
                v = max.maximum(&v);
                cx.set_state(&max, &v);
            }
            let kept = self.decay.of_parameter(cx, p);
            cx.set(name, p, &(kept - &step_size * m / (v.sqrt() / &root + self.eps)));
        }
    }
}

impl Optimizer for Adam {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let Adam { betas, eps, weight_decay, decoupled_weight_decay: decoupled, amsgrad } = *self;
        Rule { betas, eps, decay: Decay { weight_decay, decoupled }, amsgrad }.update(cx, params, grads);
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

impl Optimizer for AdamW {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let AdamW { betas, eps, weight_decay, amsgrad } = *self;
        Rule { betas, eps, decay: Decay { weight_decay, decoupled: true }, amsgrad }.update(cx, params, grads);
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
