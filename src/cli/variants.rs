//! `kiln bench --variants`: every variant of every kernel that the workloads run, beside the built-in pick.

use super::bench::BenchArgs;
use crate::backend::gpu::kernels::candidates::key;
use crate::backend::gpu::kernels::launches;
use crate::backend::{Device, Program};
use crate::bench::variants::{self, Variants};
use crate::bench::{self, Case, Effort};
use crate::cli::print_json;
use crate::error::{Error, Result};
use serde_json::json;
use std::collections::BTreeSet;

/// Why a device has no variants.
pub(super) fn no_variants(device: &Device) -> Error {
    let info = device.info();
    let detail =
        format!("{} has no variants of kernels; choose an adapter (--device gpu, software, or a name)", info.name);
    Error::input("--device", detail)
}

/// Measures and prints.
pub(super) fn run(args: &BenchArgs, device: &Device, chosen: &[Box<dyn Case>], effort: &Effort) -> Result<()> {
    let gpu = device.gpu().ok_or_else(|| no_variants(device))?;
    let info = device.info();
    if !args.json {
        println!("{} ({}): {}", info.name, info.driver, device.reason());
    }
    let (mut rows, mut worst): (Vec<serde_json::Value>, Option<(f64, String)>) = Default::default();
    let (mut seen, mut count, mut together) = (BTreeSet::new(), 0, 0);
    for case in chosen {
        let program: Program = bench::compile(case.as_ref(), device)?;
        let regions = variants::regions(&[&program], gpu).into_iter().filter(|r| seen.insert(key(r)));
        // Many small ones are launched as one, by a text of their own.
        let (small, large): (Vec<_>, Vec<_>) = regions.partition(|r| launches::small(r, gpu.gpu_caps()));
        together += small.len();
        let all = large
            .into_iter()
            .map(|r| variants::measure(gpu, r, effort))
            .chain(variants::whole(case.as_ref(), device, effort).transpose());
        for v in all {
            let v = v?;
            count += 1;
            if worst.as_ref().is_none_or(|(ratio, _)| v.ratio() > *ratio) {
                worst = Some((v.ratio(), format!("{}: {}", case.name(), v.what)));
            }
            if args.json {
                rows.push(json!({ "workload": case.name(), "built_in_over_best": v.ratio(), "variants": v }));
            } else {
                println!("\n{}: {}", case.name(), v.what);
                print(&v);
            }
        }
    }
    if args.json {
        print_json(&json!({
            "device": info.name, "driver": info.driver, "software": info.software, "kiln": env!("CARGO_PKG_VERSION"),
            "checked": effort.check, "samples": effort.samples, "regions": rows, "small_regions": together,
        }));
    } else if let Some((ratio, what)) = worst {
        println!("\n{count} regions; the built-in pick takes at most {ratio:.2} times the best ({what})");
        println!("{}", beside(together));
    } else {
        println!("these workloads have no kernel with several variants here; {}", beside(together));
    }
    Ok(())
}

/// What is said of regions that a chain takes along.
fn beside(n: usize) -> String {
    format!(
        "not among them: {n} small region{} that share launches and have no variants",
        if n == 1 { "" } else { "s" }
    )
}

/// The variants of one region, fastest first; of the splits of a product the best.
pub(super) fn print(v: &Variants) {
    let best = v.best().map_or(f64::NAN, |b| b.ms);
    for row in v.brief() {
        let mark = if row.built_in { "  <-- built-in" } else { "" };
        let wrong = row.wrong.as_ref().map(|e| format!("  WRONG: {e}")).unwrap_or_default();
        println!("    {:<16} {:>10.4} ms {:>7.2} x{mark}{wrong}", row.variant, row.ms, row.ms / best);
    }
}
