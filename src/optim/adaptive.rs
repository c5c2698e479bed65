//! Rules with a step size per element besides Adam: Adagrad, Adadelta, RMSprop, Rprop, and RMSprop and normalised
//! gradient descent with one scale for all parameters.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::clip::global_norm;
use crate::optim::sgd::decayed;
use crate::optim::{Optimizer, UpdateCx};
use crate::shape::Shape;

/// s += g^2; p -= lr / (1 + (t-1) lr_decay) g / (sqrt(s) + eps).
#[derive(Debug, Clone, PartialEq)]
pub struct Adagrad {
    /// How fast the rate falls with the number of steps.
    pub lr_decay: f64,
    /// s at the start.
    pub initial_accumulator_value: f64,
    /// Added to the root.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for Adagrad {
    fn default() -> Adagrad {
        Adagrad { lr_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10, weight_decay: 0.0 }
    }
}

impl Optimizer for Adagrad {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let rate = cx.lr() / ((cx.t() - 1.0) * self.lr_decay + 1.0);
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decayed(p, g, self.weight_decay);
            let sum = cx.state(name, "sum", p.shape(), Init::Constant(self.initial_accumulator_value));
            let new = &sum + g.square();
            cx.set_state(&sum, &new);
            cx.set(name, p, &(p - &rate * g / (new.sqrt() + self.eps)));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// s = rho s + (1-rho) g^2; d = sqrt(a + eps) / sqrt(s + eps) g; a = rho a + (1-rho) d^2; p -= lr d.
#[derive(Debug, Clone, PartialEq)]
pub struct Adadelta {
    /// Decay of both averages.
    pub rho: f64,
    /// Added below the roots.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for Adadelta {
    fn default() -> Adadelta {
        Adadelta { rho: 0.9, eps: 1e-6, weight_decay: 0.0 }
    }
}

impl Optimizer for Adadelta {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decayed(p, g, self.weight_decay);
            let s = cx.state(name, "square_avg", p.shape(), Init::ZEROS);
            let a = cx.state(name, "acc_delta", p.shape(), Init::ZEROS);
            let new_s = &s * self.rho + g.square() * (1.0 - self.rho);
            let d = (&a + self.eps).sqrt() / (&new_s + self.eps).sqrt() * g;
            cx.set_state(&a, &(&a * self.rho + d.square() * (1.0 - self.rho)));
            cx.set_state(&s, &new_s);
            cx.set(name, p, &(p - cx.lr() * d));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// s = alpha s + (1-alpha) g^2; d = g / (sqrt(s) + eps), centered: sqrt(s - mean(g)^2) with a running mean;
/// b = momentum b + d; p -= lr b.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsProp {
    /// Decay of the averages.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
    /// Share of the last direction that is kept.
    pub momentum: f64,
    /// Divides by the standard deviation instead of the root mean square.
    pub centered: bool,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    fn default() -> RmsProp {
        RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }
}

impl Optimizer for RmsProp {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decayed(p, g, self.weight_decay);
            let s = cx.state(name, "square_avg", p.shape(), Init::ZEROS);
            let new_s = &s * self.alpha + g.square() * (1.0 - self.alpha);
            cx.set_state(&s, &new_s);
            let mut scale = new_s;
            if self.centered {
                let mean = cx.state(name, "grad_avg", p.shape(), Init::ZEROS);
                let new_mean = &mean * self.alpha + &g * (1.0 - self.alpha);
                cx.set_state(&mean, &new_mean);
                // A variance that rounding has made negative is 0.
                scale = (scale - new_mean.square()).maximum(&g.like(0.0));
            }
            let mut d = g / (scale.sqrt() + self.eps);
            if let Some(momentum) = cx.momentum(self.momentum) {
                let b = cx.state(name, "momentum_buffer", p.shape(), Init::ZEROS);
                d = momentum.of(&b) + d;
                cx.set_state(&b, &d);
            }
            cx.set(name, p, &(p - cx.lr() * d));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// RMSprop with one average for all parameters: V = alpha V + (1-alpha) n^2, n the norm of all gradients as one vector;
/// p -= lr g / (sqrt(V) + eps).
#[derive(Debug, Clone, PartialEq)]
pub struct RmsPropGlobal {
    /// Decay of the average.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
}

impl Default for RmsPropGlobal {
    fn default() -> RmsPropGlobal {
        RmsPropGlobal { alpha: 0.99, eps: 1e-8 }
    }
}

impl Optimizer for RmsPropGlobal {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let Some(n) = norm_of(grads) else { return };
        let v = cx.state("", "square_avg", Shape::default(), Init::ZEROS);
        let new = &v * self.alpha + n.square() * (1.0 - self.alpha);
        cx.set_state(&v, &new);
        let step = cx.lr() / (new.sqrt() + self.eps);
        for ((name, p), g) in params.iter().zip(grads) {
            cx.set(name, p, &(p - &step * g));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// Normalised gradient descent: p -= lr g / (n + eps), n the norm of all gradients as one vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Ngd {
    /// Added to the norm.
    pub eps: f64,
}

impl Default for Ngd {
    fn default() -> Ngd {
        Ngd { eps: 1e-8 }
    }
}

impl Optimizer for Ngd {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let Some(n) = norm_of(grads) else { return };
        let step = cx.lr() / (n + self.eps);
        for ((name, p), g) in params.iter().zip(grads) {
            cx.set(name, p, &(p - &step * g));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

#[track_caller]
fn norm_of(grads: &[Tensor]) -> Option<Tensor> {
    (!grads.is_empty()).then(|| global_norm(&grads.iter().collect::<Vec<_>>()))
}

/// A step size per element, independent of the gradient's size: it grows while the sign of the gradient stays, and
/// shrinks (and the step is left out) when it turns; p -= sign(g) step.
#[derive(Debug, Clone, PartialEq)]
pub struct Rprop {
    /// Step size at the start; the learning rate of the schedule plays no part.
    pub lr: f64,
    /// Factors for a turned and for a kept sign.
    pub etas: (f64, f64),
    /// Smallest and largest step size.
    pub step_sizes: (f64, f64),
}

impl Rprop {
    /// torch's defaults with this first step size.
    pub fn new(lr: f64) -> Rprop {
        Rprop { lr, etas: (0.5, 1.2), step_sizes: (1e-6, 50.0) }
    }
}

impl Optimizer for Rprop {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        for ((name, p), g) in params.iter().zip(grads) {
            let prev = cx.state(name, "prev", p.shape(), Init::ZEROS);
            let size = cx.state(name, "step_size", p.shape(), Init::Constant(self.lr));
            // The product of signs, not the sign of the product, which may underflow.
            let turn = g.sign() * prev.sign();
            let zero = g.like(0.0);
            let (grew, turned) = (turn.gt(&zero), turn.lt(&zero));
            let factor = grew.select(&g.like(self.etas.1), &turned.select(&g.like(self.etas.0), &g.like(1.0)));
            let new = (&size * factor).maximum(&g.like(self.step_sizes.0)).minimum(&g.like(self.step_sizes.1));
            let g = turned.select(&zero, g);
            cx.set_state(&size, &new);
            cx.set_state(&prev, &g);
            cx.set(name, p, &(p - g.sign() * new));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
