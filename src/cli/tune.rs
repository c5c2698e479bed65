//! `kiln tune`: measures the variants of each kernel for the programs of presets and run files, and keeps the fastest.

use crate::backend::gpu::GpuCaps;
use crate::backend::gpu::kernels::candidates::key;
use crate::backend::gpu::kernels::launches;
use crate::backend::gpu::tuning::{self, Entry, Tuning};
use crate::backend::{Device, Program};
use crate::bench::Effort;
use crate::bench::variants::{self, Variants};
use crate::cli::variants::{no_variants, print};
use crate::cli::{DeviceArg, Outcome, print_json};
use crate::error::{Error, Result};
use crate::plan::Region;
use crate::train::config::{Draft, PRESETS};
use crate::train::{RunConfig, Task};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// Measure which kernel variants are the fastest for a model on this adapter, and keep them for later runs.
///
/// Every product, convolution, reduction, norm, ... of the model's training and evaluation is computed by each variant that fits
/// it, compared with the reference, and timed. Where one beats the built-in pick, the tuning file of this adapter says so from
/// then on; train, eval, predict and bench read it. `KILN_TUNING` moves the files, or switches them off.
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    /// Part of the presets' names, or a TOML file of a run; all presets whose data are there if not given.
    #[arg(default_value = "", value_name = "PRESET|FILE.toml")]
    filter: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Samples of each of the best few variants; the median decides.
    #[arg(long, default_value_t = 7)]
    samples: usize,
    /// Print every variant that was measured.
    #[arg(long)]
    all: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &TuneArgs) -> Result<Outcome> {
    // Without the picks so far: they are measured again.
    let device = Device::open(&args.device.device)?;
    let info = device.info();
    let gpu = device.gpu().ok_or_else(|| no_variants(&device))?;
    let path = tuning::path(&info).ok_or_else(|| {
        let detail = "there is no folder for tuning files (KILN_TUNING=0, or no home); set KILN_TUNING to one";
        Error::input("tune", detail)
    })?;
    let mut file = match Tuning::read(&path, &info) {
        Ok(file) => file.unwrap_or_else(|| Tuning::new(&info)),
        Err(why) => {
            eprintln!("the tuning file {} {why}; a new one replaces it", path.display());
            Tuning::new(&info)
        }
    };
    let effort = Effort { samples: args.samples, sample_time: Duration::ZERO, check: true };
    let say = |text: String| if args.json { eprintln!("{text}") } else { println!("{text}") };
    say(format!("{} ({}): {}", info.name, info.driver, device.reason()));
    let (mut seen, mut results) = (BTreeSet::new(), Vec::new());
    for (name, config, must) in configs(&args.filter)? {
        let task = match Task::open(&config) {
            Ok(task) => task,
            Err(e) if !must => {
                say(format!("{name}: left out: {e}"));
                continue;
            }
            Err(e) => return Err(e),
        };
        let mut trainer = task.trainer(&config, &device)?;
        let programs: Vec<&Program> = trainer.prepare_all(&task.train.data.fields(), config.batch)?;
        let large = large(variants::regions(&programs, gpu), gpu.gpu_caps(), &mut file);
        say(format!("{name}: {} regions with several variants", large.len()));
        for region in large {
            let v = variants::measure(gpu, region, &effort)?;
            if !seen.insert(v.region.clone()) {
                continue;
            }
            let picked = decide(&mut file, &v);
            if args.all {
                say(format!("  {}", v.what));
                if !args.json {
                    print(&v);
                }
            } else if let Some(text) = &picked {
                say(format!("  {text}  {}", v.what));
            }
            results.push(json!({ "run": name, "picked": picked.is_some(), "variants": v }));
            // What was measured stays, whatever happens to the rest.
            file.write(&path)?;
        }
    }
    let picks = results.iter().filter(|r| r["picked"] == true).count();
    say(format!(
        "{} regions measured; {picks} have a faster variant than the built-in one, of {} in the file",
        results.len(),
        file.entries.len()
    ));
    say(format!("picks: {}", path.display()));
    if args.json {
        print_json(&json!({ "device": info.name, "driver": info.driver, "file": path, "regions": results }));
    }
    Ok(Outcome::Good)
}

/// The regions that no chain can take along. The others are launched together and have no variants; an older pick, which would keep one out, is
/// forgotten.
fn large<'a>(regions: Vec<&'a Region>, caps: &GpuCaps, file: &mut Tuning) -> Vec<&'a Region> {
    let (small, large): (Vec<_>, Vec<_>) = regions.into_iter().partition(|r| launches::small(r, caps));
    small.into_iter().for_each(|r| file.remove(&key(r)));
    large
}

/// Puts the best variant into the file if it is worth it, or takes an earlier pick out.
fn decide(file: &mut Tuning, v: &Variants) -> Option<String> {
    let (Some(best), Some(own)) = (v.pick(), v.built_in()) else {
        file.remove(&v.region);
        return None;
    };
    file.put(Entry {
        what: v.what.clone(),
        region: v.region.clone(),
        variant: best.variant.clone(),
        texts: best.texts.clone(),
        ms: best.ms,
        built_in_ms: own.ms,
    });
    let (variant, built_in) = (&best.variant, &own.variant);
    Some(format!("{:.4} -> {:.4} ms  {variant} instead of {built_in} ", own.ms, best.ms))
}

/// Names and configurations of what the filter means, and whether each must work.
fn configs(filter: &str) -> Result<Vec<(String, RunConfig, bool)>> {
    if filter.ends_with(".toml") {
        return Ok(vec![(filter.to_string(), Draft::open(filter)?.finish()?, true)]);
    }
    let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).filter(|name| name.contains(filter)).collect();
    if names.is_empty() {
        let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        let detail = format!("is in no preset's name ({}) and is no TOML file", known.join(", "));
        return Err(Error::input(format!("{filter:?}"), detail));
    }
    let config = |name: &&str| Ok((name.to_string(), Draft::open(name)?.finish()?, *name == filter));
    names.iter().map(config).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::AdapterClass;
    use crate::backend::gpu::kernels::samples;

    #[test]
    fn an_older_pick_of_a_small_region_is_forgotten() {
        let caps = GpuCaps { max_storage_buffers: 31, ..GpuCaps::sample(AdapterClass::Software, Some((8, 8))) };
        let (small, big) = (samples::negated(16, 0, 1), samples::negated(1 << 20, 0, 1));
        let mut file = Tuning::new(&crate::backend::Device::open("cpu").expect("the CPU path").info());
        for region in [&small, &big] {
            let (what, variant, texts) = (String::new(), "scalar".to_string(), String::new());
            file.put(Entry { what, region: key(region), variant, texts, ms: 1.0, built_in_ms: 2.0 });
        }
        let kept: Vec<String> = large(vec![&small, &big], &caps, &mut file).into_iter().map(key).collect();
        assert_eq!(kept, [key(&big)]);
        let left: Vec<&String> = file.entries.iter().map(|e| &e.region).collect();
        assert_eq!(left, [&key(&big)]);
    }
}
