//! `kiln bench`: times every kernel-bound workload and whole training steps on one device, after checking its results against another backend.

use crate::backend::Device;
use crate::bench::report::Change;
use crate::bench::{self, Effort, Peaks, Report, Row};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Time matrix products, convolutions, attention, norms, reductions, elementwise chains and training steps on a device.
///
/// Each workload's results are first compared with another backend (the CPU path for a GPU, the reference for the CPU
/// path); a wrong kernel is an error, not a number. The limits of the device are measured first (a chain of multiply-adds and a
/// large product, a stream of memory, an empty launch), and the last column says which share of the nearest of them a workload reaches.
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
    /// Instead of the workloads, time every variant of every kernel that they run on this adapter, each checked against the
    /// reference: which one the built-in pick is, and how far from the best. `kiln tune` keeps the best for a model's shapes.
    #[arg(long, conflicts_with_all = ["report", "compare"])]
    variants: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    /// Write the report to this file too, to be compared later or shown to others.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Compare with a report of an earlier run: faster or slower is said only of what exceeds the scatter of both.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<()> {
    let device = Device::open(&args.device)?;
    // Variants are compared with the built-in picks, workloads run as training would.
    let device = if args.variants { device } else { device.tuned() };
    let info = device.info();
    let effort =
        Effort { samples: args.samples, sample_time: Duration::from_millis(args.sample_ms), check: !args.no_check };
    let chosen: Vec<_> = bench::cases().into_iter().filter(|c| c.name().contains(&args.filter)).collect();
    if chosen.is_empty() {
        let names: Vec<String> = bench::cases().iter().map(|c| c.name().to_string()).collect();
        let detail = format!("no workload has this in its name; there are {}", names.join(", "));
        return Err(Error::input(format!("filter {:?}", args.filter), detail));
    }
    if args.variants {
        return super::variants::run(args, &device, &chosen, &effort);
    }
    let old = args.compare.as_deref().map(Report::read).transpose()?;
    let mut peaks = Peaks::measure(&device, &effort)?;
    if !args.json {
        println!("{} ({}): {}", info.name, info.driver, device.reason());
        let Peaks { gflops, gbytes, launch_ms } = peaks;
        println!("limits: {gflops:.1} GF/s, {gbytes:.2} GB/s, {launch_ms:.4} ms a launch");
        println!(
            "{:<28} {:>10} {:>10} {:>10} {:>12} {:>6} {:>10} {:>6}",
            "workload", "median ms", "min", "max", "rate", "disp.", "first ms", "limit"
        );
    }
    let mut rows = Vec::new();
    for case in &chosen {
        let row = bench::measure(case.as_ref(), &device, &effort)?;
        peaks.raise(&row);
        if !args.json {
            print(&row, &peaks);
        }
        rows.push(row);
    }
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let (samples, kiln) = (effort.samples, env!("CARGO_PKG_VERSION").to_string());
    let (device, driver, software) = (info.name.clone(), info.driver.clone(), info.software);
    let report = Report { device, driver, software, kiln, system, samples, peaks, rows };
    if let Some(path) = &args.report {
        let failed = |e: std::io::Error| Error::input(path.display().to_string(), e.to_string());
        std::fs::write(path, report.to_json()).map_err(failed)?;
    }
    if args.json {
        println!("{}", report.to_json());
    }
    if let Some(old) = old {
        print_changes(&report, &old, args.json);
    }
    Ok(())
}

/// What changed since an earlier report; beside JSON on standard error.
fn print_changes(new: &Report, old: &Report, aside: bool) {
    let mut lines = Vec::new();
    if new.device != old.device || new.driver != old.driver {
        lines.push(format!("another device then: {} ({})", old.device, old.driver));
    }
    let changes = new.changes(old);
    for (name, change) in &changes {
        let (word, ratio) = match change {
            Change::Slower(r) => ("SLOWER", r),
            Change::Faster(r) => ("faster", r),
            Change::Noise(r) => ("within the scatter", r),
        };
        lines.push(format!("{name:<28} {ratio:>6.2} of the time  {word}"));
    }
    let slower = changes.iter().filter(|c| matches!(c.1, Change::Slower(_))).count();
    lines.push(format!("{} workloads compared, {slower} slower beyond the scatter of both series", changes.len()));
    for line in lines {
        if aside { eprintln!("{line}") } else { println!("{line}") }
    }
}

fn print(row: &Row, peaks: &Peaks) {
    let rate = match (row.gflops, row.gbytes) {
        (Some(g), _) => format!("{g:.1} GF/s"),
        (None, Some(b)) => format!("{b:.2} GB/s"),
        (None, None) => String::new(),
    };
    let fallback = if row.fallbacks > 0 { format!("  {} steps on the CPU", row.fallbacks) } else { String::new() };
    println!(
        "{:<28} {:>10.4} {:>10.4} {:>10.4} {:>12} {:>6} {:>10.1} {:>4.0} %{fallback}",
        row.name,
        row.ms,
        row.ms_min,
        row.ms_max,
        rate,
        row.dispatches,
        row.ms_first,
        100.0 * peaks.share(row)
    );
}
