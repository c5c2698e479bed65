//! Adapters: which there are, which one a request means, and opening it. No other file talks to the wgpu instance.

use crate::backend::gpu::caps::{AdapterClass, GpuCaps};
use crate::backend::{BackendKind, DeviceInfo};
use crate::config::config;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Which adapter is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The best discrete or integrated GPU; never a software adapter.
    Gpu,
    /// An adapter that computes on the CPU.
    Software,
    /// The adapter whose name contains this text, ignoring case; `#1` at the end takes the second of several.
    Named(String),
}

impl Request {
    /// `gpu`, `software`, or part of a name.
    pub fn parse(text: &str) -> Request {
        match text {
            "gpu" => Request::Gpu,
            "software" => Request::Software,
            name => Request::Named(name.to_string()),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Request::Gpu => "gpu",
            Request::Software => "software",
            Request::Named(name) => name,
        })
    }
}

/// An adapter of this machine, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// API and driver.
    pub driver: String,
    /// What sort of processor it is.
    pub class: AdapterClass,
    /// Position among the adapters of exactly this name.
    pub index: usize,
    /// Limits and features.
    pub caps: GpuCaps,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            AdapterClass::Discrete => "discrete",
            AdapterClass::Integrated => "integrated",
            AdapterClass::Software => "software",
            AdapterClass::Other => "other",
        };
        let index = if self.index > 0 { format!("#{}", self.index) } else { String::new() };
        write!(f, "{}{index} ({class}, {})", self.name, self.driver)
    }
}

/// What went wrong with a device outside any call: its loss, or an error that nobody was waiting for. The first stays.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    fn set(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }
    /// Errors with the fault, if there was one.
    pub(super) fn check(&self, device: &str) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(detail) => Err(Error::device(device, detail.clone())),
            None => Ok(()),
        }
    }
}

/// An open device.
pub(super) struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: DeviceInfo,
    pub(super) caps: GpuCaps,
    pub(super) fault: Fault,
    /// Nanoseconds per timestamp tick, or `None` without timestamps.
    pub(super) tick: Option<f32>,
    adapter: wgpu::Adapter,
}

impl Device {
    /// Another device of the same adapter.
    pub(super) fn again(&self) -> Result<Device> {
        connect(self.adapter.clone(), self.info.clone(), self.caps.clone())
    }
}

fn caps_of(adapter: &wgpu::Adapter) -> GpuCaps {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    GpuCaps {
        class: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterClass::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterClass::Integrated,
            wgpu::DeviceType::Cpu => AdapterClass::Software,
            wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => AdapterClass::Other,
        },
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size))
            .filter(|s| s.0 > 0 && s.1 >= s.0),
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_workgroup_size: [
            limits.max_compute_workgroup_size_x,
            limits.max_compute_workgroup_size_y,
            limits.max_compute_workgroup_size_z,
        ],
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage.saturating_sub(1),
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        image_rows: limits.max_texture_dimension_2d,
        f16: features.contains(wgpu::Features::SHADER_F16),
        int64: features.contains(wgpu::Features::SHADER_INT64),
        coherent: features.contains(wgpu::Features::MEMORY_DECORATION_COHERENT),
        variants: Default::default(),
        picks: Default::default(),
    }
}

/// All adapters, best first: discrete, integrated, other, software.
fn enumerate() -> Vec<(wgpu::Adapter, Adapter)> {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // Validation layers are the driver developer's tool; kiln's own tests validate every text.
    desc.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(desc);
    let mut found: Vec<(wgpu::Adapter, Adapter)> = Vec::new();
    for adapter in pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all())) {
        let info = adapter.get_info();
        let caps = caps_of(&adapter);
        let driver = format!("{}, {} {}", info.backend, info.driver, info.driver_info).trim_end().to_string();
        found.push((adapter, Adapter { name: info.name, driver, class: caps.class, index: 0, caps }));
    }
    let order = |c: AdapterClass| match c {
        AdapterClass::Discrete => 0,
        AdapterClass::Integrated => 1,
        AdapterClass::Other => 2,
        AdapterClass::Software => 3,
    };
    found.sort_by_key(|(_, a)| order(a.class));
    for i in 0..found.len() {
        found[i].1.index = found[..i].iter().filter(|(_, a)| a.name == found[i].1.name).count();
    }
    found
}

/// The adapters of this machine, best first.
pub fn adapters() -> Vec<Adapter> {
    enumerate().into_iter().map(|(_, a)| a).collect()
}

/// Which of `adapters` a request means, or why none.
pub fn choose(request: &Request, adapters: &[Adapter]) -> Result<usize> {
    let listed = || match adapters {
        [] => "this machine has no Vulkan, Metal or DX12 adapter".to_string(),
        some => format!("adapters: {}", some.iter().map(Adapter::to_string).collect::<Vec<_>>().join("; ")),
    };
    let fail = |why: &str| Err(Error::device(request.to_string(), format!("{why}; {}", listed())));
    match request {
        Request::Gpu => match adapters.iter().position(|a| a.class != AdapterClass::Software) {
            Some(i) => Ok(i),
            None if adapters.is_empty() => fail("no GPU (use the cpu device)"),
            None => {
                fail("only software adapters, which are slower than the cpu device (ask for `software` to use one)")
            }
        },
        Request::Software => match adapters.iter().position(|a| a.class == AdapterClass::Software) {
            Some(i) => Ok(i),
            None => fail("no software adapter"),
        },
        Request::Named(name) => {
            let (part, nth) = match name.rsplit_once('#') {
                Some((part, n)) if n.parse::<usize>().is_ok() => (part, n.parse().unwrap_or(0)),
                _ => (name.as_str(), 0),
            };
            let part = part.to_lowercase();
            let mut matching = (0..adapters.len()).filter(|&i| adapters[i].name.to_lowercase().contains(&part));
            matching.nth(nth).map_or_else(|| fail("no adapter of that name and number"), Ok)
        }
    }
}

/// Opens the adapter that the request means.
pub(super) fn open(request: &Request) -> Result<Device> {
    let named;
    let request = match (request, &config().adapter) {
        (Request::Gpu, Some(name)) => {
            named = Request::Named(name.clone());
            &named
        }
        _ => request,
    };
    let mut found = enumerate();
    let listed: Vec<Adapter> = found.iter().map(|(_, a)| a.clone()).collect();
    let (adapter, chosen) = found.swap_remove(choose(request, &listed)?);
    let software = chosen.class == AdapterClass::Software;
    let info = DeviceInfo { kind: BackendKind::Gpu, name: chosen.name, driver: chosen.driver, software };
    connect(adapter, info, chosen.caps)
}

fn connect(adapter: wgpu::Adapter, info: DeviceInfo, caps: GpuCaps) -> Result<Device> {
    let wanted = wgpu::Features::SUBGROUP
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SHADER_INT64
        | wgpu::Features::MEMORY_DECORATION_COHERENT;
    let desc = wgpu::DeviceDescriptor {
        label: Some("kiln"),
        required_features: adapter.features() & wanted,
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&desc))
        .map_err(|e| Error::device(&info.name, format!("could not be opened: {e}")))?;
    let fault = Fault::default();
    let (lost, uncaptured) = (fault.clone(), fault.clone());
    device.set_device_lost_callback(move |reason, text| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            lost.set(format!("was lost ({text}); resume from the last checkpoint, with smaller batches if it repeats"));
        }
    });
    device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| uncaptured.set(format!("reported an error: {e}"))));
    let tick = device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| queue.get_timestamp_period());
    Ok(Device { device, queue, info, caps, fault, tick: tick.filter(|&t| t > 0.0), adapter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, class: AdapterClass, index: usize) -> Adapter {
        let caps = GpuCaps::sample(class, None);
        Adapter { name: name.into(), driver: "Vulkan".into(), class, index, caps }
    }

    #[test]
    fn requests_choose_or_say_why_not() {
        let soft = adapter("llvmpipe", AdapterClass::Software, 0);
        let all = [
            adapter("GeForce", AdapterClass::Discrete, 0),
            adapter("GeForce", AdapterClass::Discrete, 1),
            soft.clone(),
        ];
        assert_eq!(choose(&Request::Gpu, &all).unwrap(), 0);
        assert_eq!(choose(&Request::Software, &all).unwrap(), 2);
        assert_eq!(choose(&Request::parse("geforce#1"), &all).unwrap(), 1);
        assert!(choose(&Request::parse("geforce#2"), &all).is_err());
        let e = choose(&Request::Gpu, std::slice::from_ref(&soft)).unwrap_err().to_string();
        assert!(e.contains("only software") && e.contains("llvmpipe"), "{e}");
        assert!(choose(&Request::Gpu, &[]).is_err() && choose(&Request::Software, &all[..2]).is_err());
    }
}
