//! Kernel microbenchmarks: checks a workload's results against another backend, then times it. Only measures; output is
//! the CLI's.

pub mod peaks;
pub mod report;
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

struct Prepared {
    store: Store,
    program: Program,
    outputs: Vec<String>,
}

/// Compiles a workload on a device: inputs and results are states, so that a run moves nothing over the bus.
fn prepare(w: &Workload, device: &Device) -> Result<Prepared> {
    let store = Store::new(device);
    let builder = Builder::new();
    let mut inputs: Vec<Tensor> = Vec::new();
    for (i, shape) in w.inputs.iter().enumerate() {
        let mut rng = Rng::named(1, &format!("{}/{i}", w.name));
        let data = (0..shape.elems()).map(|_| rng.normal() as f32).collect();
        store.insert(format!("in{i}"), &HostTensor::new(shape.clone(), Data::F32(data))?)?;
        inputs.push(builder.state(format!("in{i}"), crate::DType::F32, shape.clone()));
    }
    let mut outputs = Vec::new();
    for (i, t) in (w.build)(&inputs).iter().enumerate() {
        let name = format!("out{i}");
        store.insert(&name, &HostTensor::zeros(t.dtype(), t.shape()))?;
        builder.state(&name, t.dtype(), t.shape());
        builder.output(&name, OutputKind::State, t);
        outputs.push(name);
    }
    let program = Program::compile(&store, builder.build()?)?;
    Ok(Prepared { store, program, outputs })
}

/// Largest difference between the results of both devices, relative to the largest magnitude of each result.
fn compare(w: &Workload, device: &Prepared, judge: &Device) -> Result<f64> {
    let mut other = prepare(w, judge)?;
    other.program.run(&[])?;
    let mut worst = 0.0f64;
    for name in &device.outputs {
        let (got, want) = (device.store.get(name)?.to_f64(), other.store.get(name)?.to_f64());
        let scale = want.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        for (g, r) in got.iter().zip(&want) {
            let error = (g - r).abs() / scale;
            // Written so that NaN is an error too.
            if !(error <= 1e-4) {
                let detail = format!("result {name} differs from {}: got {g}, want {r}", judge.info().name);
                return Err(Error::runtime(format!("bench {}", w.name), detail));
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}

/// Checks and times one workload on one device.
pub fn measure(w: &Workload, device: &Device, effort: &Effort) -> Result<Row> {
    let mut prepared = prepare(w, device)?;
    let start = Instant::now();
    prepared.program.launch(&[])?;
    device.sync()?;
    let first = start.elapsed();
    let error = match effort.check {
        true => {
            let judge = if device.info().kind == BackendKind::Gpu { "cpu" } else { "reference" };
            Some(compare(w, &prepared, &Device::open(judge)?)?)
        }
        false => None,
    };
    let run = |program: &mut Program, repeats: usize| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..repeats {
            program.launch(&[])?;
        }
        device.sync()?;
        Ok(start.elapsed().as_secs_f64() / repeats as f64)
    };
    let once = run(&mut prepared.program, 1)?.min(run(&mut prepared.program, 2)?);
    let repeats = ((effort.sample_time.as_secs_f64() / once.max(1e-7)).ceil() as usize).clamp(1, 2000);
    let mut samples: Vec<f64> =
        (0..effort.samples.max(1)).map(|_| run(&mut prepared.program, repeats)).collect::<Result<_>>()?;
    samples.sort_by(f64::total_cmp);
    let median = samples[samples.len() / 2];
    let stats = prepared.program.stats();
    let rate = |amount: f64| (amount > 0.0).then(|| amount / median * 1e-9);
    Ok(Row {
        name: w.name.clone(),
        ms: median * 1e3,
        ms_min: samples[0] * 1e3,
        ms_max: samples[samples.len() - 1] * 1e3,
        ms_first: first.as_secs_f64() * 1e3,
        gflops: rate(w.flops),
        gbytes: if w.flops > 0.0 { None } else { rate(w.bytes) },
        flops: w.flops,
        bytes: w.bytes,
        dispatches: stats.dispatches,
        fallbacks: stats.fallbacks,
        error,
    })
}
