//! `cargo bench --bench host [PRESET] [-- --device NAME]`: what a training step costs the host on the GPU backend, beside the
//! same commands recorded and submitted by wgpu alone. The device idles before each sample and is waited for after it, so
//! that only host time counts.
//!
//! Two comparisons per preset. "record + submit": kiln's run of the compiled step against a replay of its pipelines, bind groups
//! and grids. "whole step": with the batch written before and the metrics on their way back after, against the same writes,
//! replay and copy in as few submits as wgpu needs. Allocations are those of the calling thread.

mod counting;
mod raw;

use counting::{Counting, allocations};
use kiln::backend::Program;
use kiln::backend::gpu::recording::Recording;
use kiln::train::Task;
use kiln::train::config::Draft;
use kiln::{Device, HostTensor, Result};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Samples of each side, alternating.
const SAMPLES: usize = 300;
/// No preset takes longer than this: the slow ones get fewer samples.
const TIME: Duration = Duration::from_secs(60);
/// The presets that need no downloaded data.
const PRESETS: [&str; 3] = ["digits-mlp", "digits-cnn", "chars-gpt"];

fn main() {
    // SAFETY: no other thread exists yet.
    unsafe { kiln::config::quiet_drivers() };
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let named = args.iter().position(|a| a == "--device").and_then(|i| args.get(i + 1));
    let filter = args.iter().find(|a| !a.starts_with("--") && Some(*a) != named).cloned().unwrap_or_default();
    let device = named.map_or_else(|| Device::open("gpu").or_else(|_| Device::open("software")), |d| Device::open(d));
    let device = device.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        std::process::exit(2);
    });
    println!("{} ({})", device.info().name, device.info().driver);
    println!("host time per training step in microseconds: median [quartiles]; allocations of the calling thread\n");
    println!("| preset | dispatches | what | wgpu alone | kiln | ratio | allocations: wgpu alone | kiln |");
    println!("|---|---|---|---|---|---|---|---|");
    for preset in PRESETS.iter().filter(|p| p.contains(&filter)) {
        if let Err(e) = measure(preset, &device) {
            eprintln!("error: {preset}: {e}");
            std::process::exit(2);
        }
    }
}

/// Times and allocations of one side.
#[derive(Default)]
struct Side {
    us: Vec<f64>,
    allocations: Vec<usize>,
}

impl Side {
    fn add<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let (count, result) = allocations(f);
        self.us.push(start.elapsed().as_secs_f64() * 1e6);
        self.allocations.push(count);
        result
    }
    /// The quantiles 1/4, 1/2 and 3/4.
    fn quartiles(&mut self) -> [f64; 3] {
        self.us.sort_by(f64::total_cmp);
        [1, 2, 3].map(|q| self.us[q * (self.us.len() - 1) / 4])
    }
    fn count(&mut self) -> usize {
        self.allocations.sort_unstable();
        self.allocations[self.allocations.len() / 2]
    }
}

fn measure(preset: &str, device: &Device) -> Result<()> {
    let config = Draft::open(preset)?.finish()?;
    let task = Task::open(&config)?;
    let mut trainer = task.trainer(&config, device)?;
    trainer.prepare(&task.train.data.fields(), config.batch)?;
    let program = trainer.step_program_mut(config.batch).expect("the presets are computed in one piece");
    let recording = program.recording().expect("the presets run on the GPU alone");
    let feeds: Vec<(String, HostTensor)> =
        program.feeds().into_iter().map(|(name, ty)| (name, HostTensor::zeros(ty.dtype, &ty.shape))).collect();
    let given: Vec<(&str, &HostTensor)> = feeds.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let whole = Whole::new(&recording, program, &feeds);
    let dispatches = program.stats().dispatches;
    // Kernels are compiled in the first runs.
    for _ in 0..3 {
        program.launch(&given)?.wait()?;
        raw::replay(&recording);
        device.sync()?;
    }
    let [mut raw_run, mut run, mut raw_step, mut step] = [(); 4].map(|()| Side::default());
    let began = Instant::now();
    for _ in 0..SAMPLES {
        raw_run.add(|| raw::replay(&recording));
        device.sync()?;
        run.add(|| program.replay())?;
        device.sync()?;
        raw_step.add(|| whole.start(&recording));
        device.sync()?;
        whole.end();
        let fetches = step.add(|| program.launch(&given))?;
        device.sync()?;
        fetches.values()?;
        if began.elapsed() > TIME {
            break;
        }
    }
    for (what, mut alone, mut kiln) in [("record + submit", raw_run, run), ("whole step", raw_step, step)] {
        let ([a, alone_us, c], [x, us, z]) = (alone.quartiles(), kiln.quartiles());
        println!(
            "| {preset} | {dispatches} | {what} | {alone_us:.0} [{a:.0}, {c:.0}] | {us:.0} [{x:.0}, {z:.0}] | {:.2} | {} | {} |",
            us / alone_us,
            alone.count(),
            kiln.count(),
        );
    }
    Ok(())
}

/// What surrounds the commands of a step, by wgpu alone: the batch goes to buffers, the metrics to one that is mapped.
struct Whole<'a> {
    inputs: Vec<(wgpu::Buffer, &'a HostTensor)>,
    metrics: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl<'a> Whole<'a> {
    fn new(r: &Recording, program: &Program, feeds: &'a [(String, HostTensor)]) -> Whole<'a> {
        let buffer = |bytes: usize, usage: wgpu::BufferUsages| {
            let size = (bytes as u64).next_multiple_of(16).max(16);
            r.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let bytes = program.fetches().iter().map(|(_, ty)| ty.bytes()).sum();
        Whole {
            inputs: feeds.iter().map(|(_, value)| (buffer(value.as_bytes().len(), storage), value)).collect(),
            metrics: buffer(bytes, storage),
            staging: buffer(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        }
    }

    fn start(&self, r: &Recording) {
        for (buffer, value) in &self.inputs {
            r.queue.write_buffer(buffer, 0, value.as_bytes());
        }
        let mut at = 0;
        while at < r.commands.len() {
            let mut encoder = r.device.create_command_encoder(&Default::default());
            at = raw::record(r, at, &mut encoder);
            if at == r.commands.len() {
                encoder.copy_buffer_to_buffer(&self.metrics, 0, &self.staging, 0, None);
            }
            r.queue.submit([encoder.finish()]);
        }
        self.staging.map_async(wgpu::MapMode::Read, .., |_| ());
    }

    /// After the device was waited for.
    fn end(&self) {
        self.staging.unmap();
    }
}
