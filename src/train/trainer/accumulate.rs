//! Batches larger than the device holds at once, in two plans: `accumulate` runs a piece of the batch and adds its
//! gradients, weighed by its share of the batch, to sums in the store; `apply` updates by the sums. The gradient is that of
//! the whole batch, but for rounding. What a module computes from a batch as a whole (batch norm, the masks of dropout) it
//! computes from each piece.

use super::{METRICS, Trainer, feeds, launch, rows_of, split_target};
use crate::backend::{Fetches, Program};
use crate::data::{Field, dataset};
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::{Builder, OutputKind, Tensor, Type};
use crate::nn::{Init, Mode, ParamSpec, Params};
use crate::optim::{LossScaler, StepFeed};
use crate::shape::Shape;
use crate::tensor::{Data, HostTensor};
use crate::train::{Loss, precision};
use std::collections::BTreeMap;

/// Name of the feed `f32[2]`: the piece's share of the batch, and 0 for the first piece.
const SHARE: &str = "accumulate.share";

/// Sizes and programs of training in pieces.
#[derive(Default)]
pub(super) struct Accumulation {
    /// Examples per piece; 0: batches run whole.
    pub rows: usize,
    pieces: BTreeMap<usize, Program>,
    apply: Option<Program>,
}

impl Accumulation {
    /// True if a batch of this size runs in pieces.
    pub fn splits(&self, rows: usize) -> bool {
        self.rows > 0 && rows > self.rows
    }

    /// The programs of an update by a batch of this size.
    pub fn programs(&self, batch: usize) -> Vec<&Program> {
        let pieces = [self.rows, batch % self.rows.max(1)];
        pieces.iter().filter_map(|rows| self.pieces.get(rows)).chain(&self.apply).collect()
    }

    /// Forgets the programs, whose inputs have changed.
    pub fn forget(&mut self) {
        self.pieces.clear();
        self.apply = None;
    }
}

/// Name of the state with the sum of a parameter's gradients. It counts as the optimizer's.
fn sum_name(param: &str) -> String {
    format!("optim.{param}.accumulated")
}

/// State `f32[2]`: the sums of loss and correct predictions.
const MEASURED: &str = "optim.accumulated";

impl Trainer {
    /// The same with batches in pieces of at most so many examples, whose gradients are added up before the one update of
    /// the batch; 0 for whole batches.
    pub fn micro_batch(mut self, rows: usize) -> Trainer {
        self.accumulation = Accumulation { rows, ..Accumulation::default() };
        self
    }

    /// Compiles what a batch of this size takes.
    pub(super) fn prepare_pieces(&mut self, fields: &[Field], batch: usize) -> Result<()> {
        let rows = self.accumulation.rows;
        for piece in [rows, batch % rows] {
            if piece > 0 && !self.accumulation.pieces.contains_key(&piece) {
                let program = self.compile_piece(fields, piece)?;
                self.accumulation.pieces.insert(piece, program);
            }
        }
        if self.accumulation.apply.is_none() {
            self.accumulation.apply = Some(self.compile_apply()?);
        }
        let of = |rows: usize| self.accumulation.pieces.get(&rows);
        let runs = of(rows).map(|p| (batch / rows, p)).into_iter().chain(of(batch % rows).map(|p| (1, p)));
        let runs = runs.chain(self.accumulation.apply.iter().map(|p| (1, p)));
        self.usage.step_costs(runs.map(|(times, p)| (times * p.stats().dispatches, times * p.stats().submits)));
        Ok(())
    }

    fn compile_piece(&mut self, fields: &[Field], rows: usize) -> Result<Program> {
        let builder = Builder::new();
        let feed = StepFeed::with(&builder, self.scheduler.momentum(0).is_some());
        let params = Params::with(&builder, Mode::Train, Some(&feed.counter), None);
        let inputs = feeds(&builder, fields, rows)?;
        let (target, inputs) = split_target(&inputs)?;
        let half = self.precision.is_half();
        let output = builder.autocast(half, || self.model.forward_all(&params.scope(), inputs));
        let measured = self.loss.measure(&output, target, true);
        let trainable = params.trainable();
        // The scale stays the same over a batch's pieces: the sums are of the scaled gradients.
        let scaler = half.then(|| LossScaler::declare(&builder));
        let wrt: Vec<&Tensor> = trainable.iter().map(|(_, t)| t).collect();
        let grads = precision::grad(scaler.as_ref(), &measured.loss, &wrt);
        let share = builder.feed(SHARE, DType::F32, [2]);
        let number = |i: usize| share.narrow(0, i, 1).reshape(Shape::default());
        let (share, later) = (number(0), number(1));
        let (later, counts) = (later.gt(&later.like(0.0)), share.gt(&share.like(0.0)));
        let mut states = Vec::new();
        let mut add = |name: String, new: &Tensor| {
            let ty = Type::new(DType::F32, new.shape());
            let old = builder.state(name.clone(), ty.dtype, ty.shape.clone());
            let zero = new.like(0.0);
            // Selected, not multiplied by 0: the sums of a suppressed update, and the loss of a piece whose targets are all
            // ignored, are not finite.
            let sum = later.select(&old, &zero) + counts.select(new, &zero);
            builder.output(name.clone(), OutputKind::State, &sum);
            states.push(ParamSpec { name, ty, init: Init::ZEROS, trainable: false });
        };
        for ((name, _), g) in trainable.iter().zip(&grads) {
            add(sum_name(name), &(g * &share));
        }
        let measures = [(&measured.loss * &share).reshape([1]), measured.correct.reshape([1])];
        add(MEASURED.into(), &Tensor::cat(&[&measures[0], &measures[1]], 0));
        let ok = measured.loss.is_finite();
        for (name, new) in params.updates() {
            if let Some(old) = params.get(&name) {
                builder.output(name, OutputKind::State, &ok.select(&new, &old));
            }
        }
        let graph = builder.build()?;
        self.fill(params.specs())?;
        self.fill(states)?;
        self.fill(if half { LossScaler::specs() } else { Vec::new() })?;
        let program = Program::compile(&self.store, graph)?;
        self.usage.compiled(&program, false);
        Ok(program)
    }

    fn compile_apply(&mut self) -> Result<Program> {
        let builder = Builder::new();
        let feed = StepFeed::with(&builder, self.scheduler.momentum(0).is_some());
        let params = Params::with(&builder, Mode::Train, Some(&feed.counter), None);
        let mut grads = Vec::new();
        for spec in self.specs.iter().filter(|s| s.trainable) {
            params.scope().param(&spec.name, &spec.ty.shape, spec.init.clone());
            grads.push(builder.state(sum_name(&spec.name), DType::F32, &spec.ty.shape));
        }
        let measured = builder.state(MEASURED, DType::F32, [2]);
        let measure = |i: usize| measured.narrow(0, i, 1);
        let scaler = self.precision.is_half().then(|| LossScaler::declare(&builder));
        self.finish_step(&builder, &params, [&measure(0), &measure(1)], grads, &feed, scaler)?;
        let program = Program::compile(&self.store, builder.build()?)?;
        self.usage.compiled(&program, false);
        Ok(program)
    }

    /// Starts the update by a batch in pieces; gives what [`METRICS`] names.
    pub(super) fn launch_pieces(
        &mut self,
        fields: &[Field],
        batch: &[HostTensor],
        feed: impl Fn(u32) -> Result<[(&'static str, HostTensor); 2]>,
    ) -> Result<Fetches> {
        let (rows, most) = (rows_of(batch)?, self.accumulation.rows);
        let whole = mass(&self.loss, &batch[batch.len() - 1]);
        let mut fell_back = false;
        for (number, from) in (0..rows).step_by(most).enumerate() {
            let indices: Vec<usize> = (from..rows.min(from + most)).collect();
            let piece: Vec<HostTensor> =
                batch.iter().map(|t| dataset::take_rows(t, &indices)).collect::<Result<_>>()?;
            let share = mass(&self.loss, &piece[piece.len() - 1]) / whole;
            let share = HostTensor::f32([2], vec![share as f32, f32::from(u8::from(number > 0))])?;
            let step = feed(number as u32)?;
            let mut given: Vec<(&str, &HostTensor)> = fields.iter().map(|f| f.name.as_str()).zip(&piece).collect();
            given.extend(step.iter().map(|(name, value)| (*name, value)));
            given.push((SHARE, &share));
            if let Some(program) = self.accumulation.pieces.get_mut(&indices.len()) {
                launch(&mut self.profile, program, &given)?;
                fell_back |= program.stats().fallbacks > 0;
            }
        }
        let step = feed(0)?;
        let given: Vec<(&str, &HostTensor)> = step.iter().map(|(name, value)| (*name, value)).collect();
        match &mut self.accumulation.apply {
            Some(program) => {
                let fetches = launch(&mut self.profile, program, &given)?;
                self.usage.step(fell_back || program.stats().fallbacks > 0);
                Ok(fetches)
            }
            None => Err(crate::error::Error::internal("trainer", format!("no program gives {METRICS}"))),
        }
    }
}

/// What a batch weighs in a mean over several: its predictions, or the weights of its classes where these enter the mean.
fn mass(loss: &Loss, target: &HostTensor) -> f64 {
    match (loss, &target.data) {
        (Loss::CrossEntropy { weight, .. }, Data::I32(classes)) if !weight.is_empty() => {
            classes.iter().filter_map(|&c| weight.get(usize::try_from(c).ok()?)).sum()
        }
        _ => loss.count(target) as f64,
    }
}
