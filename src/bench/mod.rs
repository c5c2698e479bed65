//! Benchmarks of kernels and of whole training steps: checks results against another backend, then times. Only measures; output is
//! the CLI's.

mod attention;
pub mod peaks;
pub mod report;
pub mod steps;
pub mod variants;
pub mod workloads;

use crate::backend::{BackendKind, Device, Program, Store};
use crate::error::{Error, Result};
use crate::ir::{Builder, OutputKind, Tensor};
use crate::rng::Rng;
use crate::tensor::{Data, HostTensor};
pub use peaks::Peaks;
pub use report::Report;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
pub use workloads::{Workload, all};

/// Everything that `kiln bench` measures: the workloads, then the training steps.
pub fn cases() -> Vec<Box<dyn Case>> {
    let steps = steps::all().into_iter().map(|s| Box::new(s) as Box<dyn Case>);
    all().into_iter().map(|w| Box::new(w) as Box<dyn Case>).chain(steps).collect()
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Samples per workload; the median is reported.
    pub samples: usize,
    /// A sample repeats the workload until it lasts about this long.
    pub sample_time: Duration,
    /// Compare the results with those of another backend first.
    pub check: bool,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { samples: 9, sample_time: Duration::from_millis(60), check: true }
    }
}

/// What was measured of one workload on one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the workload.
    pub name: String,
    /// Median over the samples, in milliseconds of wall time per run.
    pub ms: f64,
    /// Fastest sample.
    pub ms_min: f64,
    /// Slowest sample.
    pub ms_max: f64,
    /// Wall time of the first run, compilation of kernels included, in milliseconds.
    pub ms_first: f64,
    /// Arithmetic throughput at the median, where arithmetic is what counts.
    pub gflops: Option<f64>,
    /// Memory throughput at the median, where memory is what counts.
    pub gbytes: Option<f64>,
    /// Floating-point operations of the textbook algorithm; 0 where they are not what counts.
    pub flops: f64,
    /// Bytes that must move at least.
    pub bytes: f64,
    /// Kernel launches per run.
    pub dispatches: usize,
    /// Regions that ran on the CPU.
    pub fallbacks: usize,
    /// Largest error against the other backend, relative to the largest result; `None` if not checked.
    pub error: Option<f64>,
}

/// Contents of feeds by name.
type Feeds = Vec<(&'static str, HostTensor)>;

/// What can be measured: a workload or a whole training step.
pub trait Case {
    /// Its name, such as `matmul_512`.
    fn name(&self) -> &str;
    /// Floating-point operations of the textbook algorithm; 0 where they are not what counts.
    fn flops(&self) -> f64 {
        0.0
    }
    /// Bytes that must move at least; 0 where they are not what counts.
    fn bytes(&self) -> f64 {
        0.0
    }
    /// Runs after which the results are compared.
    fn runs_before_check(&self) -> usize {
        1
    }
    /// Compiles it on a device, with inputs and results that stay there.
    fn prepare(&self, device: &Device) -> Result<Prepared>;
}

/// A compiled case.
pub struct Prepared {
    store: Store,
    program: Program,
    /// States to compare.
    outputs: Vec<String>,
    /// What the next run is fed.
    feeds: Box<dyn FnMut() -> Result<Feeds>>,
}

impl Prepared {
    fn launch(&mut self) -> Result<()> {
        let feeds = (self.feeds)()?;
        let given: Vec<(&str, &HostTensor)> = feeds.iter().map(|(name, value)| (*name, value)).collect();
        self.program.launch(&given)?;
        Ok(())
    }
}

impl Case for Workload {
    fn name(&self) -> &str {
        &self.name
    }
    fn flops(&self) -> f64 {
        self.flops
    }
    fn bytes(&self) -> f64 {
        self.bytes
    }

    /// Inputs and results are states, so that a run moves nothing over the bus.
    fn prepare(&self, device: &Device) -> Result<Prepared> {
        let store = Store::new(device);
        let builder = Builder::new();
        let mut inputs: Vec<Tensor> = Vec::new();
        for (i, shape) in self.inputs.iter().enumerate() {
            let mut rng = Rng::named(1, &format!("{}/{i}", self.name));
            let data = (0..shape.elems()).map(|_| rng.normal() as f32).collect();
            store.insert(format!("in{i}"), &HostTensor::new(shape.clone(), Data::F32(data))?)?;
            inputs.push(builder.state(format!("in{i}"), crate::DType::F32, shape.clone()));
        }
        let mut outputs = Vec::new();
        for (i, t) in (self.build)(&inputs).iter().enumerate() {
            let name = format!("out{i}");
            store.insert(&name, &HostTensor::zeros(t.dtype(), t.shape()))?;
            builder.state(&name, t.dtype(), t.shape());
            builder.output(&name, OutputKind::State, t);
            outputs.push(name);
        }
        let program = Program::compile(&store, builder.build()?)?;
        Ok(Prepared { store, program, outputs, feeds: Box::new(|| Ok(Vec::new())) })
    }
}

/// Largest difference between the results of both devices, relative to the largest magnitude of each result.
fn compare(case: &dyn Case, device: &Prepared, judge: &Device) -> Result<f64> {
    let mut other = case.prepare(judge)?;
    for _ in 0..case.runs_before_check() {
        other.launch()?;
    }
    judge.sync()?;
    let mut worst = 0.0f64;
    for name in &device.outputs {
        let (got, want) = (device.store.get(name)?.to_f64(), other.store.get(name)?.to_f64());
        let scale = want.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        for (g, r) in got.iter().zip(&want) {
            let error = (g - r).abs() / scale;
            // Written so that NaN is an error too.
            if !(error <= 1e-4) {
                let detail = format!("result {name} differs from {}: got {g}, want {r}", judge.info().name);
                return Err(Error::runtime(format!("bench {}", case.name()), detail));
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}

/// A case, compiled but not run: for its plan.
pub fn compile(case: &dyn Case, device: &Device) -> Result<Program> {
    Ok(case.prepare(device)?.program)
}

/// Checks and times one case on one device.
pub fn measure(case: &dyn Case, device: &Device, effort: &Effort) -> Result<Row> {
    let mut prepared = case.prepare(device)?;
    let start = Instant::now();
    prepared.launch()?;
    device.sync()?;
    let first = start.elapsed();
    for _ in 1..case.runs_before_check() {
        prepared.launch()?;
    }
    device.sync()?;
    let error = match effort.check {
        true => {
            let judge = if device.info().kind == BackendKind::Gpu { "cpu" } else { "reference" };
            Some(compare(case, &prepared, &Device::open(judge)?)?)
        }
        false => None,
    };
    let run = |prepared: &mut Prepared, repeats: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..repeats {
            prepared.launch()?;
        }
        device.sync()?;
        Ok(start.elapsed().as_secs_f64() / repeats as f64)
    };
    let once = run(&mut prepared, 1)?.min(run(&mut prepared, 2)?);
    let repeats = ((effort.sample_time.as_secs_f64() / once.max(1e-7)).ceil() as usize).clamp(1, 2000);
    let mut samples: Vec<f64> =
        (0..effort.samples.max(1)).map(|_| run(&mut prepared, repeats)).collect::<Result<_>>()?;
    samples.sort_by(f64::total_cmp);
    let median = samples[samples.len() / 2];
    let (stats, flops, bytes) = (prepared.program.stats(), case.flops(), case.bytes());
    let rate = |amount: f64| (amount > 0.0).then(|| amount / median * 1e-9);
    Ok(Row {
        name: case.name().into(),
        ms: median * 1e3,
        ms_min: samples[0] * 1e3,
        ms_max: samples[samples.len() - 1] * 1e3,
        ms_first: first.as_secs_f64() * 1e3,
        gflops: rate(flops),
        gbytes: if flops > 0.0 { None } else { rate(bytes) },
        flops,
        bytes,
        dispatches: stats.dispatches,
        fallbacks: stats.fallbacks,
        error,
    })
}
