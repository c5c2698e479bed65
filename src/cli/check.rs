//! `kiln check`: every kernel against the reference on this device, or the conformance cases of a folder.

use crate::backend::Device;
use crate::check::{self, conformance, support};
use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Check the results of a device: every operation against the reference, or the cases of a folder.
///
/// Without --cases it runs kiln's own cases, each with its gradients, and compares every element with a computation in
/// double precision. With --cases it runs files that were computed elsewhere. The exit code is 1 if anything fails.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Only cases whose name contains this.
    #[arg(default_value = "")]
    filter: String,
    /// A folder of conformance cases (.safetensors).
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// A case of which any step runs on the CPU for want of support fails.
    #[arg(long)]
    no_fallback: bool,
    /// With --cases: list so many cases that took longest.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slowest: usize,
    /// Print what each operation is made of on the reference, the CPU path and a GPU (or else a software adapter), and its
    /// largest error as a fraction of its bound: of values and gradients, then of second derivatives.
    #[arg(long, conflicts_with_all = ["cases", "json"])]
    support: bool,
    /// With --support: as Markdown, without measuring anything.
    #[arg(long, requires = "support")]
    markdown: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<Outcome> {
    if args.support {
        return support_table(args.markdown);
    }
    let device = args.device.open()?;
    if !args.json {
        let info = device.info();
        println!("{} ({}): {}", info.name, info.driver, device.reason());
    }
    match &args.cases {
        Some(dir) => cases(dir, &device, args),
        None => kernels(&device, args),
    }
}

fn support_table(markdown: bool) -> Result<Outcome> {
    let mut devices = vec![Device::open("reference")?, Device::open("cpu")?];
    // The committed table is that of a software adapter, which every machine can have.
    let adapter =
        if markdown { Device::open("software") } else { Device::open("gpu").or_else(|_| Device::open("software")) };
    devices.push(adapter?);
    if markdown {
        let rows = support::table(&devices, false, |_| ())?;
        print!("{}", support::markdown(&rows, &support::COMMITTED));
        return Ok(Outcome::Good);
    }
    for device in &devices {
        println!("{} ({})", device.info().name, device.info().driver);
    }
    let rows = support::table(&devices, true, |row| println!("{}", support::line(row)))?;
    let failures: usize = rows.iter().flat_map(|r| &r.cells).map(|c| c.failures.len()).sum();
    println!("{} operations, {failures} failures", rows.len());
    Ok(if failures == 0 { Outcome::Good } else { Outcome::Failed })
}

fn cases(dir: &Path, device: &crate::backend::Device, args: &CheckArgs) -> Result<Outcome> {
    let filter = (!args.filter.is_empty()).then(|| args.filter.clone());
    let options = conformance::Options { no_fallback: args.no_fallback, filter };
    let summary = conformance::run(dir, device, &options)?;
    if args.json {
        let failures: Vec<_> = summary.failures.iter().map(|f| json!({ "file": f.file, "detail": f.detail })).collect();
        let table: Vec<_> = summary
            .table
            .iter()
            .map(|((kind, name), (passed, failed))| {
                json!({ "kind": kind, "name": name, "passed": passed, "failed": failed })
            })
            .collect();
        let device = device.info().name;
        print_json(&json!({
            "device": device, "passed": summary.passed, "failed": failures.len(), "failures": failures, "table": table,
        }));
    } else {
        for (file, time) in summary.slowest(args.slowest) {
            println!("{:>8.3} s  {file}", time.as_secs_f64());
        }
        println!("{summary}");
    }
    Ok(if summary.failures.is_empty() { Outcome::Good } else { Outcome::Failed })
}

fn kernels(device: &crate::backend::Device, args: &CheckArgs) -> Result<Outcome> {
    let fell_back = |r: &check::Report| args.no_fallback && r.notes.iter().any(|n| n.contains("runs on the CPU"));
    let reports = check::run(&args.filter, device, |report| {
        if args.json {
            return;
        }
        println!("{report}");
        if fell_back(report) {
            println!("FAIL  {}: a part of it ran on the CPU", report.case);
        }
    });
    if reports.is_empty() {
        return Err(Error::input(format!("filter {:?}", args.filter), "no case has this in its name"));
    }
    let summary = check::Summary::of(&reports);
    let fallbacks = reports.iter().filter(|r| fell_back(r)).count();
    if args.json {
        let row = |r: &check::Report| json!({ "case": r.case, "seed": r.seed, "good": r.verdict.is_good(), "text": r.to_string(), "notes": r.notes });
        print_json(&json!({
            "device": device.info().name, "run": summary.run, "failed": summary.failed, "expected": summary.expected,
            "fell_back": fallbacks, "cases": reports.iter().map(row).collect::<Vec<_>>(),
        }));
    } else {
        println!("{summary}");
    }
    Ok(if summary.failed == 0 && fallbacks == 0 { Outcome::Good } else { Outcome::Failed })
}
