//! `kiln train --find-batch-size`: how fast updates are with batches of several sizes, as a table with the suggestion.

use crate::backend::Device;
use crate::cli::{Outcome, print_json};
use crate::error::{Error, Result};
use crate::report::number::count;
use crate::report::runs::table;
use crate::train::RunConfig;
use crate::train::find_batch::{FindBatch, find_batch};
use crate::train::memory::available;
use serde_json::json;

/// Bytes that are assumed of an adapter that does not tell.
const ASSUMED: usize = 2 << 30;
const MIB: f64 = (1 << 20) as f64;

/// Measures the sizes for this configuration. `memory`: MiB that an update may take.
pub fn run(config: &RunConfig, device: &Device, memory: Option<usize>, json: bool) -> Result<Outcome> {
    let (memory, source) = match (memory, available(&device.info())) {
        (Some(0), _) => return Err(Error::input("--memory", "must be at least 1 MiB")),
        (Some(mib), _) => (mib.saturating_mul(1 << 20), "as --memory says"),
        (None, Some(bytes)) => (bytes / 2, "half of what the machine has left"),
        (None, None) => (ASSUMED, "assumed: the adapter does not tell; say it with --memory MIB"),
    };
    let options = FindBatch { first: 8, memory, seconds: 0.3, enough: 0.9 };
    let found = find_batch(config, device, &options)?;
    let suggestion = found.suggestion(options.enough);
    if json {
        let points: Vec<_> = found
            .points
            .iter()
            .map(
                |p| json!({ "batch": p.batch, "bytes": p.bytes, "seconds": p.seconds, "samples_per_second": p.rate() }),
            )
            .collect();
        let suggestion = suggestion.map(|i| found.points[i].batch);
        print_json(&json!({
            "preset": config.preset, "device": device.info().name, "memory": memory, "points": points,
            "end": found.end, "suggestion": suggestion, "largest": found.points.last().map(|p| p.batch),
        }));
        return Ok(Outcome::Good);
    }
    println!("{} on {}: {}", config.preset, device.info().name, device.reason());
    println!("memory: {:.0} MiB ({source})", memory as f64 / MIB);
    let mut rows = vec![["batch", "planned MiB", "ms per update", "samples/s", ""].map(String::from).to_vec()];
    for (i, p) in found.points.iter().enumerate() {
        rows.push(vec![
            p.batch.to_string(),
            format!("{:.1}", p.bytes as f64 / MIB),
            format!("{:.2}", 1e3 * p.seconds),
            count(p.rate() as u64),
            if suggestion == Some(i) { "<-- enough".into() } else { String::new() },
        ]);
    }
    print!("{}", table(&rows));
    println!("no further: {}", found.end);
    if let (Some(i), Some(largest)) = (suggestion, found.points.last()) {
        println!("suggestion: --batch {} (the smallest within a tenth of the highest rate)", found.points[i].batch);
        println!("the largest that was tried and fits: {}", largest.batch);
        println!("another batch size wants another learning rate: --find-lr");
    }
    Ok(Outcome::Good)
}
