//! Compiling on all cores. Lavapipe compiles a kernel when it is first launched, on the one thread of a device's queue: most of a cold
//! start, on one core. Here the kernels of a program are launched once over no workgroups, each on the device itself or, once one of
//! them has taken long, on further devices of the same adapter, whichever is free; what those compile reaches the device itself
//! through the driver's cache on disk. Without that cache (`MESA_SHADER_CACHE_DISABLE`) it is compiled once more.

use super::buffers;
use super::caps::AdapterClass;
use super::device::Device;
use super::kernels::IMAGE_WIDTH;
use super::pipelines::Pipelines;
use super::record::{Bound, Prepared};
use crate::error::{Error, Result};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wgpu::util::DeviceExt;

/// Longer than a kernel takes that the driver has in its cache.
const COLD: Duration = Duration::from_millis(15);
/// Most devices, the one that will run the kernels among them.
const MOST: usize = 4;

/// True if the adapter compiles at the first launch and keeps what it compiled on disk.
fn lazy(device: &Device) -> bool {
    device.caps.class == AdapterClass::Software && device.info.driver.contains("llvmpipe")
}

/// Makes the pipelines of these calls as far as they are new, compiled to the end.
pub(super) fn compile(device: &Device, pipelines: &Pipelines, calls: &[&Prepared]) -> Result<()> {
    let mut new = pipelines.missing(calls, |p| &p.call);
    if !lazy(device) || new.len() < 3 {
        return Ok(());
    }
    // The shortest text tells whether the cache is cold; the longest come next, so that all devices end together.
    new.sort_by_key(|p| std::cmp::Reverse(p.call.source.len()));
    new.rotate_right(1);
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let take = || new.get(next.fetch_add(1, Ordering::Relaxed)).copied();
    thread::scope(|scope| {
        let mut alone = true;
        while let Some(call) = take() {
            let start = Instant::now();
            launch(device, pipelines, call)?;
            if alone && start.elapsed() > COLD {
                alone = false;
                for _ in 1..cores.min(MOST) {
                    scope.spawn(|| help(device, &take));
                }
            }
        }
        Ok(())
    })
}

/// Compiles what is left on a device of its own. What goes wrong here goes wrong again, and is told, where the kernel is needed.
fn help<'a>(device: &Device, take: &dyn Fn() -> Option<&'a Prepared>) {
    let Ok(other) = device.again() else { return };
    let pipelines = Pipelines::default();
    while let Some(call) = take() {
        if launch(&other, &pipelines, call).is_err() {
            return;
        }
    }
}

/// Launches a kernel over no workgroups and waits until it is compiled. Lavapipe compiles for textures whose height is a power of two or
/// is not, and for values of `Params` that bound loops; else the memory has no meaning.
fn launch(device: &Device, pipelines: &Pipelines, Prepared { call, bound }: &Prepared) -> Result<()> {
    let pipeline = pipelines.get(device, call)?;
    let mut memory = Vec::with_capacity(call.bindings.len() + 1);
    for bound in bound {
        memory.push(match bound {
            Bound::Image(view) => {
                let rows = if view.texture().height().is_power_of_two() { 1 } else { 3 };
                Bound::Image(buffers::image(device, rows * u64::from(IMAGE_WIDTH))?)
            }
            Bound::Buffer(_) => Bound::Buffer(buffers::storage(device, "nothing", 0)?),
        });
    }
    let usage = wgpu::BufferUsages::UNIFORM;
    let params = wgpu::util::BufferInitDescriptor { label: Some("params"), contents: &call.params.bytes, usage };
    memory.push(Bound::Buffer(device.device.create_buffer_init(&params)));
    let entries: Vec<_> = (0..)
        .zip(memory.iter().map(Bound::resource))
        .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
        .collect();
    let desc = wgpu::BindGroupDescriptor { label: Some("nothing"), layout: &pipeline.layout, entries: &entries };
    let group = device.device.create_bind_group(&desc);
    let mut encoder = device.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline.pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(0, 1, 1);
    drop(pass);
    let submission = device.queue.submit([encoder.finish()]);
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
    let failed = |e: wgpu::PollError| Error::device(&device.info.name, format!("compiling {}: {e}", call.label));
    device.device.poll(wait).map(drop).map_err(failed)
}
