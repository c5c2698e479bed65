//! Configurations as commented TOML: what a run's folder holds and what `--print-config` writes. The comments are the
//! documentation of the fields, so that there is one text for both.

use super::draft::TRAIN;
use super::section::{Documented, Keys};
use super::{
    AugmentConfig, DataConfig, EarlyStoppingConfig, GroupConfig, LookaheadConfig, OptimizerConfig,
    RegularizationConfig, RunConfig, model,
};
use crate::error::{Error, Result};
use std::fmt::Write;
use toml::{Table, Value};

const TRAIN_KEYS: Keys = &[
    ("seed", "Where everything random follows from."),
    ("epochs", "Passes over the training part."),
    ("batch", "Examples that are computed at once; with accumulate = 1, examples per update."),
    ("accumulate", "Batches whose gradients make one update: that of a batch so many times as large."),
    ("warmup", "Updates in which the learning rate rises in a straight line before the schedule begins."),
    ("warmup_start", "Where it rises from, as a share of the schedule's first rate."),
    ("clip_norm", "Largest norm of all gradients together; 0 for no limit."),
    ("clip_value", "Largest size of each element of a gradient; 0 for no limit."),
    ("precision", "\"f32\", or \"f16\": operands and kept activations in f16, sums and weights in f32, a loss scale."),
    ("shuffle", "Whether each epoch visits the examples in an order of its own."),
    ("drop_last", "Whether the examples of an epoch that do not fill a batch are left out."),
    ("workers", "Threads that prepare batches in the background; 0: none."),
    ("critical_every", "Epochs between two examinations of the loss surface (gradient, Hessian, verdict); 0: none."),
    ("init", "A safetensors file that the weights start from; empty: drawn from the seed."),
    ("fold", "Fold k of n of a cross-validation: its validation part is that fold."),
];

const LOSS_KEYS: &[(&str, Keys)] = &[
    (
        "cross_entropy",
        &[
            ("label_smoothing", "Part of the target's weight that is spread over all classes."),
            ("class_weights", "\"none\", \"balanced\" (rare classes count more), or a list of weights."),
        ],
    ),
    ("mse", &[]),
    ("l1", &[]),
    ("smooth_l1", &[("beta", "Where square and line meet.")]),
    ("huber", &[("delta", "Where square and line meet.")]),
    ("bce_with_logits", &[("pos_weight", "Weight of the targets 1.")]),
    ("hinge", &[("margin", "How far the right class must be ahead."), ("squared", "Squares the distance.")]),
];

const SCHEDULE_KEYS: &[(&str, Keys)] = &[
    ("constant", &[]),
    ("step", &[("every", "Epochs between two cuts."), ("gamma", "Factor of a cut.")]),
    ("multi_step", &[("at", "Epochs after which the rate is cut."), ("gamma", "Factor of a cut.")]),
    ("exponential", &[("gamma", "Factor of an epoch.")]),
    ("linear", &[("start", "Factor at the start."), ("end", "Factor at the end.")]),
    ("polynomial", &[("power", "The rate is (1 - share of the run)^power.")]),
    ("cosine", &[("warmup", "Share of the updates that rises."), ("min", "Lowest rate as a share of the highest.")]),
    (
        "cosine_restarts",
        &[
            ("every", "Epochs of the first period."),
            ("stretch", "Factor from one period to the next."),
            ("min", "Lowest rate as a share of the highest."),
        ],
    ),
    (
        "one_cycle",
        &[
            ("rise", "Share of the updates that goes up."),
            ("momentum", "Lowest and highest momentum, which goes the other way: [0.85, 0.95]; without it it stays."),
        ],
    ),
    (
        "cyclic",
        &[
            ("low", "Lowest rate as a share of the highest."),
            ("every", "Epochs of the way up, and as many down."),
            ("momentum", "Lowest and highest momentum, which goes the other way: [0.8, 0.9]; without it it stays."),
        ],
    ),
    ("noam", &[("d_model", "Width of the model."), ("warmup", "Updates until the highest rate.")]),
    (
        "plateau",
        &[
            ("factor", "Factor of a cut."),
            ("patience", "Epochs without improvement that are put up with."),
            ("threshold", "How much better, as a share, counts as better."),
            ("cooldown", "Epochs after a cut during which nothing counts."),
            ("min", "Lowest rate as a share of the highest."),
        ],
    ),
];

/// A section of a configuration.
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Its kinds with their keys; one nameless kind where there is no choice.
    pub kinds: Vec<(&'static str, Keys)>,
}

/// Every section, in the order in which they are written.
pub fn sections() -> Vec<Section> {
    let model = vec![
        ("mlp", model::Mlp::KEYS),
        ("cnn", model::Cnn::KEYS),
        ("gpt", model::Gpt::KEYS),
        ("encoder_decoder", model::EncoderDecoder::KEYS),
        ("layers", model::Layers::KEYS),
    ];
    let one = |keys: Keys| vec![("", keys)];
    let section = |(name, title, kinds)| Section { name, title, kinds };
    [
        ("train", "The run.", one(TRAIN_KEYS)),
        ("data", "Where the examples come from.", DataConfig::kinds()),
        ("augment", "Random changes of training examples.", one(AugmentConfig::KEYS)),
        ("model", "The network.", model),
        ("loss", "What is minimised.", LOSS_KEYS.to_vec()),
        ("optimizer", "The rule of the updates.", OptimizerConfig::kinds()),
        ("lookahead", "Slow weights behind the trained ones.", one(LookaheadConfig::KEYS)),
        ("schedule", "The learning rate over the run.", SCHEDULE_KEYS.to_vec()),
        ("regularization", "What keeps weights small or smooth.", one(RegularizationConfig::KEYS)),
        ("early_stopping", "Ends a run that does not get better.", one(EarlyStoppingConfig::KEYS)),
        ("groups", "Parameters with settings of their own; write [[groups]] for each.", one(GroupConfig::KEYS)),
    ]
    .into_iter()
    .map(section)
    .collect()
}

/// The layers of the model kind `layers`, with their keys and defaults.
pub const LAYERS: &str = "\
linear { out = classes of the data, bias = true }
conv { out, kernel = 3, stride = 1, padding = 0, dilation = 1, groups = 1, bias = true }
conv1d (the same, over time)
batch_norm { eps = 1e-5, momentum = 0.1 }   layer_norm, rms_norm, instance_norm { eps = 1e-5 }   group_norm { groups }
relu   gelu   tanh   sigmoid   silu   elu   leaky_relu { slope = 0.01 }   hard_sigmoid   softplus
max_pool { kernel = 2, stride = kernel, padding = 0 }   avg_pool (the same)   adaptive_avg_pool { out = 1 }
flatten { start = 1 }   dropout { p = 0.5 }
residual { layers = [..], shortcut = [] }
embedding { dim, num = tokens of the data }   positions { learned = false }
rnn, lstm, gru { hidden, layers = 1, bidirectional = false, dropout = 0 }
transformer_encoder { heads, feedforward = 4 x width, layers = 1, dropout = 0.1, norm_first = false, activation = \"relu\", causal = false, norm = false }
conformer { heads, feedforward = 4 x width, layers = 1, kernel = 15, dropout = 0.1, group_norm = false }
graph_attention { out = classes of the data, heads = 1, concat = true, dropout = 0 }
patches { size, dim, class_token = false }
first   last   mean   max   (of a sequence, without what pads it)
Every layer may have a name = \"lstm\", with which its parameters' names begin instead of with its place: lstm.weight_ih_l0";

impl RunConfig {
    /// This configuration as TOML, each key with its meaning above it.
    pub fn to_toml(&self) -> Result<String> {
        let mut all = Table::try_from(self).map_err(|e| Error::internal("config", e.to_string()))?;
        let train: Table = TRAIN.iter().filter_map(|k| all.remove(*k).map(|v| (k.to_string(), v))).collect();
        let mut out = String::new();
        if let Some(preset) = all.remove("preset") {
            let _ = writeln!(out, "# The preset that this started from; it names the run's folder.\npreset = {preset}");
        }
        all.insert("train".into(), Value::Table(train));
        for Section { name, title, kinds } in sections() {
            match all.remove(name) {
                Some(Value::Table(section)) => write_section(&mut out, name, title, &kinds, section),
                Some(Value::Array(groups)) => {
                    for group in groups {
                        let _ = writeln!(out, "\n[[{name}]]");
                        let keys = GroupConfig::KEYS.iter().filter_map(|(k, _)| group.get(*k).map(|v| (k, v)));
                        keys.for_each(|(k, v)| {
                            let _ = writeln!(out, "{k} = {v}");
                        });
                    }
                }
                _ => {}
            }
        }
        match all.keys().next() {
            Some(key) => Err(Error::internal("config", format!("no section for the key {key}"))),
            None => Ok(out),
        }
    }
}

fn write_section(out: &mut String, name: &str, title: &str, kinds: &[(&str, Keys)], section: Table) {
    let _ = writeln!(out, "\n# {title}\n[{name}]");
    let kind = section.get("kind").and_then(Value::as_str).unwrap_or("").to_string();
    if !kind.is_empty() {
        let names: Vec<&str> = kinds.iter().map(|(k, _)| *k).collect();
        let _ = writeln!(out, "# One of {}.\nkind = \"{kind}\"", names.join(", "));
    }
    let keys = kinds.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, keys)| keys);
    // In the order of the documentation, not of the table, which sorts by name.
    for (key, meaning) in keys {
        let Some(value) = section.get(*key) else { continue };
        let _ = writeln!(out, "# {}", meaning.trim());
        match value {
            Value::Array(items) if items.iter().any(Value::is_table) => {
                let _ = writeln!(out, "{key} = [");
                items.iter().for_each(|item| {
                    let _ = writeln!(out, "  {},", inline(item));
                });
                let _ = writeln!(out, "]");
            }
            value => {
                let _ = writeln!(out, "{key} = {}", inline(value));
            }
        }
    }
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Table(t) => {
            // What it is comes first.
            let (kind, rest): (Vec<_>, Vec<_>) = t.iter().partition(|(k, _)| *k == "kind");
            let pairs: Vec<String> =
                kind.into_iter().chain(rest).map(|(k, v)| format!("{k} = {}", inline(v))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(a) => format!("[{}]", a.iter().map(inline).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Everything that a configuration may say, as comments: sections, kinds, keys, and the layers.
pub fn reference() -> String {
    let mut out = String::from("# Everything that a configuration may say.\n");
    for Section { name, title, kinds } in sections() {
        let _ = writeln!(out, "#\n# [{name}] {title}");
        for (kind, keys) in kinds {
            if !kind.is_empty() {
                let _ = writeln!(out, "#   kind = \"{kind}\"");
            }
            for (key, meaning) in keys {
                let _ = writeln!(out, "#     {key}: {}", meaning.trim());
            }
        }
    }
    let _ = writeln!(
        out,
        "#\n# Layers of the model kind \"layers\"; one without settings may be written as its name alone:"
    );
    LAYERS.lines().for_each(|line| {
        let _ = writeln!(out, "#   {line}");
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::{Draft, LayerConfig, LossConfig, ModelConfig, ScheduleConfig};
    use serde::de::DeserializeOwned;

    /// The names that serde would take in place of one that does not exist.
    fn known<T: DeserializeOwned>(kind: &str) -> Vec<String> {
        let table = Table::from_iter([("kind".into(), Value::from(kind)), ("no such key".into(), Value::from(1))]);
        let message = table.try_into::<T>().err().map(|e| e.message().to_string()).unwrap_or_default();
        message.split('`').skip(3).step_by(2).map(str::to_string).collect()
    }

    #[test]
    fn every_key_of_every_kind_is_documented() {
        let check = |section: &str, known: &dyn Fn(&str) -> Vec<String>, kinds: Vec<String>| {
            let all = sections();
            let documented = &all.iter().find(|s| s.name == section).unwrap().kinds;
            let names: Vec<&str> = documented.iter().map(|(k, _)| *k).collect();
            assert_eq!(names, kinds, "{section}");
            for (kind, keys) in documented {
                let keys: Vec<&str> = keys.iter().map(|(k, _)| *k).collect();
                assert_eq!(known(kind), keys, "{section} {kind}");
            }
        };
        let kinds = |message: Vec<String>| message;
        check("data", &known::<DataConfig>, kinds(known::<DataConfig>("?")));
        check("model", &known::<ModelConfig>, kinds(known::<ModelConfig>("?")));
        check("loss", &known::<LossConfig>, kinds(known::<LossConfig>("?")));
        check("optimizer", &known::<OptimizerConfig>, kinds(known::<OptimizerConfig>("?")));
        check("schedule", &known::<ScheduleConfig>, kinds(known::<ScheduleConfig>("?")));
        for layer in known::<LayerConfig>("?") {
            assert!(LAYERS.contains(&layer), "{layer}");
            for key in known::<LayerConfig>(&layer) {
                assert!(LAYERS.contains(&key), "{layer}: {key}");
            }
        }
        let train: Vec<&str> = TRAIN_KEYS.iter().map(|(k, _)| *k).collect();
        assert_eq!(train, TRAIN);
    }

    #[test]
    fn printed_configurations_are_complete_and_read_back() {
        for (name, _) in crate::train::config::PRESETS {
            let config = Draft::open(name).unwrap().finish().unwrap();
            let text = config.to_toml().unwrap();
            assert_eq!(Draft::complete(&text, "again".into()).unwrap().finish().unwrap(), config);
            let lines: Vec<&str> = text.lines().collect();
            for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.contains(" = ") && !l.starts_with(['#', ' '])) {
                assert!(lines[i - 1].starts_with('#'), "{name}: {line} has no comment");
            }
        }
        assert!(reference().lines().all(|l| l.starts_with('#')));
    }
}
