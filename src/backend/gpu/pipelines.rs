//! Pipelines by (text, overrides), and bind group layouts by access. Both are made once and live as long as the device.

use crate::backend::gpu::device::Device;
use crate::backend::gpu::kernels::{Bind, KernelCall, Mutation};
use crate::backend::gpu::warm::Help;
use crate::config::config;
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// What a layout says of a binding: whether it is written, and whether it is a texture.
type Access = (bool, bool);
/// Text and overrides (as bits).
type Key = (Arc<str>, Vec<(&'static str, u64)>);

fn key(call: &KernelCall) -> Key {
    (call.source.clone(), call.overrides.iter().map(|&(n, v)| (n, v.to_bits())).collect())
}

/// A compiled kernel.
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// The pipelines of one device, or of one deliberate fault on it.
#[derive(Default)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Key, Arc<Pipeline>>>,
    layouts: Mutex<HashMap<(Vec<Access>, u64), wgpu::BindGroupLayout>>,
    mutation: Option<Mutation>,
    pub(super) help: Help,
}

/// The type of a storage binding.
pub(super) fn binding_type(write: bool, image: bool) -> wgpu::BindingType {
    if image {
        wgpu::BindingType::StorageTexture {
            access: if write { wgpu::StorageTextureAccess::WriteOnly } else { wgpu::StorageTextureAccess::ReadOnly },
            format: wgpu::TextureFormat::Rgba32Float,
            view_dimension: wgpu::TextureViewDimension::D2,
        }
    } else {
        let ty = wgpu::BufferBindingType::Storage { read_only: !write };
        wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None }
    }
}

impl Pipelines {
    /// Pipelines whose texts have this fault.
    pub(super) fn mutated(mutation: Mutation) -> Pipelines {
        Pipelines { mutation: Some(mutation), ..Default::default() }
    }

    /// No pipelines yet, and others' help from the first one on.
    #[cfg(test)]
    pub(super) fn helped(most: usize) -> Pipelines {
        Pipelines { help: Help::at_once(most), ..Default::default() }
    }

    /// Number of pipelines so far.
    pub(super) fn len(&self) -> usize {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Of these calls one for each pipeline that is not made yet; none where texts have faults.
    pub(super) fn missing<'a, T>(&self, calls: &[&'a T], call: impl Fn(&T) -> &KernelCall) -> Vec<&'a T> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::new();
        let new = |c: &&&'a T| {
            let key = key(call(c));
            self.mutation.is_none() && !made.contains_key(&key) && seen.insert(key)
        };
        calls.iter().filter(new).copied().collect()
    }

    /// The pipeline of a call; made at the first request.
    pub(super) fn get(&self, device: &Device, call: &KernelCall) -> Result<Arc<Pipeline>> {
        let key = key(call);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(p) = made.get(&key) {
            return Ok(p.clone());
        }
        let pipeline = Arc::new(self.make(device, call)?);
        made.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn layout(&self, device: &Device, call: &KernelCall) -> wgpu::BindGroupLayout {
        let access: Vec<Access> = call.bindings.iter().map(|b| (b.writes(), matches!(b, Bind::Image { .. }))).collect();
        let uniform = call.params.bytes.len() as u64;
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let uniform = wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: false,
                min_binding_size: std::num::NonZeroU64::new(uniform),
            };
            let types = access.iter().map(|&(write, image)| binding_type(write, image)).chain([uniform]);
            let entries: Vec<_> = types
                .enumerate()
                .map(|(i, ty)| wgpu::BindGroupLayoutEntry {
                    binding: i as u32,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty,
                    count: None,
                })
                .collect();
            let desc = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            device.device.create_bind_group_layout(&desc)
        };
        layouts.entry((access.clone(), uniform)).or_insert_with(make).clone()
    }

    fn make(&self, device: &Device, call: &KernelCall) -> Result<Pipeline> {
        let mutated = self.mutation.filter(|m| m.stem == call.label).map(|m| call.source.replace(m.find, m.replace));
        let text: &str = mutated.as_deref().unwrap_or(&call.source);
        if let Some(dir) = &config().dump {
            dump(dir, call, text)?;
        }
        let scope = device.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let desc =
            wgpu::ShaderModuleDescriptor { label: Some(call.label), source: wgpu::ShaderSource::Wgsl(text.into()) };
        let module = if config().checked {
            device.device.create_shader_module(desc)
        } else {
            // SAFETY: every text that can be made is tested to check its own indices against the bounds in its Params,
            // and its loops end; KILN_CHECKED=1 puts the compiler's own checks back.
            unsafe { device.device.create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let layout = self.layout(device, call);
        let pipeline_layout = device.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(call.label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &call.overrides,
                zero_initialize_workgroup_memory: config().checked,
            },
            cache: None,
        });
        if let Some(e) = pollster::block_on(scope.pop()) {
            return Err(Error::internal(format!("shader {} ({})", call.label, call.variant), e.to_string()));
        }
        Ok(Pipeline { pipeline, layout })
    }
}

fn dump(dir: &std::path::Path, call: &KernelCall, text: &str) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    for (name, value) in &call.overrides {
        (name, value.to_bits()).hash(&mut hasher);
    }
    let path = dir.join(format!("{}-{}-{:016x}.wgsl", call.label, call.variant, hasher.finish()));
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&path, format!("// overrides: {:?}\n{text}", call.overrides)))
        .map_err(|e| Error::input(format!("KILN_DUMP={}", dir.display()), e.to_string()))
}
