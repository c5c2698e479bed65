//! Conformance cases of learning-rate schedules: host arithmetic only.

use crate::check::conformance::exec::Outcome;
use crate::check::conformance::file::{Case, unsupported};
use crate::error::Result;
use crate::optim::schedule::{Anneal, CyclicMode, Plateau, Schedule, Scheduler};
use crate::tensor::HostTensor;

/// Runs one case: `lr` (and `momentum`) for each number of steps.
pub fn run(case: &Case) -> Result<Outcome> {
    let schedule = build(case)?;
    // Where the optimizer has no momentum, a case asks for none; the attribute only says so.
    case.attrs.flag("cycle_momentum", true)?;
    // Counts only for a scale function of one's own, which a case cannot hold.
    case.attrs.same_result(&["scale_mode"]);
    if let Some(name) = case.attrs.unused().first() {
        return Err(unsupported(format!("attribute {name} of {}", case.name)));
    }
    let mut scheduler = Scheduler::new(case.number("lr")?, schedule);
    let steps = case.count("steps")?;
    let metric = match case.tensors.get("in.metric") {
        Some(t) => t.to_f64(),
        None => Vec::new(),
    };
    let (mut lr, mut momentum) = (Vec::new(), Vec::new());
    for t in 0..steps {
        if let Some(&m) = t.checked_sub(1).and_then(|i| metric.get(i)) {
            scheduler.observe(m);
        }
        lr.push(scheduler.lr(t as u64) as f32);
        momentum.extend(scheduler.schedule.momentum(t as u64).map(|m| m as f32));
    }
    let mut outcome = Outcome::default();
    outcome.results.insert("lr".into(), HostTensor::f32([steps], lr)?);
    if momentum.len() == steps {
        outcome.results.insert("momentum".into(), HostTensor::f32([steps], momentum)?);
    }
    Ok(outcome)
}

fn build(case: &Case) -> Result<Schedule> {
    let a = &case.attrs;
    let count = |name: &str, default: u64| a.count(name, default as usize).map(|n| n as u64);
    let required = |name: &str| match a.get(name) {
        Some(_) => Ok(()),
        None => Err(unsupported(format!("{} without {name}", case.name))),
    };
    let needs = |names: &[&str]| names.iter().try_for_each(|n| required(n));
    Ok(match case.name.as_str() {
        "StepLR" => {
            needs(&["step_size"])?;
            Schedule::Step { step_size: count("step_size", 1)?, gamma: a.float("gamma", 0.1)? }
        }
        "MultiStepLR" => {
            needs(&["milestones"])?;
            let list = a.opt_ints("milestones")?.unwrap_or_default();
            let milestones = list.iter().map(|&m| m.max(0) as u64).collect();
            Schedule::MultiStep { milestones, gamma: a.float("gamma", 0.1)? }
        }
        "ExponentialLR" => {
            needs(&["gamma"])?;
            Schedule::Exponential { gamma: a.float("gamma", 1.0)? }
        }
        "ConstantLR" => {
            Schedule::ConstantFactor { factor: a.float("factor", 1.0 / 3.0)?, total_iters: count("total_iters", 5)? }
        }
        "LinearLR" => Schedule::Linear {
            start_factor: a.float("start_factor", 1.0 / 3.0)?,
            end_factor: a.float("end_factor", 1.0)?,
            total_iters: count("total_iters", 5)?,
        },
        "PolynomialLR" => Schedule::Polynomial { total_iters: count("total_iters", 5)?, power: a.float("power", 1.0)? },
        "CosineAnnealingLR" => {
            needs(&["T_max"])?;
            Schedule::Cosine { t_max: count("T_max", 1)?, eta_min: a.float("eta_min", 0.0)? }
        }
        "CosineAnnealingWarmRestarts" => {
            needs(&["T_0"])?;
            let (t_0, t_mult) = (count("T_0", 1)?, count("T_mult", 1)?);
            Schedule::CosineRestarts { t_0, t_mult, eta_min: a.float("eta_min", 0.0)? }
        }
        "OneCycleLR" => {
            needs(&["max_lr"])?;
            // torch takes the number of steps, or that of epochs and of steps in each.
            let total_steps = match a.has("total_steps") {
                true => count("total_steps", 0)?,
                false => count("epochs", 0)? * count("steps_per_epoch", 0)?,
            };
            if total_steps == 0 {
                return Err(unsupported("OneCycleLR without total_steps"));
            }
            let anneal = match a.word("anneal_strategy", "cos")?.as_str() {
                "cos" => Anneal::Cos,
                "linear" => Anneal::Linear,
                other => return Err(unsupported(format!("anneal_strategy {other:?}"))),
            };
            Schedule::OneCycle {
                max_lr: a.float("max_lr", 0.0)?,
                total_steps,
                pct_start: a.float("pct_start", 0.3)?,
                anneal,
                div_factor: a.float("div_factor", 25.0)?,
                final_div_factor: a.float("final_div_factor", 1e4)?,
                three_phase: a.flag("three_phase", false)?,
                momentum: Some((a.float("base_momentum", 0.85)?, a.float("max_momentum", 0.95)?)),
            }
        }
        "CyclicLR" => {
            needs(&["base_lr", "max_lr"])?;
            let mode = match a.word("mode", "triangular")?.as_str() {
                "triangular" => CyclicMode::Triangular,
                "triangular2" => CyclicMode::Triangular2,
                "exp_range" => CyclicMode::ExpRange,
                other => return Err(unsupported(format!("mode {other:?}"))),
            };
            let step_size_up = count("step_size_up", 2000)?;
            Schedule::Cyclic {
                base_lr: a.float("base_lr", 0.0)?,
                max_lr: a.float("max_lr", 0.0)?,
                step_size_up,
                step_size_down: Some(count("step_size_down", step_size_up)?),
                mode,
                gamma: a.float("gamma", 1.0)?,
                momentum: Some((a.float("base_momentum", 0.8)?, a.float("max_momentum", 0.9)?)),
            }
        }
        "noam" => {
            needs(&["d_model", "warmup"])?;
            Schedule::Noam { d_model: count("d_model", 1)?, warmup: count("warmup", 1)? }
        }
        "warmup_cosine" => {
            needs(&["warmup", "total"])?;
            let (warmup, total) = (count("warmup", 0)?, count("total", 1)?);
            Schedule::WarmupCosine { warmup, total, min_lr: a.float("min_lr", 0.0)? }
        }
        "ReduceLROnPlateau" => {
            let word = |name: &str, default: &str, other: &str| match a.word(name, default)? {
                w if w == default => Ok(false),
                w if w == other => Ok(true),
                w => Err(unsupported(format!("{name} {w:?}"))),
            };
            Schedule::Plateau(Plateau {
                maximize: word("mode", "min", "max")?,
                factor: a.float("factor", 0.1)?,
                patience: count("patience", 10)?,
                threshold: a.float("threshold", 1e-4)?,
                absolute: word("threshold_mode", "rel", "abs")?,
                cooldown: count("cooldown", 0)?,
                min_lr: match a.get("min_lr").is_some_and(|v| v.is_array()) {
                    // One per group of parameters, of which a case has one.
                    true => a.floats("min_lr", &[])?.first().copied().unwrap_or(0.0),
                    false => a.float("min_lr", 0.0)?,
                },
                eps: a.float("eps", 1e-8)?,
            })
        }
        name => return Err(unsupported(format!("schedule {name}"))),
    })
}
