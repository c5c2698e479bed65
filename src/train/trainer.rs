//! `Trainer`: module, loss and optimizer as compiled steps over one store. A program is compiled per batch size (the
//! short last batch is a second one; nothing is padded, so the numbers do not change) and for each of training,
//! evaluation and prediction. Several steps are in flight at once: the host reads the metrics of an earlier step while
//! the device works on later ones, and the last ones when the caller drains.

use crate::backend::{Device, Fetches, Program, Store};
use crate::data::{Batches, Dataset, Draw, Field, loader};
use crate::error::{Error, Result};
use crate::ir::{Builder, InputKind, OutputKind, Tensor, Type};
use crate::nn::scope::init;
use crate::nn::{Mode, Module, ParamSpec, Params};
use crate::optim::schedule::Scheduler;
use crate::optim::{Clip, LossScaler, Optimizer, Schedule, StepFeed};
use crate::tensor::HostTensor;
pub use crate::train::measures::{Measures, Position, StepReport};
use crate::train::profile::Profile;
use crate::train::{Loss, Precision, Usage, precision};
use std::collections::{BTreeMap, VecDeque};

mod accumulate;
mod find_lr;
mod settings;
mod states;
mod statistics;
mod update;

use update::{launch, pack};

pub use find_lr::{FindLr, LrCurve, LrPoint};

/// Steps that may be on their way before the oldest is waited for. Metrics are a few bytes; more than this hides nothing.
const IN_FLIGHT: usize = 6;
/// Name of the single fetched output of training and evaluation programs.
const METRICS: &str = "metrics";

struct InFlight {
    fetches: Fetches,
    step: u64,
    count: usize,
    lr: f64,
}

/// A model in training on one device.
pub struct Trainer {
    pub(super) store: Store,
    pub(super) model: Box<dyn Module>,
    pub(super) loss: Loss,
    optimizer: Box<dyn Optimizer>,
    scheduler: Scheduler,
    clip: Option<Clip>,
    pub(super) seed: u64,
    pub(super) precision: Precision,
    shuffle: bool,
    drop_last: bool,
    workers: usize,
    /// True while the averages stand in the weights' places.
    pub(super) averaged: bool,
    pub(super) position: Position,
    specs: Vec<ParamSpec>,
    steps: BTreeMap<usize, Program>,
    evals: BTreeMap<usize, Program>,
    predicts: BTreeMap<usize, Program>,
    in_flight: VecDeque<InFlight>,
    accumulation: accumulate::Accumulation,
    usage: Usage,
    profile: Option<Profile>,
}

impl Trainer {
    /// A model that is trained on `device` with a constant learning rate, seed 0 and without clipping.
    pub fn new(
        device: &Device,
        model: impl Module + 'static,
        loss: Loss,
        optimizer: impl Optimizer + 'static,
        lr: f64,
    ) -> Trainer {
        Trainer::boxed(device, Box::new(model), loss, Box::new(optimizer), lr)
    }

    /// As [`Trainer::new`], for parts that are chosen at run time.
    pub fn boxed(
        device: &Device,
        model: Box<dyn Module>,
        loss: Loss,
        optimizer: Box<dyn Optimizer>,
        lr: f64,
    ) -> Trainer {
        Trainer {
            store: Store::new(device),
            model,
            loss,
            optimizer,
            scheduler: Scheduler::new(lr, Schedule::Constant),
            clip: None,
            seed: 0,
            precision: Precision::F32,
            shuffle: true,
            drop_last: false,
            workers: 0,
            averaged: false,
            position: Position::default(),
            specs: Vec::new(),
            steps: BTreeMap::new(),
            evals: BTreeMap::new(),
            predicts: BTreeMap::new(),
            in_flight: VecDeque::new(),
            accumulation: Default::default(),
            usage: Usage::default(),
            profile: None,
        }
    }

    /// The store with parameters, buffers and optimizer state.
    pub fn store(&self) -> &Store {
        &self.store
    }
    /// How far training has come.
    pub fn position(&self) -> Position {
        self.position
    }
    /// The schedule, with what it remembers.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }
    /// Where the work was done.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
    /// Parameters and buffers of the model and states of the optimizer, as far as programs were compiled.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }
    /// Tells a plateau schedule the metric.
    pub fn observe(&mut self, metric: f64) {
        self.scheduler.observe(metric);
    }

    /// Continues at a position (of a checkpoint).
    pub fn resume_at(&mut self, position: Position, scheduler: Scheduler) {
        if scheduler.momentum(0).is_some() != self.scheduler.momentum(0).is_some() {
            // The momentum is an input of the step, or is not.
            self.steps.clear();
            self.accumulation.forget();
        }
        (self.position, self.scheduler) = (position, scheduler);
    }

    /// Compiles the training step for a batch size, if that has not happened; draws what has no content yet.
    pub fn prepare(&mut self, fields: &[Field], batch: usize) -> Result<()> {
        self.precision.check(&self.store.device())?;
        if self.accumulation.splits(batch) {
            return self.prepare_pieces(fields, batch);
        }
        if self.steps.contains_key(&batch) {
            return Ok(());
        }
        let builder = Builder::new();
        let feed = StepFeed::with(&builder, self.scheduler.momentum(0).is_some());
        let params = Params::with(&builder, Mode::Train, Some(&feed.counter), None);
        let inputs = feeds(&builder, fields, batch)?;
        let (target, inputs) = split_target(&inputs)?;
        let half = self.precision.is_half();
        let output = builder.autocast(half, || self.model.forward_all(&params.scope(), inputs));
        let measured = self.loss.measure(&output, target, true);
        let trainable: Vec<Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
        let scaler = half.then(|| LossScaler::declare(&builder));
        let grads = precision::grad(scaler.as_ref(), &measured.loss, &trainable.iter().collect::<Vec<_>>());
        self.finish_step(&builder, &params, [&measured.loss, &measured.correct], grads, &feed, scaler)?;
        let program = Program::compile(&self.store, builder.build()?)?;
        self.usage.compiled(&program, true);
        self.steps.insert(batch, program);
        Ok(())
    }

    /// The model and its loss.
    pub(super) fn parts(&self) -> (&dyn Module, &Loss) {
        (&*self.model, &self.loss)
    }

    pub(super) fn prepare_eval(&mut self, fields: &[Field], batch: usize) -> Result<()> {
        if self.evals.contains_key(&batch) {
            return Ok(());
        }
        let builder = Builder::new();
        let params = Params::new(&builder, Mode::Eval);
        let inputs = feeds(&builder, fields, batch)?;
        let (target, inputs) = split_target(&inputs)?;
        let output = self.model.forward_all(&params.scope(), inputs);
        let measured = self.loss.measure(&output, target, false);
        pack(&builder, &[&measured.loss, &measured.correct]);
        let graph = builder.build()?;
        self.fill(params.specs())?;
        let program = Program::compile(&self.store, graph)?;
        self.usage.compiled(&program, false);
        self.evals.insert(batch, program);
        Ok(())
    }

    /// Compiles prediction for these inputs, one field each, and a batch size, if that has not happened.
    pub fn prepare_predict(&mut self, inputs: &[Field], batch: usize) -> Result<()> {
        if self.predicts.contains_key(&batch) {
            return Ok(());
        }
        let builder = Builder::new();
        let params = Params::new(&builder, Mode::Eval);
        let inputs: Vec<Field> = (0..).zip(inputs).map(|(i, f)| Field { name: input_name(i), ..f.clone() }).collect();
        let inputs = feeds(&builder, &inputs, batch)?;
        let output = self.model.forward_all(&params.scope(), &inputs);
        builder.output("output", OutputKind::Fetch, &output);
        let graph = builder.build()?;
        self.fill(params.specs())?;
        let program = Program::compile(&self.store, graph)?;
        self.usage.compiled(&program, false);
        self.predicts.insert(batch, program);
        Ok(())
    }

    /// The compiled training step for a batch size, once [`Trainer::prepare`] or a first step has made it. `None` for a batch
    /// that is computed in pieces.
    pub fn step_program(&self, batch: usize) -> Option<&Program> {
        self.steps.get(&batch)
    }

    /// As [`Trainer::step_program`], to be run by hand: for `benches/host.rs`.
    #[doc(hidden)]
    pub fn step_program_mut(&mut self, batch: usize) -> Option<&mut Program> {
        self.steps.get_mut(&batch)
    }

    /// All programs that an update by a batch of this size runs, once they were made.
    pub fn update_programs(&self, batch: usize) -> Vec<&Program> {
        match self.accumulation.splits(batch) {
            true => self.accumulation.programs(batch),
            false => self.steps.get(&batch).into_iter().collect(),
        }
    }

    /// Compiles what training and evaluation by batches of this size run, and returns all of it.
    pub fn prepare_all(&mut self, fields: &[Field], batch: usize) -> Result<Vec<&Program>> {
        self.prepare(fields, batch)?;
        self.prepare_eval(fields, batch)?;
        let eval = self.evals.get(&batch);
        Ok(self.update_programs(batch).into_iter().chain(eval).collect())
    }

    /// Gives first contents to what is not in the store yet.
    fn fill(&mut self, specs: Vec<ParamSpec>) -> Result<()> {
        let new: Vec<ParamSpec> = specs.into_iter().filter(|s| !self.store.contains(&s.name)).collect();
        for (name, value) in init(&new, self.seed)? {
            self.store.insert(name, &value)?;
        }
        self.specs.extend(new);
        Ok(())
    }

    /// Starts one training step on a batch (one tensor per field) and returns the reports of steps that are done, oldest
    /// first. The last few come with [`Trainer::drain`].
    pub fn step(&mut self, fields: &[Field], batch: &[HostTensor]) -> Result<Vec<StepReport>> {
        let rows = rows_of(batch)?;
        self.prepare(fields, rows)?;
        let lr = self.scheduler.lr(self.position.step);
        let number = u32::try_from(self.position.step)
            .map_err(|_| Error::input("training", "more than 2^32 updates; start a new run from the weights"))?;
        let (seed, momentum) = (self.seed, self.scheduler.momentum(self.position.step));
        let hyper = |piece: u32| StepFeed::values_with(seed, number, piece, lr, momentum);
        if let Some(profile) = &mut self.profile {
            profile.begin(self.position.step + 1);
        }
        let fetches = if self.accumulation.splits(rows) {
            self.launch_pieces(fields, batch, hyper)?
        } else if let Some(program) = self.steps.get_mut(&rows) {
            let hyper = hyper(0)?;
            let mut given: Vec<(&str, &HostTensor)> = fields.iter().map(|f| f.name.as_str()).zip(batch).collect();
            given.extend(hyper.iter().map(|(name, value)| (*name, value)));
            let fetches = launch(&mut self.profile, program, &given)?;
            self.usage.stepped(program);
            fetches
        } else {
            return Err(Error::internal("trainer", format!("no program for batch size {rows}")));
        };
        if let Some(profile) = &mut self.profile {
            profile.end();
        }
        self.position.step += 1;
        self.position.batch += 1;
        let count = self.loss.count(&batch[batch.len() - 1]);
        self.in_flight.push_back(InFlight { fetches, step: self.position.step, count, lr });
        let mut done = Vec::new();
        while self.in_flight.len() > IN_FLIGHT || self.in_flight.front_mut().is_some_and(|f| f.fetches.ready()) {
            done.extend(self.pop()?);
        }
        Ok(done)
    }

    /// Waits for the steps in flight and for faults that the device reports (an index out of range).
    pub fn drain(&mut self) -> Result<Vec<StepReport>> {
        let mut done = Vec::new();
        while let Some(report) = self.pop()? {
            done.push(report);
        }
        self.store.device().check_status()?;
        Ok(done)
    }

    fn pop(&mut self) -> Result<Option<StepReport>> {
        let Some(f) = self.in_flight.pop_front() else { return Ok(None) };
        let values = f.fetches.values()?;
        let (loss, correct, grad_norm, ok, loss_scale) = match *values[0].as_f32()? {
            [loss, correct, grad_norm, ok] => (loss, correct, grad_norm, ok, None),
            [loss, correct, grad_norm, ok, scale] => (loss, correct, grad_norm, ok, Some(scale.into())),
            _ => return Err(Error::internal("trainer", format!("a step gave metrics {}", values[0].shape))),
        };
        Ok(Some(StepReport {
            step: f.step,
            loss: loss.into(),
            correct: correct.into(),
            count: f.count,
            grad_norm: grad_norm.into(),
            updated: ok != 0.0,
            lr: f.lr,
            loss_scale,
        }))
    }

    /// The batches of an epoch, and what their augmentation is drawn from.
    pub(super) fn batches(&self, part: &[usize], batch: usize, epoch: u64) -> (Batches, Draw) {
        let batches = match self.shuffle {
            true => Batches::shuffled(part, batch, self.seed, epoch),
            false => Batches::ordered(part, batch),
        };
        let batches = if self.drop_last { batches.whole() } else { batches };
        (batches, Draw { seed: self.seed, epoch, shuffled: self.shuffle })
    }

    /// Trains one epoch, or what is left of it, on `part` of the data in an order drawn from the seed. `watch` sees every
    /// step's report, in order. Stops early after update number `limit`, or soon after `watch` returns false; either way
    /// no step is in flight afterwards. True if the epoch came to its end.
    pub fn epoch(
        &mut self,
        data: &dyn Dataset,
        part: &[usize],
        batch: usize,
        limit: u64,
        watch: &mut dyn FnMut(StepReport) -> Result<bool>,
    ) -> Result<bool> {
        let fields = data.fields();
        let (batches, draw) = self.batches(part, batch, self.position.epoch);
        loader::with(data, &batches, self.position.batch, Some(draw), self.workers, |loader| -> Result<()> {
            let mut go_on = true;
            while go_on && self.position.step < limit {
                let Some(tensors) = loader.take() else { break };
                for report in self.step(&fields, &tensors?)? {
                    go_on &= watch(report)?;
                }
            }
            Ok(())
        })?;
        for report in self.drain()? {
            watch(report)?;
        }
        if self.position.batch < batches.len() {
            return Ok(false);
        }
        self.position.epoch += 1;
        self.position.batch = 0;
        Ok(true)
    }

    /// Trains for some epochs on all of the data; returns the measures of the last one, taken while training.
    pub fn fit(&mut self, data: &dyn Dataset, batch: usize, epochs: u64) -> Result<Measures> {
        let all: Vec<usize> = (0..data.len()).collect();
        let mut measures = Measures::default();
        for _ in 0..epochs {
            measures = Measures::default();
            self.epoch(data, &all, batch, u64::MAX, &mut |r| {
                measures.add(r.loss, r.correct, r.count);
                Ok(true)
            })?;
        }
        Ok(measures)
    }

    /// Measures the model on a part of the data; with the average of the weights, if the optimizer keeps one.
    pub fn evaluate(&mut self, data: &dyn Dataset, part: &[usize], batch: usize) -> Result<Measures> {
        let was = self.averaged;
        self.use_average(true)?;
        let measures = self.measure(data, part, batch);
        self.use_average(was)?;
        measures
    }

    fn measure(&mut self, data: &dyn Dataset, part: &[usize], batch: usize) -> Result<Measures> {
        let fields = data.fields();
        let mut measures = Measures::default();
        let mut queue: VecDeque<(Fetches, usize)> = VecDeque::new();
        let mut take = |(fetches, count): (Fetches, usize)| -> Result<()> {
            let values = fetches.values()?;
            let v = values[0].as_f32()?;
            measures.add(v[0].into(), v[1].into(), count);
            Ok(())
        };
        for indices in Batches::ordered(part, batch).iter_from(0) {
            let tensors = data.batch(indices, None)?;
            self.prepare_eval(&fields, indices.len())?;
            let Some(program) = self.evals.get_mut(&indices.len()) else { continue };
            let given: Vec<(&str, &HostTensor)> = fields.iter().map(|f| f.name.as_str()).zip(&tensors).collect();
            queue.push_back((program.launch(&given)?, self.loss.count(&tensors[tensors.len() - 1])));
            if queue.len() > IN_FLIGHT
                && let Some(oldest) = queue.pop_front()
            {
                take(oldest)?;
            }
        }
        queue.into_iter().try_for_each(take)?;
        self.store.device().check_status()?;
        Ok(measures)
    }

    /// The model's output for a batch of inputs.
    pub fn predict(&mut self, input: &HostTensor) -> Result<HostTensor> {
        self.predict_all(std::slice::from_ref(input))
    }

    /// The model's output for a batch of examples with several inputs.
    pub fn predict_all(&mut self, inputs: &[HostTensor]) -> Result<HostTensor> {
        let rows = rows_of(inputs)?;
        let fields: Vec<Field> = inputs.iter().map(|t| Field::new("", t.dtype(), &t.shape[1..])).collect();
        self.prepare_predict(&fields, rows)?;
        let Some(program) = self.predicts.get_mut(&rows) else {
            return Err(Error::internal("trainer", format!("no program for batch size {rows}")));
        };
        let names: Vec<String> = (0..inputs.len()).map(input_name).collect();
        let given: Vec<(&str, &HostTensor)> = names.iter().map(String::as_str).zip(inputs).collect();
        let mut out = program.run(&given)?;
        out.pop().ok_or_else(|| Error::internal("trainer", "prediction gave nothing"))
    }
}

/// True for parameters and buffers of the model; false for what the optimizer and the guard keep.
pub fn is_model_state(name: &str) -> bool {
    !name.starts_with("optim.") && !name.starts_with("status.")
}

/// The target, which is the last field, and the inputs before it.
pub(super) fn split_target(fields: &[Tensor]) -> Result<(&Tensor, &[Tensor])> {
    match fields.split_last() {
        Some((target, inputs)) if !inputs.is_empty() => Ok((target, inputs)),
        _ => Err(Error::input("data set", "its examples need at least two fields: an input and a target")),
    }
}

/// Under which name a prediction takes its input number `i`.
fn input_name(i: usize) -> String {
    if i == 0 { "input".into() } else { format!("input{i}") }
}

pub(super) fn rows_of(batch: &[HostTensor]) -> Result<usize> {
    let rows = batch.first().and_then(|t| t.shape.first()).copied();
    rows.ok_or_else(|| Error::input("batch", "needs at least one tensor whose first dimension counts the examples"))
}

pub(super) fn feeds(builder: &Builder, fields: &[Field], batch: usize) -> Result<Vec<Tensor>> {
    let feed = |f: &Field| {
        let shape: Vec<usize> = std::iter::once(batch).chain(f.shape.iter().copied()).collect();
        builder.input(f.name.clone(), InputKind::Feed, Type::new(f.dtype, shape))
    };
    let inputs: Vec<Tensor> = fields.iter().map(feed).collect();
    match inputs.is_empty() {
        true => Err(Error::input("data set", "its examples have no fields")),
        false => Ok(inputs),
    }
}
