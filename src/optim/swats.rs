//! SWATS: Adam that turns into SGD by itself when the size of the SGD step that would do the same has settled
//! (arXiv 1712.07628). The decision and both steps are in the graph; the host has no part in it.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::adam::moments;
use crate::optim::clip::total;
use crate::optim::{Optimizer, UpdateCx};
use crate::shape::Shape;

/// First Adam: d = -lr m^ / (sqrt(v^) + eps). With d and g of all parameters as one vector, r = d.d / -(d.g) is the SGD
/// rate whose step projects onto d, and s = b2 s + (1-b2) r its average, s^ = s/(1-b2^t). After a step t > 1 with
/// |s^ - r| < tolerance, and s^ > 0, SGD follows: u = b1 u + g, p -= (1-b1) s^ u. Where d.g = 0 the average stays as it is.
/// The rate is kept relative to lr, so that a schedule goes on after the switch.
#[derive(Debug, Clone, PartialEq)]
pub struct Swats {
    /// Decay of the two moments; the first is also SGD's momentum, the second the decay of the average rate.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// How close rate and average must be to switch.
    pub tolerance: f64,
}

impl Default for Swats {
    fn default() -> Swats {
        Swats { betas: (0.9, 0.999), eps: 1e-8, tolerance: 1e-9 }
    }
}

impl Optimizer for Swats {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        if params.is_empty() {
            return;
        }
        // The SGD rate relative to lr; 0 stands for the Adam phase.
        let ratio = cx.state("", "sgd_ratio", Shape::default(), Init::ZEROS);
        let average = cx.state("", "sgd_rate", Shape::default(), Init::ZEROS);
        let zero = cx.num(0.0);
        let sgd = ratio.gt(&zero);
        let step_size = cx.lr() / cx.one_minus_pow(self.betas.0);
        let root = cx.one_minus_pow(self.betas.1).sqrt();
        let rate = &ratio * cx.lr() * (1.0 - self.betas.0);
        let (mut squares, mut products) = (Vec::new(), Vec::new());
        for ((name, p), g) in params.iter().zip(grads) {
            let (m, v) = moments(cx, name, g, self.betas);
            let adam = &step_size * m / (v.sqrt() / &root + self.eps);
            squares.push(adam.square().sum(&[], false));
            products.push((&adam * g).sum(&[], false));
            // Zero until the switch, so that SGD starts without momentum.
            let u = cx.state(name, "momentum_buffer", p.shape(), Init::ZEROS);
            let in_sgd = sgd.broadcast_to(p.shape());
            let new_u = in_sgd.select(&(&u * self.betas.0 + g), &u);
            cx.set_state(&u, &new_u);
            cx.set(name, p, &(p - in_sgd.select(&(&rate * new_u), &adam)));
        }
        // d = -adam, so that d.d / -(d.g) = adam.adam / adam.g.
        let along = total(products);
        let defined = along.eq(&zero).not();
        let r = total(squares) / defined.select(&along, &cx.num(1.0));
        let new = &average * self.betas.1 + &r * (1.0 - self.betas.1);
        let corrected = &new / cx.one_minus_pow(self.betas.1);
        let settled = (&corrected - &r).abs().lt(&cx.num(self.tolerance));
        let switch = settled.and(&defined).and(&corrected.gt(&zero)).and(&cx.first().not()).and(&sgd.not());
        cx.set_state(&average, &defined.and(&sgd.not()).select(&new, &average));
        cx.set_state(&ratio, &switch.select(&(corrected / cx.lr()), &ratio));
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
