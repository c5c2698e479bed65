//! Conformance cases of optimizers: a few steps with given gradients.

use crate::backend::Device;
use crate::check::conformance::exec::{Outcome, Session};
use crate::check::conformance::file::{Case, unsupported};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::Builder;
use crate::nn::{Init, Mode, Params};
use crate::optim::{
    AdaBound, Adadelta, Adagrad, Adam, AdamW, Adamax, Lamb, Lars, Lion, Lookahead, Maximize, NAdam, Ngd, Optimizer,
    RAdam, RmsProp, RmsPropGlobal, Rprop, Sgd, StepFeed, Swats, apply,
};
use std::collections::BTreeMap;

/// Runs one case: a [`Session`] with `param.k` as state and `grad.<step>.k` as feeds.
pub fn run(case: &Case, device: &Device) -> Result<Outcome> {
    let optimizer = build(case)?;
    case.attrs.same_result(&["foreach", "fused", "capturable", "differentiable"]);
    let lr = lr(case)?;
    if let Some(name) = case.attrs.unused().first() {
        return Err(unsupported(format!("attribute {name} of {}", case.name)));
    }
    let count = (0..).take_while(|k| case.tensors.contains_key(&format!("param.{k}"))).count();
    let builder = Builder::new();
    let feed = StepFeed::declare(&builder);
    let (params, mut grads, mut states) = (Params::new(&builder, Mode::Train), Vec::new(), BTreeMap::new());
    for k in 0..count {
        let host = case.tensor(&format!("param.{k}"))?;
        params.scope().param(&k.to_string(), &host.shape, Init::ZEROS);
        grads.push(builder.feed(format!("grad.{k}"), DType::F32, &host.shape));
        states.insert(k.to_string(), host.clone());
    }
    let applied = apply(&params, &*optimizer, &grads, &feed, None);
    states.extend(crate::nn::scope::init(&applied.states, 0)?);
    let mut session = Session::new(device, builder.build()?, states)?;
    let mut outcome = Outcome::default();
    for step in 0..case.count("steps")? {
        let mut feeds: BTreeMap<String, _> =
            StepFeed::values(0, step as u32, 0, lr)?.into_iter().map(|(n, t)| (n.to_string(), t)).collect();
        for k in 0..count {
            feeds.insert(format!("grad.{k}"), case.tensor(&format!("grad.{step}.{k}"))?.clone());
        }
        session.run(&feeds)?;
        for k in 0..count {
            outcome.results.insert(format!("out.{step}.{k}"), session.state(&k.to_string())?);
        }
    }
    outcome.fallbacks = session.fallbacks();
    Ok(outcome)
}

/// The learning rate, with torch's defaults.
fn lr(case: &Case) -> Result<f64> {
    let default = match case.name.as_str() {
        "Adam" | "AdamW" | "RAdam" | "SGD" => 1e-3,
        "Adamax" | "NAdam" => 2e-3,
        "Adagrad" | "RMSprop" | "Rprop" => 1e-2,
        "Adadelta" => 1.0,
        _ => f64::NAN,
    };
    match case.attrs.float("lr", default)? {
        lr if lr.is_nan() => Err(unsupported(format!("{} without lr", case.name))),
        lr => Ok(lr),
    }
}

fn build(case: &Case) -> Result<Box<dyn Optimizer>> {
    let a = &case.attrs;
    let pair = |name: &str, default: (f64, f64)| match a.floats(name, &[default.0, default.1])?[..] {
        [x, y] => Ok((x, y)),
        _ => Err(Error::input(&case.file, format!("{name} is no pair"))),
    };
    let betas = || pair("betas", (0.9, 0.999));
    let eps = |default: f64| a.float("eps", default);
    let wd = || a.float("weight_decay", 0.0);
    let decoupled = || a.flag("decoupled_weight_decay", false);
    let rule: Box<dyn Optimizer> = match case.name.as_str() {
        "SGD" => Box::new(Sgd {
            momentum: a.float("momentum", 0.0)?,
            dampening: a.float("dampening", 0.0)?,
            weight_decay: wd()?,
            nesterov: a.flag("nesterov", false)?,
            ..Sgd::new()
        }),
        "Adam" => {
            let (weight_decay, decoupled_weight_decay, amsgrad) = (wd()?, decoupled()?, a.flag("amsgrad", false)?);
            Box::new(Adam { betas: betas()?, eps: eps(1e-8)?, weight_decay, decoupled_weight_decay, amsgrad })
        }
        "AdamW" => Box::new(AdamW {
            betas: betas()?,
            eps: eps(1e-8)?,
            weight_decay: a.float("weight_decay", 0.01)?,
            amsgrad: a.flag("amsgrad", false)?,
        }),
        "Adamax" => Box::new(Adamax { betas: betas()?, eps: eps(1e-8)?, weight_decay: wd()? }),
        "NAdam" => Box::new(NAdam {
            betas: betas()?,
            eps: eps(1e-8)?,
            weight_decay: wd()?,
            decoupled_weight_decay: decoupled()?,
            momentum_decay: a.float("momentum_decay", 0.004)?,
        }),
        "RAdam" => Box::new(RAdam {
            betas: betas()?,
            eps: eps(1e-8)?,
            weight_decay: wd()?,
            decoupled_weight_decay: decoupled()?,
        }),
        "Adagrad" => Box::new(Adagrad {
            lr_decay: a.float("lr_decay", 0.0)?,
            initial_accumulator_value: a.float("initial_accumulator_value", 0.0)?,
            eps: eps(1e-10)?,
            weight_decay: wd()?,
        }),
        "Adadelta" => Box::new(Adadelta { rho: a.float("rho", 0.9)?, eps: eps(1e-6)?, weight_decay: wd()? }),
        "RMSprop" => Box::new(RmsProp {
            alpha: a.float("alpha", 0.99)?,
            eps: eps(1e-8)?,
            momentum: a.float("momentum", 0.0)?,
            centered: a.flag("centered", false)?,
            weight_decay: wd()?,
        }),
        "Rprop" => Box::new(Rprop {
            lr: lr(case)?,
            etas: pair("etas", (0.5, 1.2))?,
            step_sizes: pair("step_sizes", (1e-6, 50.0))?,
        }),
        "NGD" => Box::new(Ngd { eps: eps(1e-8)? }),
        "RMSprop_global" => Box::new(RmsPropGlobal { alpha: a.float("alpha", 0.99)?, eps: eps(1e-8)? }),
        "Lookahead" => Box::new(Lookahead {
            inner: Box::new(Sgd::new().momentum(a.float("momentum", 0.0)?)),
            k: a.count("k", 5)? as u64,
            alpha: a.float("alpha", 0.5)?,
        }),
        "LARS" => Box::new(Lars {
            momentum: a.float("momentum", 0.9)?,
            weight_decay: wd()?,
            trust_coefficient: a.float("trust_coefficient", 0.001)?,
            eps: eps(1e-8)?,
        }),
        "LAMB" => Box::new(Lamb { betas: betas()?, eps: eps(1e-6)?, weight_decay: wd()? }),
        "AdaBound" => Box::new(AdaBound {
            final_lr: a.float("final_lr", 0.1)?,
            betas: betas()?,
            gamma: a.float("gamma", 1e-3)?,
            eps: eps(1e-8)?,
            weight_decay: wd()?,
        }),
        "SWATS" => Box::new(Swats { betas: betas()?, eps: eps(1e-8)?, tolerance: a.float("tolerance", 1e-9)? }),
        "Lion" => Box::new(Lion { betas: pair("betas", (0.9, 0.99))?, weight_decay: wd()? }),
        name => return Err(unsupported(format!("optimizer {name}"))),
    };
    Ok(if a.flag("maximize", false)? { Box::new(Maximize(rule)) } else { rule })
}
