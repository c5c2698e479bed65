//! Ranges of the numbers in optimizers, schedules, groups and layers, by their keys: the same key means the same everywhere.

use super::named::NamedLayer;
use super::{RunConfig, Wrong};
use serde::Serialize;
use std::result::Result;
use toml::{Table, Value};

/// What a number must be.
#[derive(Clone, Copy)]
enum Range {
    /// From 0 up to 1, 1 left out.
    Share,
    /// From 0 to 1.
    Part,
    /// 0 or more.
    NotNegative,
    /// More than 0.
    Positive,
}

impl Range {
    /// What is wrong with a value, or with one in a list; whatever is not a number is right.
    fn wrong(self, value: &Value) -> Option<String> {
        let x = match value {
            Value::Array(values) => return values.iter().find_map(|v| self.wrong(v)),
            Value::Float(x) => *x,
            Value::Integer(n) => *n as f64,
            _ => return None,
        };
        let (right, what) = match self {
            Range::Share => ((0.0..1.0).contains(&x), "from 0 up to (not including) 1"),
            Range::Part => ((0.0..=1.0).contains(&x), "from 0 to 1"),
            Range::NotNegative => (x >= 0.0 && x.is_finite(), "0 or positive"),
            Range::Positive => (x > 0.0 && x.is_finite(), "more than 0"),
        };
        (!right).then(|| format!("{x} must be {what}"))
    }
}

const OPTIMIZER: &[(&str, Range)] = &[
    ("optimizer.betas", Range::Share),
    ("optimizer.momentum", Range::Part),
    ("optimizer.dampening", Range::Part),
    ("optimizer.alpha", Range::Share),
    ("optimizer.rho", Range::Share),
    ("optimizer.eps", Range::NotNegative),
    ("optimizer.weight_decay", Range::NotNegative),
    ("optimizer.lr_decay", Range::NotNegative),
    ("optimizer.initial_accumulator_value", Range::NotNegative),
    ("optimizer.momentum_decay", Range::NotNegative),
    ("optimizer.trust_coefficient", Range::Positive),
    ("optimizer.final_lr", Range::Positive),
    ("optimizer.gamma", Range::NotNegative),
    ("optimizer.tolerance", Range::NotNegative),
];

const SCHEDULE: &[(&str, Range)] = &[
    ("schedule.every", Range::Positive),
    ("schedule.at", Range::NotNegative),
    ("schedule.gamma", Range::Positive),
    ("schedule.start", Range::NotNegative),
    ("schedule.end", Range::NotNegative),
    ("schedule.power", Range::NotNegative),
    ("schedule.min", Range::Part),
    ("schedule.low", Range::Part),
    ("schedule.rise", Range::Part),
    ("schedule.momentum", Range::Part),
    ("schedule.stretch", Range::Positive),
    ("schedule.d_model", Range::Positive),
    ("schedule.factor", Range::Share),
    ("schedule.threshold", Range::NotNegative),
];

const GROUP: &[(&str, Range)] = &[("groups.lr_scale", Range::NotNegative), ("groups.weight_decay", Range::NotNegative)];

const LAYER: &[(&str, Range)] = &[
    ("out", Range::Positive),
    ("kernel", Range::Positive),
    ("stride", Range::Positive),
    ("dilation", Range::Positive),
    ("groups", Range::Positive),
    ("dim", Range::Positive),
    ("num", Range::Positive),
    ("hidden", Range::Positive),
    ("layers", Range::Positive),
    ("heads", Range::Positive),
    ("size", Range::Positive),
    ("eps", Range::NotNegative),
    ("momentum", Range::Part),
    ("dropout", Range::Share),
    ("p", Range::Part),
];

/// The first of these keys whose value is out of its range. Keys may have the name of their section in front.
fn first(section: &impl Serialize, ranges: &[(&'static str, Range)]) -> Result<(), Wrong> {
    let Ok(table) = Table::try_from(section) else { return Ok(()) };
    for (key, range) in ranges {
        let name = key.rsplit('.').next().unwrap_or(key);
        if let Some(wrong) = table.get(name).and_then(|v| range.wrong(v)) {
            return Err((key, wrong));
        }
    }
    Ok(())
}

/// Ranges and names in a list of layers.
pub(super) fn layers(list: &[NamedLayer]) -> Result<(), Wrong> {
    NamedLayer::check(list).map_err(|detail| ("model.layers", detail))?;
    for (i, layer) in list.iter().enumerate() {
        first(&layer.layer, LAYER)
            .map_err(|(key, wrong)| ("model.layers", format!("layer {i} ({}): {key} = {wrong}", layer.kind())))?;
        if let super::LayerConfig::Residual { layers: branch, shortcut } = &layer.layer {
            layers(branch)?;
            layers(shortcut)?;
        }
    }
    Ok(())
}

impl RunConfig {
    /// Ranges of the optimizer, the schedule and the groups.
    pub(super) fn check_rules(&self) -> Result<(), Wrong> {
        first(&self.optimizer, OPTIMIZER)?;
        first(&self.schedule, SCHEDULE)?;
        if let super::ScheduleConfig::Cosine { warmup, .. } = self.schedule
            && let Some(wrong) = Range::Share.wrong(&Value::Float(warmup))
        {
            return Err(("schedule.warmup", wrong));
        }
        for group in &self.groups {
            if group.pattern.is_empty() {
                return Err(("groups.pattern", "is missing: which parameters, such as \"*.bias\"".into()));
            }
            first(group, GROUP)?;
        }
        Ok(())
    }
}
