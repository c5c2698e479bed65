//! `kiln bench`: times every kernel-bound workload on one device, after checking its results against another backend.

use crate::backend::Device;
use crate::bench::{self, Effort, Row};
use crate::error::{Error, Result};
use std::time::Duration;

/// Time matrix products, convolutions, attention, norms, reductions and elementwise chains on a device.
///
/// Each workload's results are first compared with another backend (the CPU path for a GPU, the reference for the CPU
/// path); a wrong kernel is an error, not a number.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Only workloads whose name contains this, such as `matmul` or `sdpa_causal`.
    #[arg(default_value = "")]
    filter: String,
    /// Device: auto, cpu, reference, gpu, software, or part of an adapter's name.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Samples per workload; the median is reported.
    #[arg(long, default_value_t = 9)]
    samples: usize,
    /// Milliseconds per sample.
    #[arg(long, default_value_t = 60)]
    sample_ms: u64,
    /// Do not compare the results with another backend first (the reference is slow on the large ones).
    #[arg(long)]
    no_check: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<()> {
    let device = Device::open(&args.device)?;
    let info = device.info();
    let effort =
        Effort { samples: args.samples, sample_time: Duration::from_millis(args.sample_ms), check: !args.no_check };
    let chosen: Vec<_> = bench::all().into_iter().filter(|w| w.name.contains(&args.filter)).collect();
    if chosen.is_empty() {
        let names: Vec<String> = bench::all().into_iter().map(|w| w.name).collect();
        let detail = format!("no workload has this in its name; there are {}", names.join(", "));
        return Err(Error::input(format!("filter {:?}", args.filter), detail));
    }
    if !args.json {
        println!("{} ({}): {}", info.name, info.driver, device.reason());
        println!(
            "{:<28} {:>10} {:>10} {:>10} {:>12} {:>6} {:>10}",
            "workload", "median ms", "min", "max", "rate", "disp.", "first ms"
        );
    }
    let mut rows = Vec::new();
    for w in &chosen {
        let row = bench::measure(w, &device, &effort)?;
        if !args.json {
            print(&row);
        }
        rows.push(row);
    }
    if args.json {
        let report = serde_json::json!({
            "device": info.name, "driver": info.driver, "software": info.software,
            "kiln": env!("CARGO_PKG_VERSION"), "samples": effort.samples, "rows": rows,
        });
        println!("{report:#}");
    }
    Ok(())
}

fn print(row: &Row) {
    let rate = match (row.gflops, row.gbytes) {
        (Some(g), _) => format!("{g:.1} GF/s"),
        (None, Some(b)) => format!("{b:.2} GB/s"),
        (None, None) => String::new(),
    };
    let fallback = if row.fallbacks > 0 { format!("  {} steps on the CPU", row.fallbacks) } else { String::new() };
    println!(
        "{:<28} {:>10.4} {:>10.4} {:>10.4} {:>12} {:>6} {:>10.1}{fallback}",
        row.name, row.ms, row.ms_min, row.ms_max, rate, row.dispatches, row.ms_first
    );
}
