//! What keeps weights small, around any optimizer: penalties on the gradient, decay beside the update, a limit on norms;
//! and the mean of the weights over the last part of a run.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::{Ema, Optimizer, UpdateCx};

/// Regularizes weights: parameters of two dimensions or more. Biases and the scales of norms are left alone. Penalties enter
/// the gradient after clipping, as torch's `weight_decay` does; the reported loss is without them.
pub struct Regularized {
    /// Updates the parameters.
    pub inner: Box<dyn Optimizer>,
    /// Adds l1 sign(w) to the gradient.
    pub l1: f64,
    /// Adds l2 w to the gradient.
    pub l2: f64,
    /// Takes lr decay w off the new weight.
    pub decoupled_decay: f64,
    /// Largest norm of a row of a weight, which holds what goes into one unit; 0 for none.
    pub max_norm: f64,
}

impl Optimizer for Regularized {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let is_weight = |p: &Tensor| p.rank() >= 2;
        let penalised = |((_, p), g): (&(String, Tensor), &Tensor)| {
            let mut g = g.clone();
            if is_weight(p) && self.l2 > 0.0 {
                g = g + p * self.l2;
            }
            if is_weight(p) && self.l1 > 0.0 {
                g = g + p.sign() * self.l1;
            }
            g
        };
        let grads: Vec<Tensor> = params.iter().zip(grads).map(penalised).collect();
        self.inner.update(cx, params, &grads);
        for (name, p) in params.iter().filter(|(_, p)| is_weight(p)) {
            // A frozen parameter has no update.
            let Some(mut new) = cx.updated(name) else { continue };
            if self.decoupled_decay > 0.0 {
                new = new - cx.lr() * self.decoupled_decay * p;
            }
            if self.max_norm > 0.0 {
                let dims: Vec<isize> = (1..p.rank() as isize).collect();
                let norm = new.square().sum(&dims, true).sqrt();
                let over = norm.gt(&norm.like(self.max_norm));
                let factor = over.select(&(norm.like(self.max_norm) / &norm), &norm.like(1.0));
                new = new * factor;
            }
            cx.set(name, p, &new);
        }
    }

    fn describe(&self) -> String {
        format!(
            "Regularized {{ l1: {}, l2: {}, decoupled_decay: {}, max_norm: {}, inner: {} }}",
            self.l1,
            self.l2,
            self.decoupled_decay,
            self.max_norm,
            self.inner.describe()
        )
    }
}

/// Keeps the mean of the weights after each update from number `start` + 1 on (stochastic weight averaging), in the states
/// of [`Ema::state_name`]. Before that it holds the last weight.
pub struct Swa {
    /// Updates the weights.
    pub inner: Box<dyn Optimizer>,
    /// Updates before the mean begins.
    pub start: u64,
}

impl Optimizer for Swa {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        self.inner.update(cx, params, grads);
        // Number of weights in the mean with this one; 1 before it begins, which is the weight itself.
        let n = cx.t() - self.start as f64;
        let n = n.maximum(&n.like(1.0));
        for (name, p) in params {
            let Some(new) = cx.updated(name) else { continue };
            let state = cx.state(name, "ema", p.shape(), Init::ZEROS);
            // Exactly the new weight where n is 1; a difference from the old mean would round.
            let first = n.le(&n.like(1.0));
            let mean = first.select(&new, &(&state + (&new - &state) / &n));
            cx.set_state(&state, &mean);
        }
    }

    fn describe(&self) -> String {
        format!("Swa {{ start: {}, inner: {} }}", self.start, self.inner.describe())
    }
}

/// True if a state holds an average of weights, as [`Ema`] and [`Swa`] keep them; the parameter's name.
pub fn averaged(state: &str) -> Option<&str> {
    let name = state.strip_prefix("optim.")?.strip_suffix(".ema")?;
    debug_assert_eq!(Ema::state_name(name), state);
    Some(name)
}
