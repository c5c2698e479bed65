//! `kiln devices`: what there is to compute on, and what would be chosen.

use crate::backend::gpu::{Adapter, AdapterClass, adapters};
use crate::backend::{Device, DeviceInfo};
use crate::cli::{Outcome, print_json};
use crate::error::Result;
use serde_json::{Value, json};

/// List the devices of this machine, their limits and features, and which one --device auto would take, and why.
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {
    /// Where to compute: auto, cpu, reference, gpu, software, or part of an adapter's name; says what that means here.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &DevicesArgs) -> Result<Outcome> {
    let found = adapters();
    let chosen = Device::open(&args.device)?;
    let cpu = Device::open("cpu")?.info();
    if args.json {
        print_json(&json!({
            "adapters": found.iter().map(adapter_json).collect::<Vec<_>>(),
            "cpu": { "name": cpu.name, "driver": cpu.driver },
            "request": args.device,
            "chosen": { "name": chosen.info().name, "driver": chosen.info().driver, "reason": chosen.reason() },
        }));
        return Ok(Outcome::Good);
    }
    for a in &found {
        println!("gpu        {a}");
        let c = &a.caps;
        let subgroups = c.subgroups.map_or("none".to_string(), |(lo, hi)| format!("{lo}..{hi}"));
        println!(
            "           subgroups {subgroups}, {} invocations, {} KiB workgroup memory, {} storage buffers of at most \
             {} MiB, f16 {}",
            c.max_invocations,
            c.workgroup_bytes >> 10,
            c.max_storage_buffers,
            c.max_binding_bytes >> 20,
            if c.f16 { "yes" } else { "no" }
        );
        println!("           select it with --device {:?}", selector(a));
    }
    if found.is_empty() {
        println!(
            "no Vulkan, Metal or DX12 adapter (a software one comes with mesa-vulkan-drivers on Debian and Ubuntu)"
        );
    }
    println!("cpu        {} ({})", cpu.name, cpu.driver);
    println!("reference  naive loops, the definition of every result");
    let DeviceInfo { name, .. } = chosen.info();
    println!("--device {} takes {name}: {}", args.device, chosen.reason());
    Ok(Outcome::Good)
}

fn selector(a: &Adapter) -> String {
    if a.index > 0 { format!("{}#{}", a.name, a.index) } else { a.name.clone() }
}

fn adapter_json(a: &Adapter) -> Value {
    let class = match a.class {
        AdapterClass::Discrete => "discrete",
        AdapterClass::Integrated => "integrated",
        AdapterClass::Software => "software",
        AdapterClass::Other => "other",
    };
    json!({
        "name": a.name, "driver": a.driver, "class": class, "select": selector(a),
        "subgroups": a.caps.subgroups, "max_invocations": a.caps.max_invocations,
        "workgroup_bytes": a.caps.workgroup_bytes, "max_storage_buffers": a.caps.max_storage_buffers,
        "max_binding_bytes": a.caps.max_binding_bytes, "f16": a.caps.f16,
    })
}
