//! Compiling on all cores. Lavapipe compiles a kernel when it is first launched, on the one thread of a device's queue: most of a cold
//! start, on one core. Here the kernels of a program are launched once over no workgroups, on the device itself or, once one of them
//! has taken long, on further devices of the same adapter, whichever is free; what those compile reaches the device itself through
//! the driver's cache on disk. Where that cache is off, the first program tells, and later ones are compiled by the device alone.

use super::buffers;
use super::caps::AdapterClass;
use super::device::Device;
use super::kernels::IMAGE_WIDTH;
use super::pipelines::{Pipeline, Pipelines};
use super::record::{Bound, Prepared};
use crate::error::{Error, Result};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use wgpu::util::DeviceExt;

/// When other devices help.
#[derive(Debug)]
pub(super) struct Help {
    /// They do once a first launch has taken longer than this: than the driver takes to read what it has in its cache.
    cold: Duration,
    /// Most of them.
    most: usize,
    /// They get all that is left, and the device itself waits: for tests, in which nobody is to be faster by chance.
    rest: bool,
    /// The driver has no cache that they could share.
    useless: AtomicBool,
    /// Kernels that they have compiled.
    pub(super) compiled: AtomicUsize,
}

impl Help {
    fn new(cold: Duration, most: usize, rest: bool) -> Help {
        Help { cold, most, rest, useless: AtomicBool::new(false), compiled: AtomicUsize::new(0) }
    }

    /// So many of them from the first kernel on, which get all the others.
    #[cfg(test)]
    pub(super) fn at_once(most: usize) -> Help {
        Help::new(Duration::ZERO, most, true)
    }
}

impl Default for Help {
    fn default() -> Help {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Help::new(Duration::from_millis(15), cores.min(4) - 1, false)
    }
}

/// True if the adapter compiles at the first launch and keeps what it compiled on disk.
fn lazy(device: &Device) -> bool {
    device.caps.class == AdapterClass::Software && device.info.driver.contains("llvmpipe")
}

/// Has these calls compiled as far as they are new, here or in the driver's cache.
pub(super) fn compile(device: &Device, pipelines: &Pipelines, calls: &[&Prepared]) -> Result<()> {
    let mut new = pipelines.missing(calls, |p| &p.call);
    let help = &pipelines.help;
    if !lazy(device) || new.len() < 3 {
        return Ok(());
    }
    // The shortest text tells whether the cache is cold; the longest come next, so that all devices end together.
    new.sort_by_key(|p| std::cmp::Reverse(p.call.source.len()));
    new.rotate_right(1);
    let next = AtomicUsize::new(0);
    let take = || new.get(next.fetch_add(1, Relaxed)).copied();
    let elsewhere = Mutex::new(Vec::new());
    let result = thread::scope(|scope| {
        let mut alone = !help.useless.load(Relaxed);
        while let Some(p) = take() {
            let made = pipelines.get(device, &p.call);
            let taken = made.and_then(|pipeline| first_launch(device, &pipeline, p, Own::Yes)).inspect_err(|_| {
                // Nobody needs the rest.
                next.store(new.len(), Relaxed);
            })?;
            if alone && taken > help.cold {
                alone = false;
                for _ in 0..help.most {
                    // A thread that the system refuses is help that does not come.
                    let _ = thread::Builder::new().spawn_scoped(scope, || assist(device, &take, &elsewhere));
                }
                if help.rest && help.most > 0 {
                    break;
                }
            }
        }
        Ok(())
    });
    result?;
    let elsewhere = elsewhere.into_inner().unwrap_or_else(PoisonError::into_inner);
    help.compiled.fetch_add(elsewhere.len(), Relaxed);
    // The first of them is on disk by now, if anything ever is.
    if let Some((p, there)) = elsewhere.first() {
        let here = first_launch(device, &*pipelines.get(device, &p.call)?, p, Own::Yes)?;
        help.useless.fetch_or(here > help.cold && here > *there / 2, Relaxed);
    }
    Ok(())
}

/// Compiles what is left on a device of its own, and tells what it was and how long it took. What goes wrong here goes wrong again, and
/// is told, where the kernel is needed.
fn assist<'a>(
    device: &Device,
    take: &dyn Fn() -> Option<&'a Prepared>,
    elsewhere: &Mutex<Vec<(&'a Prepared, Duration)>>,
) {
    let Ok(other) = device.again() else { return };
    let pipelines = Pipelines::default();
    while let Some(p) = take() {
        let taken = pipelines.get(&other, &p.call).and_then(|pipeline| first_launch(&other, &pipeline, p, Own::No));
        match taken {
            Ok(taken) => elsewhere.lock().unwrap_or_else(PoisonError::into_inner).push((p, taken)),
            Err(_) => return,
        }
    }
}

/// Whether the memory of a call is this device's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Yes,
    No,
}

/// Launches a kernel over no workgroups and waits until it is compiled; how long that took. Lavapipe compiles for textures whose height is
/// a power of two or is not, and for values of `Params` that bound loops; what else lies in memory does not matter.
fn first_launch(device: &Device, pipeline: &Pipeline, p: &Prepared, own: Own) -> Result<Duration> {
    let usage = wgpu::BufferUsages::UNIFORM;
    let params = wgpu::util::BufferInitDescriptor { label: Some("params"), contents: &p.call.params.bytes, usage };
    let params = device.device.create_buffer_init(&params);
    let other = |bound: &Bound| {
        Ok(match bound {
            Bound::Image(view) => {
                let rows = if view.texture().height().is_power_of_two() { 1 } else { 3 };
                Bound::Image(buffers::image(device, rows * u64::from(IMAGE_WIDTH))?)
            }
            Bound::Buffer(_) => Bound::Buffer(buffers::storage(device, "nothing", 0)?),
        })
    };
    let others = p.bound.iter().filter(|_| own == Own::No).map(other).collect::<Result<Vec<_>>>()?;
    let bound = if own == Own::Yes { &p.bound } else { &others };
    let resources = bound.iter().map(Bound::resource).chain([params.as_entire_binding()]);
    let entries: Vec<_> =
        (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    let desc = wgpu::BindGroupDescriptor { label: Some(p.call.label), layout: &pipeline.layout, entries: &entries };
    let group = device.device.create_bind_group(&desc);
    let mut encoder = device.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline.pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(0, 1, 1);
    drop(pass);
    let start = Instant::now();
    let submission = device.queue.submit([encoder.finish()]);
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
    match device.device.poll(wait) {
        Ok(_) => Ok(start.elapsed()),
        Err(e) => Err(Error::device(&device.info.name, format!("compiling {}: {e}", p.call.label))),
    }
}
