//! `kiln train --dry-run`: what a run would be, without training.

use crate::backend::Device;
use crate::cli::{Outcome, print_json};
use crate::error::Result;
use crate::report::number::count;
use crate::train::inspect::inspect;
use crate::train::memory::planned;
use crate::train::precision;
use crate::train::run::Run;
use crate::train::{RunConfig, RunOptions, Task};
use serde_json::{Value, json};

/// The table of layers and the planned memory.
pub(super) fn dry_run(config: &RunConfig, device: &Device, json: bool) -> Result<Outcome> {
    let task = Task::open(config)?;
    let table = inspect(config, &task)?;
    let run = Run::new(config.clone(), device, RunOptions { keep: false, ..RunOptions::default() })?;
    let batch = table.batch;
    let update = config.update_batch().min(task.train.indices.len());
    let programs = run.trainer().update_programs(update);
    let (memory, (products, narrow)) = (planned(&programs), precision::products(&programs));
    let parts = [("train", &task.train), ("validation", &task.validation), ("test", &task.test)];
    if json {
        let layers: Vec<Value> = table
            .layers
            .iter()
            .map(|l| {
                json!({ "path": l.path, "kind": l.kind, "output": l.output.to_string(), "parameters": l.parameters,
                        "flops": l.flops })
            })
            .collect();
        print_json(&json!({
            "preset": config.preset, "batch": batch, "layers": layers, "parameters": table.parameters,
            "flops": table.flops, "device": device.info().name, "memory": memory,
            "products": products, "products_in_f16": narrow,
            "examples": parts.map(|(_, p)| p.indices.len()),
        }));
        return Ok(Outcome::Good);
    }
    let sizes: Vec<String> =
        parts.iter().map(|(name, p)| format!("{name} {}", count(p.indices.len() as u64))).collect();
    println!("examples: {}", sizes.join(", "));
    for field in task.train.data.fields() {
        println!("  {}: {}{}", field.name, field.dtype, field.shape);
    }
    println!("\nlayers, for a batch of {batch}:");
    let mut rows = vec![["layer", "kind", "output", "parameters", "MFLOP forward"].map(str::to_string)];
    let mflop = |f: u64| format!("{:.3}", f as f64 / 1e6);
    for l in &table.layers {
        let row = [l.path.clone(), l.kind.clone(), l.output.to_string(), count(l.parameters as u64), mflop(l.flops)];
        rows.push(row);
    }
    let (parameters, flops) = (count(table.parameters as u64), mflop(table.flops));
    rows.push(["all".into(), String::new(), String::new(), parameters, flops]);
    let widths: Vec<usize> = (0..5).map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    for row in &rows {
        let [a, b, c, d, e] = row;
        let line = format!(
            "{a:<w0$}  {b:<w1$}  {c:<w2$}  {d:>w3$}  {e:>w4$}",
            w0 = widths[0],
            w1 = widths[1],
            w2 = widths[2],
            w3 = widths[3],
            w4 = widths[4]
        );
        println!("  {}", line.trim_end());
    }
    let info = device.info();
    println!("\nmemory of a training step on {} ({}):", info.name, info.driver);
    for (what, bytes) in &memory {
        println!("  {what:<22} {:>10.2} MiB", *bytes as f64 / (1 << 20) as f64);
    }
    if config.precision.is_half() {
        println!("{narrow} of {products} products and convolutions read f16");
    }
    Ok(Outcome::Good)
}
