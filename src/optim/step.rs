//! What surrounds an optimizer's rule in a training step: the per-step feeds, the optimizer's states, clipping, and the
//! guard that suppresses an update whose gradient is not finite.

use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::ir::{Builder, OutputKind, Tensor, Type};
use crate::nn::{Init, ParamSpec, Params};
use crate::optim::Optimizer;
use crate::optim::clip::{Clip, global_norm};
use crate::shape::Shape;
use crate::tensor::HostTensor;
use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

/// The inputs that change with every step, in two small feeds.
#[derive(Clone, Debug)]
pub struct StepFeed {
    /// `u32[4]`: seed_lo, seed_hi, step (from 0), microbatch: the counter of all random numbers.
    pub counter: Tensor,
    /// Learning rate, a scalar.
    pub lr: Tensor,
    /// Number of this update, a u32 scalar from 1.
    pub step: Tensor,
    /// The momentum, a scalar, where a schedule moves it; else optimizers use their own.
    pub momentum: Option<Tensor>,
}

impl StepFeed {
    /// Name of the feed `u32[4]`.
    pub const COUNTER: &'static str = "step.counter";
    /// Name of the feed `f32[1]`, or `f32[2]` with a momentum.
    pub const HYPER: &'static str = "step.hyper";

    /// Declares the feeds, without a momentum.
    #[track_caller]
    pub fn declare(builder: &Builder) -> StepFeed {
        StepFeed::with(builder, false)
    }

    /// Declares the feeds, with a momentum if a schedule moves it.
    #[track_caller]
    pub fn with(builder: &Builder, momentum: bool) -> StepFeed {
        let counter = builder.feed(StepFeed::COUNTER, DType::U32, [4]);
        let hyper = builder.feed(StepFeed::HYPER, DType::F32, [1 + usize::from(momentum)]);
        let number = |i: usize| hyper.narrow(0, i, 1).reshape(Shape::default());
        let step = counter.narrow(0, 2, 1).reshape(Shape::default());
        let step = &step + &step.like(1.0);
        let (lr, momentum) = (number(0), momentum.then(|| number(1)));
        StepFeed { counter, lr, step, momentum }
    }

    /// Contents of the feeds for update number `step` (from 0), without a momentum.
    pub fn values(seed: u64, step: u32, microbatch: u32, lr: f64) -> Result<[(&'static str, HostTensor); 2]> {
        StepFeed::values_with(seed, step, microbatch, lr, None)
    }

    /// Contents of the feeds for update number `step` (from 0); the momentum as they were declared.
    pub fn values_with(
        seed: u64,
        step: u32,
        microbatch: u32,
        lr: f64,
        momentum: Option<f64>,
    ) -> Result<[(&'static str, HostTensor); 2]> {
        let counter = HostTensor::u32([4], vec![seed as u32, (seed >> 32) as u32, step, microbatch])?;
        let hyper: Vec<f32> = std::iter::once(lr).chain(momentum).map(|x| x as f32).collect();
        Ok([(StepFeed::COUNTER, counter), (StepFeed::HYPER, HostTensor::f32([hyper.len()], hyper)?)])
    }
}

/// What an optimizer's rule works with. Contexts made from one another share states and updates.
#[derive(Clone)]
pub struct UpdateCx {
    builder: Builder,
    lr: Tensor,
    t: Tensor,
    momentum: Option<Tensor>,
    shared: Rc<Shared>,
}

/// A share that each step keeps of what it remembers: a number of the optimizer, or a scalar that a schedule moves.
#[derive(Clone, Debug)]
pub struct Decay {
    own: f64,
    scheduled: Option<Tensor>,
}

impl Decay {
    /// x times the share.
    #[track_caller]
    pub fn of(&self, x: &Tensor) -> Tensor {
        match &self.scheduled {
            Some(share) => x * share,
            None => x * self.own,
        }
    }
    /// x times what is left of 1.
    #[track_caller]
    pub fn rest_of(&self, x: &Tensor) -> Tensor {
        match &self.scheduled {
            Some(share) => x * (1.0 - share),
            None => x * (1.0 - self.own),
        }
    }
}

#[derive(Default)]
struct Shared {
    states: RefCell<Vec<(ParamSpec, Tensor)>>,
    updates: RefCell<Vec<Update>>,
}

struct Update {
    name: String,
    old: Tensor,
    new: Tensor,
}

impl UpdateCx {
    /// A context in which nothing has happened yet. `lr` is a scalar; `t` (f32 scalar) counts updates from 1.
    pub fn new(builder: &Builder, lr: &Tensor, t: &Tensor) -> UpdateCx {
        UpdateCx { builder: builder.clone(), lr: lr.clone(), t: t.clone(), momentum: None, shared: Rc::default() }
    }

    /// The same context with a momentum (a scalar) that a schedule moves, in the place of the optimizers' own.
    pub fn with_momentum(&self, momentum: Option<&Tensor>) -> UpdateCx {
        UpdateCx { momentum: momentum.cloned(), ..self.clone() }
    }

    /// The same context with another learning rate (a scalar).
    pub fn with_lr(&self, lr: &Tensor) -> UpdateCx {
        UpdateCx { lr: lr.clone(), ..self.clone() }
    }

    /// The graph.
    pub fn builder(&self) -> &Builder {
        &self.builder
    }
    /// The learning rate of this step, a scalar.
    pub fn lr(&self) -> &Tensor {
        &self.lr
    }
    /// Number of this update, an f32 scalar from 1. Suppressed updates do not count.
    pub fn t(&self) -> &Tensor {
        &self.t
    }
    /// A scalar constant.
    pub fn num(&self, x: f64) -> Tensor {
        self.builder.constant(Scalar::F32(x))
    }
    /// True at the first update, a scalar.
    #[track_caller]
    pub fn first(&self) -> Tensor {
        self.t.le(&self.num(1.0))
    }

    /// The momentum of this step: the schedule's, or else the optimizer's `own`; `None` if that is 0.
    pub fn momentum(&self, own: f64) -> Option<Decay> {
        (own != 0.0 || self.momentum.is_some()).then(|| self.beta1(own))
    }
    /// The decay of an optimizer's first moment: the schedule's momentum, or else its `own`.
    pub fn beta1(&self, own: f64) -> Decay {
        Decay { own, scheduled: self.momentum.clone() }
    }
    /// `1 - beta1^t` as a scalar, with the decay of this step, as torch corrects its first moment.
    #[track_caller]
    pub fn one_minus_beta1_pow(&self, own: f64) -> Tensor {
        match &self.momentum {
            Some(b) => -(&self.t * b.log()).expm1(),
            None => self.one_minus_pow(own),
        }
    }

    /// `1 - b^t` as a scalar, by expm1: near b = 1 the power itself would lose all digits of the difference.
    #[track_caller]
    pub fn one_minus_pow(&self, b: f64) -> Tensor {
        if b <= 0.0 { self.num(1.0) } else { -(&self.t * self.num(b.ln())).expm1() }
    }

    /// The optimizer state `optim.<param>.<what>` (`optim.<what>` for an empty `param`), an f32 tensor.
    #[track_caller]
    pub fn state(&self, param: &str, what: &str, shape: impl Into<Shape>, init: Init) -> Tensor {
        let name = if param.is_empty() { format!("optim.{what}") } else { format!("optim.{param}.{what}") };
        let ty = Type::new(DType::F32, shape);
        let tensor = self.builder.state(name.clone(), ty.dtype, ty.shape.clone());
        self.shared.states.borrow_mut().push((ParamSpec { name, ty, init, trainable: false }, tensor.clone()));
        tensor
    }

    /// New content of an optimizer state.
    #[track_caller]
    pub fn set_state(&self, state: &Tensor, new: &Tensor) {
        let states = self.shared.states.borrow();
        match states.iter().find(|(_, t)| t.value() == state.value()) {
            Some((spec, old)) => self.set(&spec.name, old, new),
            None => {
                state.fail("set_state", "the tensor is no state of this optimizer", Location::caller());
            }
        }
    }

    /// New content of the state `name`, whose present content is `old`. Of two new contents the later one stays.
    pub fn set(&self, name: &str, old: &Tensor, new: &Tensor) {
        let mut updates = self.shared.updates.borrow_mut();
        match updates.iter_mut().find(|u| u.name == name) {
            Some(update) => update.new = new.clone(),
            None => updates.push(Update { name: name.into(), old: old.clone(), new: new.clone() }),
        }
    }

    /// The new content of the state `name`, if it was set.
    pub fn updated(&self, name: &str) -> Option<Tensor> {
        self.shared.updates.borrow().iter().find(|u| u.name == name).map(|u| u.new.clone())
    }

    /// The states declared so far.
    pub fn states(&self) -> Vec<ParamSpec> {
        self.shared.states.borrow().iter().map(|(spec, _)| spec.clone()).collect()
    }

    /// Declares all new contents as outputs of the graph. Where the scalar bool `ok` is false, nothing changes.
    #[track_caller]
    pub fn emit(&self, ok: Option<&Tensor>) {
        for Update { name, old, new } in self.shared.updates.borrow().iter() {
            let new = ok.map_or_else(|| new.clone(), |ok| ok.select(new, old));
            self.builder.output(name.clone(), OutputKind::State, &new);
        }
    }
}

/// What [`apply`] added to the graph.
#[derive(Debug)]
pub struct Applied {
    /// States beside the model's own (the optimizer's, and the counters of suppressed updates): a store must hold them.
    pub states: Vec<ParamSpec>,
    /// Norm of all gradients together, before clipping, a scalar.
    pub grad_norm: Tensor,
    /// True if the update happened, a scalar.
    pub ok: Tensor,
}

/// Name of the state (`u32[1]`) that counts suppressed updates.
pub const SKIPPED: &str = "status.skipped";
/// Name of the state (`u32[1]`) that holds the number (from 1) of the last suppressed update.
pub const LAST_SKIPPED: &str = "status.last_skipped";

/// Appends the end of a training step: clips `grads` (of `params.trainable()`, in order), updates parameters, optimizer
/// states and buffers. If the norm of all gradients is not finite, everything keeps its content but the counters
/// [`SKIPPED`] and [`LAST_SKIPPED`].
#[track_caller]
pub fn apply(
    params: &Params,
    optimizer: &dyn Optimizer,
    grads: &[Tensor],
    feed: &StepFeed,
    clip: Option<Clip>,
) -> Applied {
    let builder = params.builder();
    let trainable = params.trainable();
    if trainable.len() != grads.len() && builder.is_ok() {
        let detail = format!("{} parameters but {} gradients", trainable.len(), grads.len());
        feed.lr.fail("optimizer", detail, Location::caller());
    }
    let refs: Vec<&Tensor> = grads.iter().collect();
    let grad_norm = match refs.is_empty() {
        true => builder.constant(Scalar::F32(0.0)),
        false => global_norm(&refs),
    };
    let ok = grad_norm.is_finite();
    let clipped: Vec<Tensor> = match clip {
        Some(clip) => clip.apply(&refs, &grad_norm),
        None => grads.to_vec(),
    };

    let counter = |name: &str| {
        let ty = Type::new(DType::U32, [1]);
        let tensor = builder.state(name, ty.dtype, ty.shape.clone());
        (ParamSpec { name: name.into(), ty, init: Init::ZEROS, trainable: false }, tensor)
    };
    let (skipped_spec, skipped) = counter(SKIPPED);
    let (last_spec, last) = counter(LAST_SKIPPED);
    let skipped_now = skipped.reshape(Shape::default());
    let now = &skipped_now + ok.select(&skipped_now.like(0.0), &skipped_now.like(1.0));
    builder.output(SKIPPED, OutputKind::State, &now.reshape([1]));
    builder.output(LAST_SKIPPED, OutputKind::State, &ok.reshape([1]).select(&last, &feed.step.reshape([1])));

    // Suppressed updates do not count: the bias correction must see as many steps as the moments have.
    let t = (&feed.step - &skipped_now).cast(DType::F32);
    let cx = UpdateCx::new(builder, &feed.lr, &t).with_momentum(feed.momentum.as_ref());
    optimizer.update(&cx, &trainable, &clipped);
    for (name, new) in params.updates() {
        if let Some(old) = params.get(&name) {
            cx.set(&name, &old, &new);
        }
    }
    cx.emit(Some(&ok));
    let mut states = cx.states();
    states.extend([skipped_spec, last_spec]);
    Applied { states, grad_norm, ok }
}
