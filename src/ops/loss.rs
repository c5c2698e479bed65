//! Losses that are plain pointwise arithmetic and a reduction. Cross-entropy has its own file.

use crate::ir::Tensor;

/// What becomes of a loss per element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Kept as it is.
    None,
    /// The mean.
    #[default]
    Mean,
    /// The sum.
    Sum,
}

impl Tensor {
    /// This loss per element, reduced.
    #[track_caller]
    pub fn reduced(&self, reduction: Reduction) -> Tensor {
        match reduction {
            Reduction::None => self.clone(),
            Reduction::Mean => self.mean(&[], false),
            Reduction::Sum => self.sum(&[], false),
        }
    }
}

impl Tensor {
    /// This loss per element times `weight`, reduced; the mean is over the weights.
    #[track_caller]
    pub fn reduced_by(&self, weight: Option<&Tensor>, reduction: Reduction) -> Tensor {
        match (weight, reduction) {
            (None, _) => self.reduced(reduction),
            (Some(w), Reduction::Mean) => (self * w).sum(&[], false) / w.sum(&[], false),
            (Some(w), _) => (self * w).reduced(reduction),
        }
    }
}

/// |d| without a branch point in what is computed where it is not chosen: d where `small`, else 0.
fn inner(d: &Tensor, small: &Tensor) -> Tensor {
    small.select(d, &d.like(0.0))
}

impl Tensor {
    /// (x - target)^2
    #[track_caller]
    pub fn mse_loss(&self, target: &Tensor, reduction: Reduction) -> Tensor {
        (self - target).square().reduced(reduction)
    }

    /// |x - target|
    #[track_caller]
    pub fn l1_loss(&self, target: &Tensor, reduction: Reduction) -> Tensor {
        (self - target).abs().reduced(reduction)
    }

    /// d^2 / (2 beta) where |d| < beta, else |d| - beta/2; d = x - target.
    #[track_caller]
    pub fn smooth_l1_loss(&self, target: &Tensor, beta: f64, reduction: Reduction) -> Tensor {
        if beta == 0.0 {
            return self.l1_loss(target, reduction);
        }
        let d = self - target;
        let a = d.abs();
        let small = a.lt(&a.like(beta));
        small.select(&(inner(&d, &small).square() * (0.5 / beta)), &(a - 0.5 * beta)).reduced(reduction)
    }

    /// d^2 / 2 where |d| <= delta, else delta (|d| - delta/2); d = x - target.
    #[track_caller]
    pub fn huber_loss(&self, target: &Tensor, delta: f64, reduction: Reduction) -> Tensor {
        let d = self - target;
        let a = d.abs();
        let small = a.le(&a.like(delta));
        small.select(&(inner(&d, &small).square() * 0.5), &((a - 0.5 * delta) * delta)).reduced(reduction)
    }

    /// `-weight [pos_weight t log s(x) + (1-t) log(1 - s(x))]` with s the sigmoid of these logits.
    #[track_caller]
    pub fn binary_cross_entropy_with_logits(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        pos_weight: Option<&Tensor>,
        reduction: Reduction,
    ) -> Tensor {
        // -log s(x) = softplus(-x), -log(1 - s(x)) = x + softplus(-x)
        let positive = (-self).softplus(1.0, f64::INFINITY);
        let share = match pos_weight {
            Some(p) => target * (p - 1.0) + 1.0,
            None => target.like(1.0),
        };
        let mut loss = (1.0 - target) * self + share * positive;
        if let Some(w) = weight {
            loss = loss * w;
        }
        loss.reduced(reduction)
    }

    /// `t log t - t x` of log-probabilities x, with `t log t` 0 where t = 0; with `log_target` `e^t (t - x)`. As in torch an
    /// infinite x at t = 0 gives NaN.
    #[track_caller]
    pub fn kl_div(&self, target: &Tensor, log_target: bool, reduction: Reduction) -> Tensor {
        let loss = if log_target {
            target.exp() * (target - self)
        } else {
            let none = target.eq(&target.like(0.0));
            target * (none.select(&target.like(1.0), target).log() - self)
        };
        loss.reduced(reduction)
    }

    /// x where the target is 1, max(0, margin - x) where it is -1.
    #[track_caller]
    pub fn hinge_embedding_loss(&self, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
        let (zero, one) = (target.like(0.0), target.like(1.0));
        let far = target.eq(&one).select(&zero, &(margin - self).relu());
        let near = target.eq(&-one).select(&zero, self);
        (near + far).reduced(reduction)
    }

    /// `sum over c != t of weight[t] max(0, margin - x[t] + x[c])^p / C` of scores `[N, C]` or `[C]` and classes t.
    #[track_caller]
    pub fn multi_margin_loss(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        p: u32,
        margin: f64,
        reduction: Reduction,
    ) -> Tensor {
        let classes = self.size(-1);
        if self.rank() == 1 && target.shape()[..] == [1] {
            return self.unsqueeze(0).multi_margin_loss(target, weight, p, margin, reduction);
        }
        let expected = crate::shape::Shape::from(&self.shape()[..self.rank().max(1) - 1]);
        if self.rank() == 0 || self.rank() > 2 || *target.shape() != expected || !(1..=2).contains(&p) {
            let detail = format!(
                "needs [N, C] or [C], one class per row, p 1 or 2; got {} and {}, p {p}",
                self.ty(),
                target.ty()
            );
            return self.fail("multi_margin_loss", detail, std::panic::Location::caller());
        }
        let t = target.unsqueeze(-1);
        let mut z = (margin - self.gather(-1, &t) + self).relu();
        if p == 2 {
            z = z.square();
        }
        if let Some(w) = weight {
            z = z * w.take(target).unsqueeze(-1);
        }
        let own = t.eq(&self.builder().iota(classes));
        let others = own.select(&z.like(0.0), &z);
        (others.sum(&[-1], false) / classes as f64).reduced(reduction)
    }
}
