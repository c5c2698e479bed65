//! Stochastic gradient descent with momentum.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::{Optimizer, UpdateCx};
use serde::{Deserialize, Serialize};

/// How [`Sgd`] remembers its direction; with a constant learning rate all three take steps in proportion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentumForm {
    /// torch's: b = momentum b + (1 - dampening) g (b = g at the first step); p -= lr b.
    #[default]
    Torch,
    /// The steps themselves: m = momentum m - lr g; p += m. A step keeps the learning rate that it was taken with.
    Velocity,
    /// A moving average: v = momentum v + (1 - momentum) g, from v = 0; p -= lr v.
    Average,
}

/// Gradient descent with `g += weight_decay p`, along a direction that [`MomentumForm`] describes; with `nesterov`
/// p -= lr (g + momentum b) in torch's form, p += momentum m - lr g in that of velocities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sgd {
    /// Share of the last step's direction that is kept.
    pub momentum: f64,
    /// How much less the gradient adds to the direction; only in torch's form.
    pub dampening: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Looks one momentum step ahead; a moving average has no such form and ignores it.
    pub nesterov: bool,
    /// How the direction is remembered.
    pub form: MomentumForm,
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
    /// The same with the direction remembered in this form.
    pub fn form(mut self, form: MomentumForm) -> Sgd {
        self.form = form;
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
            let Some(momentum) = cx.momentum(self.momentum) else {
                cx.set(name, p, &(p - cx.lr() * &g));
                continue;
            };
            let b = cx.state(name, "momentum_buffer", p.shape(), Init::ZEROS);
            let (new, moved) = match self.form {
                MomentumForm::Torch => {
                    let mut new = momentum.of(&b) + &g * (1.0 - self.dampening);
                    if self.dampening != 0.0 {
                        // Without dampening 0 * momentum + g is g already.
                        new = cx.first().select(&g, &new);
                    }
                    let direction = if self.nesterov { &g + momentum.of(&new) } else { new.clone() };
                    (new, p - cx.lr() * direction)
                }
                MomentumForm::Velocity => {
                    let new = momentum.of(&b) - cx.lr() * &g;
                    let step = if self.nesterov { momentum.of(&new) - cx.lr() * &g } else { new.clone() };
                    (new, p + step)
                }
                MomentumForm::Average => {
                    let new = momentum.of(&b) + momentum.rest_of(&g);
                    let moved = p - cx.lr() * &new;
                    (new, moved)
                }
            };
            cx.set_state(&b, &new);
            cx.set(name, p, &moved);
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
