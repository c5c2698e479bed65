//! Relatives of Adam: Adamax, NAdam, RAdam, AdaBound, Lion.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::adam::{Decay, moments};
use crate::optim::sgd::decayed;
use crate::optim::{Optimizer, UpdateCx};
use crate::shape::Shape;

/// m as Adam; u = max(b2 u, |g| + eps); p -= lr / (1-b1^t) m / u.
#[derive(Debug, Clone, PartialEq)]
pub struct Adamax {
    /// Decay of the moment and of the maximum.
    pub betas: (f64, f64),
    /// Added to the magnitude.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for Adamax {
    fn default() -> Adamax {
        Adamax { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Optimizer for Adamax {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let step = cx.lr() / cx.one_minus_beta1_pow(self.betas.0);
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decayed(p, g, self.weight_decay);
            let m = cx.state(name, "exp_avg", p.shape(), Init::ZEROS);
            let u = cx.state(name, "exp_inf", p.shape(), Init::ZEROS);
            let b1 = cx.beta1(self.betas.0);
            let new_m = b1.of(&m) + b1.rest_of(&g);
            let new_u = (&u * self.betas.1).maximum(&(g.abs() + self.eps));
            cx.set_state(&m, &new_m);
            cx.set_state(&u, &new_u);
            cx.set(name, p, &(p - &step * new_m / new_u));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// Adam with Nesterov's look-ahead: mu_t = b1 (1 - 0.5 * 0.96^(t momentum_decay)), P_t their product;
/// p -= lr [(1-mu_t)/(1-P_t) g + mu_{t+1}/(1-P_t mu_{t+1}) m] / (sqrt(v/(1-b2^t)) + eps).
#[derive(Debug, Clone, PartialEq)]
pub struct NAdam {
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// The weight decay shrinks the parameters instead: p *= 1 - lr wd first.
    pub decoupled_weight_decay: bool,
    /// How fast mu approaches b1.
    pub momentum_decay: f64,
}

impl Default for NAdam {
    fn default() -> NAdam {
        NAdam {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled_weight_decay: false,
            momentum_decay: 0.004,
        }
    }
}

impl Optimizer for NAdam {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let mu = |t: Tensor| {
            let decay = (t * (self.momentum_decay * 0.96f64.ln())).exp();
            cx.beta1(self.betas.0).of(&(decay * -0.5 + 1.0))
        };
        let (now, next) = (mu(cx.t().clone()), mu(cx.t() + 1.0));
        let product = cx.state("", "mu_product", Shape::default(), Init::ONES);
        let new_product = &product * &now;
        cx.set_state(&product, &new_product);
        let of_g = cx.lr() * (1.0 - now) / (1.0 - &new_product);
        let of_m = cx.lr() * &next / (1.0 - new_product * &next);
        let root = cx.one_minus_pow(self.betas.1).sqrt();
        let decay = Decay { weight_decay: self.weight_decay, decoupled: self.decoupled_weight_decay };
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decay.of_gradient(p, g);
            let (m, v) = moments(cx, name, &g, self.betas);
            cx.set(name, p, &(decay.of_parameter(cx, p) - (&of_g * g + &of_m * m) / (v.sqrt() / &root + self.eps)));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// Adam whose adaptive step waits until its variance is known well enough (r_t > 5), and is rectified then.
#[derive(Debug, Clone, PartialEq)]
pub struct RAdam {
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// The weight decay shrinks the parameters instead: p *= 1 - lr wd first.
    pub decoupled_weight_decay: bool,
}

impl Default for RAdam {
    fn default() -> RAdam {
        RAdam { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled_weight_decay: false }
    }
}

/// r_t = r_inf - 2 t b^t / (1 - b^t), with r_inf = 2/(1-b) - 1.
///
/// For small t this is a difference of two numbers near 2000 that leaves about t: in f32 four digits would remain. With
/// c = -ln b and h(y) = y coth(y) - 1 it equals t - (2/c) (h(t c/2) - h(c/2)), whose series has no such cancellation:
/// h = y^2/3 - y^4/45 + 2 y^6/945 - y^8/4725 + 2 y^10/93555 (below 3e-8 relative for y < 1/2).
#[track_caller]
pub(crate) fn rectified_length(cx: &UpdateCx, b: f64) -> Tensor {
    let c = -b.ln();
    let r_inf = 2.0 / (1.0 - b) - 1.0;
    let y = cx.t() * (c / 2.0);
    let z = y.square();
    let h = |z: &Tensor| {
        let coefficients = [-1.0 / 4725.0, 2.0 / 945.0, -1.0 / 45.0, 1.0 / 3.0];
        coefficients.iter().fold(z.like(2.0 / 93555.0), |acc, &k| acc * z + k) * z
    };
    let h_c = (c / 2.0) / (c / 2.0).tanh() - 1.0;
    let small = cx.t() - (h(&z) - h_c) * (2.0 / c);
    let large = r_inf - cx.t() * 2.0 / (&y * 2.0).expm1();
    y.lt(&cx.num(0.5)).select(&small, &large)
}

impl Optimizer for RAdam {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let (b1, b2) = self.betas;
        let plain = cx.lr() / cx.one_minus_beta1_pow(b1);
        let r_inf = 2.0 / (1.0 - b2) - 1.0;
        // r_t never exceeds r_inf: with a short memory the adaptive step never comes.
        let rectified = (r_inf > 5.0).then(|| {
            let r = rectified_length(cx, b2);
            let known = r.gt(&cx.num(5.0));
            // At least 5, so that the root exists where it is not used.
            let r = r.maximum(&cx.num(5.0));
            let rect = ((&r - 4.0) * (&r - 2.0) / r * (r_inf / ((r_inf - 4.0) * (r_inf - 2.0)))).sqrt();
            (known, &plain * rect * cx.one_minus_pow(b2).sqrt())
        });
        let decay = Decay { weight_decay: self.weight_decay, decoupled: self.decoupled_weight_decay };
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decay.of_gradient(p, g);
            let (m, v) = moments(cx, name, &g, self.betas);
            let step = match &rectified {
                Some((known, adaptive)) => known.select(&(adaptive / (v.sqrt() + self.eps)), &plain),
                None => plain.clone(),
            };
            cx.set(name, p, &(decay.of_parameter(cx, p) - step * m));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// Adam whose step size per element is confined to a band that narrows towards `final_lr`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaBound {
    /// The step size in the end.
    pub final_lr: f64,
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// How fast the band narrows.
    pub gamma: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for AdaBound {
    fn default() -> AdaBound {
        AdaBound { final_lr: 0.1, betas: (0.9, 0.999), gamma: 1e-3, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Optimizer for AdaBound {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let rate = cx.lr() * cx.one_minus_pow(self.betas.1).sqrt() / cx.one_minus_beta1_pow(self.betas.0);
        let gt = cx.t() * self.gamma;
        // 1 - 1/(gt + 1) = gt/(gt + 1)
        let (lower, upper) = (&gt / (&gt + 1.0) * self.final_lr, (&gt + 1.0) / &gt * self.final_lr);
        for ((name, p), g) in params.iter().zip(grads) {
            let g = decayed(p, g, self.weight_decay);
            let (m, v) = moments(cx, name, &g, self.betas);
            let step = (&rate / (v.sqrt() + self.eps)).maximum(&lower).minimum(&upper);
            cx.set(name, p, &(p - step * m));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// p -= lr (sign(b1 m + (1-b1) g) + wd p); then m = b2 m + (1-b2) g.
#[derive(Debug, Clone, PartialEq)]
pub struct Lion {
    /// Share of the momentum in the direction, and its decay.
    pub betas: (f64, f64),
    /// Share of each parameter (times lr) that every step removes.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Lion {
        Lion { betas: (0.9, 0.99), weight_decay: 0.0 }
    }
}

impl Optimizer for Lion {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let (b1, b2) = self.betas;
        for ((name, p), g) in params.iter().zip(grads) {
            let m = cx.state(name, "exp_avg", p.shape(), Init::ZEROS);
            let kept = cx.beta1(b1);
            let mut direction = (kept.of(&m) + kept.rest_of(g)).sign();
            if self.weight_decay != 0.0 {
                direction = direction + p * self.weight_decay;
            }
            cx.set_state(&m, &(&m * b2 + g * (1.0 - b2)));
            cx.set(name, p, &(p - cx.lr() * direction));
        }
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
