//! Times of single dispatches: by GPU timestamps, believed only if they are set and in order; on software adapters by the
//! host's clock.

use crate::backend::gpu::GpuShared;
use crate::backend::gpu::record::Item;
use crate::backend::{KernelTime, Pending};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

/// Dispatches per query set: Metal allows few sets, WebGPU 4096 queries in one.
const CHUNK: usize = 1024;

/// Runs all items once, each dispatch in a submit of its own that is waited for. Lavapipe sets timestamps when it gets to
/// them, often many dispatches later.
fn by_the_hosts_clock(shared: &Arc<GpuShared>, items: &[Item]) -> Result<Vec<KernelTime>> {
    let device = &shared.device;
    let mut times = Vec::new();
    for item in items {
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let dispatch = match item {
            Item::Copy { from, to, bytes } => {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(*bytes));
                None
            }
            Item::Dispatch(d) => {
                d.record(&mut encoder.begin_compute_pass(&Default::default()));
                Some(d)
            }
        };
        let commands = encoder.finish();
        shared.wait()?;
        let began = Instant::now();
        device.queue.submit([commands]);
        shared.wait()?;
        let ns = began.elapsed().as_nanos() as f64;
        times.extend(dispatch.map(|d| d.time(ns)));
    }
    device.fault.check(&device.info.name)?;
    Ok(times)
}

/// Runs all items once, each dispatch in a pass of its own between two timestamps. `splits` is where submits end.
pub(super) fn profile(shared: &Arc<GpuShared>, items: &[Item], splits: &[usize]) -> Result<Vec<KernelTime>> {
    let device = &shared.device;
    let name = &device.info.name;
    if device.info.software {
        return by_the_hosts_clock(shared, items);
    }
    let Some(tick) = device.tick else {
        return Err(Error::device(name, "has no timestamps; measure whole runs by the wall clock instead"));
    };
    let mut times = Vec::new();
    let starts = std::iter::once(&0).chain(splits);
    for chunk in starts.zip(splits).flat_map(|(&from, &to)| items[from..to].chunks(CHUNK)) {
        let count = chunk.len() as u32 * 2;
        let queries = device.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("profile"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = device.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("profile"),
            size: u64::from(count) * 8,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let mut timed = Vec::new();
        for item in chunk {
            match item {
                Item::Copy { from, to, bytes } => encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(*bytes)),
                Item::Dispatch(d) => {
                    let at = timed.len() as u32 * 2;
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: Some(d.label),
                        timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                            query_set: &queries,
                            beginning_of_pass_write_index: Some(at),
                            end_of_pass_write_index: Some(at + 1),
                        }),
                    });
                    d.record(&mut pass);
                    timed.push(d);
                }
            }
        }
        if timed.is_empty() {
            device.queue.submit([encoder.finish()]);
            continue;
        }
        encoder.resolve_query_set(&queries, 0..timed.len() as u32 * 2, &resolved, 0);
        device.queue.submit([encoder.finish()]);
        shared.wait()?;
        let bytes = Box::new(shared.buffers.read(device, &resolved, timed.len() * 16)?).wait()?;
        let stamps: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect();
        for (d, stamp) in timed.iter().zip(stamps.chunks_exact(2)) {
            if stamp[0] == 0 || stamp[1] < stamp[0] {
                return Err(Error::device(name, "gives timestamps that are zero or run backwards; use the wall clock"));
            }
            let ns = (stamp[1] - stamp[0]) as f64 * f64::from(tick);
            times.push(d.time(ns));
        }
    }
    device.fault.check(name)?;
    Ok(times)
}
