//! Optimizers made of optimizers: groups of parameters with settings of their own, Lookahead, averaged weights, ascent.

use crate::ir::Tensor;
use crate::nn::Init;
use crate::optim::{Optimizer, UpdateCx};

/// Parameters whose name a pattern fits, with an optimizer and a factor for the learning rate of their own.
pub struct Group {
    /// Fits a name if it is equal, with `*` for any run of characters: `*.bias`, `h.0.*`.
    pub pattern: String,
    /// Factor of the learning rate.
    pub lr_scale: f64,
    /// The rule; `None` leaves the parameters as they are.
    pub optimizer: Option<Box<dyn Optimizer>>,
}

/// Updates each parameter by the first group whose pattern fits its name, the others by `rest`.
pub struct Groups {
    /// The groups, in order.
    pub groups: Vec<Group>,
    /// The rule for parameters of no group.
    pub rest: Box<dyn Optimizer>,
}

/// True if `name` fits `pattern`, in which `*` stands for any run of characters.
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|left| {
            // The tail may begin at any character boundary of what is left.
            left.char_indices().map(|(i, _)| i).chain([left.len()]).any(|i| fits(tail, &left[i..]))
        }),
    }
}

impl Optimizer for Groups {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let place = |name: &str| self.groups.iter().position(|g| fits(&g.pattern, name)).unwrap_or(self.groups.len());
        for index in 0..=self.groups.len() {
            let chosen = params.iter().zip(grads).filter(|((name, _), _)| place(name) == index);
            let (params, grads): (Vec<_>, Vec<_>) = chosen.map(|(p, g)| (p.clone(), g.clone())).unzip();
            if params.is_empty() {
                continue;
            }
            match self.groups.get(index) {
                None => self.rest.update(cx, &params, &grads),
                Some(Group { optimizer: Some(rule), lr_scale, .. }) => {
                    rule.update(&cx.with_lr(&(cx.lr() * *lr_scale)), &params, &grads);
                }
                Some(_) => {}
            }
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for g in &self.groups {
            let rule = g.optimizer.as_ref().map_or_else(|| "frozen".to_string(), |o| o.describe());
            text += &format!("{}: {rule} (lr x {}); ", g.pattern, g.lr_scale);
        }
        text + &self.rest.describe()
    }
}

/// Every `k` steps the slow weights move by `alpha` towards the fast ones, which `inner` updates, and these return
/// to them: slow += alpha (w - slow), w = slow. The slow weights start at w; the states of `inner` stay.
pub struct Lookahead {
    /// Updates the fast weights.
    pub inner: Box<dyn Optimizer>,
    /// Steps between two moves of the slow weights.
    pub k: u64,
    /// How far they move.
    pub alpha: f64,
}

impl Optimizer for Lookahead {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        self.inner.update(cx, params, grads);
        let sync = cx.t().rem(&cx.num(self.k.max(1) as f64)).eq(&cx.num(0.0));
        for (name, p) in params {
            let Some(fast) = cx.updated(name) else { continue };
            let state = cx.state(name, "slow", p.shape(), Init::ZEROS);
            let slow = cx.first().select(p, &state);
            let moved = sync.select(&(&slow + (&fast - &slow) * self.alpha), &slow);
            cx.set_state(&state, &moved);
            cx.set(name, p, &sync.select(&moved, &fast));
        }
    }

    fn describe(&self) -> String {
        format!("Lookahead {{ k: {}, alpha: {}, inner: {} }}", self.k, self.alpha, self.inner.describe())
    }
}

/// Keeps an exponential moving average of the weights that `inner` makes, in the states `optim.<param>.ema`:
/// e = decay e + (1 - decay) w, starting at the first w.
pub struct Ema {
    /// Updates the weights.
    pub inner: Box<dyn Optimizer>,
    /// Share of the average that each step keeps.
    pub decay: f64,
}

impl Ema {
    /// Name of the state with the average of a parameter.
    pub fn state_name(param: &str) -> String {
        format!("optim.{param}.ema")
    }
}

impl Optimizer for Ema {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        self.inner.update(cx, params, grads);
        for (name, p) in params {
            let Some(new) = cx.updated(name) else { continue };
            let state = cx.state(name, "ema", p.shape(), Init::ZEROS);
            let average = cx.first().select(p, &state);
            // As a step towards the new weight: equal weights stay exactly equal.
            cx.set_state(&state, &(&average + (new - &average) * (1.0 - self.decay)));
        }
    }

    fn describe(&self) -> String {
        format!("Ema {{ decay: {}, inner: {} }}", self.decay, self.inner.describe())
    }
}

/// Ascends where `inner` descends: it sees the negated gradients.
pub struct Maximize(pub Box<dyn Optimizer>);

impl Optimizer for Maximize {
    #[track_caller]
    fn update(&self, cx: &UpdateCx, params: &[(String, Tensor)], grads: &[Tensor]) {
        let negated: Vec<Tensor> = grads.iter().map(|g| -g).collect();
        self.0.update(cx, params, &negated);
    }

    fn describe(&self) -> String {
        format!("Maximize({})", self.0.describe())
    }
}
