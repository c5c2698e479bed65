//! Device memory by id, and reading it back through reused staging buffers.

use crate::backend::gpu::device::Device;
use crate::backend::gpu::kernels::IMAGE_WIDTH;
use crate::backend::{BufferId, Pending};
use crate::config::config;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Staging buffers that wait to be used again; more are dropped.
const STAGING_KEPT: usize = 16;
/// How long a callback may take to be called after the work that it waits for is done.
const CALLBACK: Duration = Duration::from_secs(10);
/// The smallest buffer: WGSL arrays have at least one element, and a `vec4<u64>` load reads 32 bytes.
const MIN_BYTES: u64 = 32;

/// The buffers of a device.
#[derive(Default)]
pub(super) struct Buffers {
    table: Mutex<HashMap<BufferId, wgpu::Buffer>>,
    next: AtomicU64,
    staging: Arc<Mutex<Vec<wgpu::Buffer>>>,
}

/// A storage buffer of at least this size, holding zeros.
pub(super) fn storage(device: &Device, label: &'static str, bytes: u64) -> Result<wgpu::Buffer> {
    let size = bytes.max(MIN_BYTES).next_multiple_of(MIN_BYTES);
    if size > device.caps.max_binding_bytes.next_multiple_of(MIN_BYTES) {
        let detail = format!("a buffer of {bytes} bytes exceeds its limit of {}", device.caps.max_binding_bytes);
        return Err(Error::device(&device.info.name, detail));
    }
    let scope = device.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let desc = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
    let buffer = device.device.create_buffer(&desc);
    match pollster::block_on(scope.pop()) {
        None => Ok(buffer),
        Some(_) => Err(Error::device(
            &device.info.name,
            format!("out of memory for a buffer of {bytes} bytes; use a smaller batch or model"),
        )),
    }
}

/// The view of a storage texture of at least this many texels of four f32, see [`IMAGE_WIDTH`].
pub(super) fn image(device: &Device, texels: u64) -> Result<wgpu::TextureView> {
    let width = u64::from(IMAGE_WIDTH);
    let rows = texels.div_ceil(width).max(1);
    if rows > u64::from(device.caps.image_rows) {
        let detail = format!("a texture of {rows} rows exceeds its limit of {}", device.caps.image_rows);
        return Err(Error::device(&device.info.name, detail));
    }
    let scope = device.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let texture = device.device.create_texture(&wgpu::TextureDescriptor {
        label: Some("packed"),
        size: wgpu::Extent3d { width: IMAGE_WIDTH, height: rows as u32, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba32Float,
        usage: wgpu::TextureUsages::STORAGE_BINDING,
        view_formats: &[],
    });
    match pollster::block_on(scope.pop()) {
        None => Ok(texture.create_view(&Default::default())),
        Some(_) => Err(Error::device(
            &device.info.name,
            format!("out of memory for a texture of {} bytes; use a smaller batch or model", 16 * rows * width),
        )),
    }
}

impl Buffers {
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<BufferId, wgpu::Buffer>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A new buffer holding zeros (NaN under `KILN_POISON`).
    pub(super) fn alloc(&self, device: &Device, bytes: usize) -> Result<BufferId> {
        let buffer = storage(device, "slot", bytes as u64)?;
        if config().poison {
            let words = vec![f32::NAN.to_bits(); buffer.size() as usize / 4];
            device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        }
        let id = BufferId(self.next.fetch_add(1, Ordering::Relaxed));
        self.locked().insert(id, buffer);
        Ok(id)
    }
    /// Forgets a buffer; the device keeps it until work that uses it is done.
    pub(super) fn free(&self, id: BufferId) {
        self.locked().remove(&id);
    }
    /// The buffer of this id.
    pub(super) fn get(&self, id: BufferId) -> Result<wgpu::Buffer> {
        let missing = || Error::internal("gpu buffers", format!("buffer {} was freed or never made", id.0));
        self.locked().get(&id).cloned().ok_or_else(missing)
    }

    fn take_staging(&self, device: &Device, bytes: u64) -> wgpu::Buffer {
        let size = bytes.max(256).next_power_of_two();
        let mut kept = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(i) = kept.iter().position(|b| b.size() == size) {
            return kept.swap_remove(i);
        }
        drop(kept);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let desc = wgpu::BufferDescriptor { label: Some("staging"), size, usage, mapped_at_creation: false };
        device.device.create_buffer(&desc)
    }

    /// Starts reading the first `bytes` of a buffer.
    pub(super) fn read(&self, device: &Arc<Device>, buffer: &wgpu::Buffer, bytes: usize) -> Result<Readback> {
        let mut encoder = device.device.create_command_encoder(&Default::default());
        let staged = self.stage(device, buffer, bytes, &mut encoder)?;
        let submission = device.queue.submit([encoder.finish()]);
        Ok(staged.map(device, submission))
    }

    /// Records the copy of a buffer's first `bytes` to where the host can read them, once `encoder` was submitted.
    pub(super) fn stage(
        &self,
        device: &Device,
        buffer: &wgpu::Buffer,
        bytes: usize,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<Staged> {
        let size = (bytes as u64).next_multiple_of(4);
        if size > buffer.size() {
            let detail = format!("reading {bytes} bytes of a buffer of {}", buffer.size());
            return Err(Error::internal("gpu readback", detail));
        }
        let staging = self.take_staging(device, size);
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, Some(size));
        Ok(Staged { pool: self.staging.clone(), staging, size, bytes })
    }
}

/// A copy for the host, recorded.
pub(super) struct Staged {
    pool: Arc<Mutex<Vec<wgpu::Buffer>>>,
    staging: wgpu::Buffer,
    size: u64,
    bytes: usize,
}

impl Staged {
    /// Starts mapping it; `submission` is the one that does the copy.
    pub(super) fn map(self, device: &Arc<Device>, submission: wgpu::SubmissionIndex) -> Readback {
        let Staged { pool, staging, size, bytes } = self;
        let state = Arc::new(AtomicU8::new(MAPPING));
        let mapped = state.clone();
        staging.map_async(wgpu::MapMode::Read, ..size, move |result| {
            mapped.store(if result.is_ok() { MAPPED } else { FAILED }, Ordering::Release);
        });
        Readback { device: device.clone(), pool, staging, size, bytes, state, submission }
    }
}

const MAPPING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

/// Bytes on their way.
pub(super) struct Readback {
    device: Arc<Device>,
    pool: Arc<Mutex<Vec<wgpu::Buffer>>>,
    staging: wgpu::Buffer,
    size: u64,
    bytes: usize,
    state: Arc<AtomicU8>,
    submission: wgpu::SubmissionIndex,
}

impl Pending for Readback {
    fn ready(&mut self) -> bool {
        // An error of the poll shows when the bytes are waited for.
        let _ = self.device.device.poll(wgpu::PollType::Poll);
        self.state.load(Ordering::Acquire) != MAPPING
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        if self.bytes == 0 {
            return Ok(Vec::new());
        }
        let name = &self.device.info.name;
        if self.state.load(Ordering::Acquire) == MAPPING {
            let poll = wgpu::PollType::Wait { submission_index: Some(self.submission.clone()), timeout: None };
            self.device.device.poll(poll).map_err(|e| Error::device(name, format!("waiting for results: {e}")))?;
        }
        // A poll of another thread may have taken our callback and not have called it yet.
        let since = Instant::now();
        while self.state.load(Ordering::Acquire) == MAPPING && since.elapsed() < CALLBACK {
            std::thread::yield_now();
        }
        self.device.fault.check(name)?;
        if self.state.load(Ordering::Acquire) != MAPPED {
            return Err(Error::device(name, "a result could not be read back: the buffer was not mapped"));
        }
        let view = self.staging.get_mapped_range(..self.size);
        let view = view.map_err(|e| Error::device(name, format!("a result could not be read back: {e}")))?;
        let bytes = view[..self.bytes].to_vec();
        drop(view);
        self.staging.unmap();
        let mut kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < STAGING_KEPT {
            kept.push(self.staging.clone());
        }
        Ok(bytes)
    }
}
