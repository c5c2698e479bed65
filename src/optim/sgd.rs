//! Stochastic gradient descent with momentum.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::{Optimizer, UpdateCx};

/// With `g += weight_decay p`: b = momentum b + (1 - dampening) g (b = g at the first step); p -= lr b, or with
/// nesterov p -= lr (g + momentum b).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sgd {
    /// Share of the last step's direction that is kept.
    pub momentum: f64,
    /// How much less the gradient adds to the direction.
    pub dampening: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Looks one momentum step ahead.
    pub nesterov: bool,
}

impl Sgd {
    /// Plain gradient descent.
    pub fn new() -> Sgd {
        Sgd::default()
    }
    /// The same with momentum.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }
    /// The same with Nesterov's look-ahead.
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }
    /// The same with an L2 penalty.
    pub fn weight_decay(mut self, weight_decay: f64) -> Sgd {
        self.weight_decay = weight_decay;
        self
    }
}

/// The gradient with that of the L2 penalty added.
#[track_caller]
pub(crate) fn decayed(p: &Tensor, g: &Tensor, weight_decay: f64) -> Tensor {
    if weight_decay == 0.0 { g.clone() } else { g + p * weight_decay }
}

impl Optimizer for Sgd {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decayed(p, g, self.weight_decay);
            if self.momentum == 0.0 {
                cx.set(name, p, &(p - cx.lr() * &g));
                continue;
            }
            let b = cx.state(name, "momentum_buffer", p.shape(), Init::ZEROS);
            let mut new = &b * self.momentum + &g * (1.0 - self.dampening);
            if self.dampening != 0.0 {
                // Without dampening 0 * momentum + g is g already.
                new = cx.first().select(&g, &new);
            }
            let direction = if self.nesterov { &g + &new * self.momentum } else { new.clone() };
            cx.set_state(&b, &new);
            cx.set(name, p, &(p - cx.lr() * direction));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
