//! Conformance cases of modules: the constructor's arguments become a module, its parameters the file's `param.*`.

use crate::backend::Device;
use crate::check::conformance::exec::{Built, Inputs, Outcome, run_built};
use crate::check::conformance::file::{Attrs, Case, unsupported};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::nn::norm::BatchNorm;
use crate::nn::{
    BatchNorm1d, BatchNorm2d, Bilinear, Conv2d, Embedding, FeedForwardActivation, GroupNorm, Gru, Init, LayerNorm,
    Linear, Lstm, Masks, Mode, Module, MultiheadAttention, MultiheadOptions, PRelu, Params, Rnn, RnnConfig, Scope,
    TransformerConfig, TransformerDecoderLayer, TransformerEncoderLayer,
};
use crate::ops::PadMode;
use crate::ops::conv::Padding;

/// Runs one case: parameters and buffers are feeds of the case's tensors, gradients and new buffers are results.
pub fn run(case: &Case, device: &Device) -> Result<Outcome> {
    let inputs = Inputs::new(case)?;
    let mode = match case.metadata.get("mode").map(String::as_str) {
        Some("train") => Mode::Train,
        Some("eval") => Mode::Eval,
        other => return Err(Error::input(&case.file, format!("has mode {other:?}, neither train nor eval"))),
    };
    let params = Params::new(&inputs.builder, mode);
    let outs = build(case, &inputs, &params.scope())?;
    // Hints beside the masks, which say the same.
    case.call.same_result(&["is_causal", "tgt_is_causal", "memory_is_causal"]);
    inputs.finish()?;
    let mut leaves = inputs.leaves();
    leaves.extend(params.trainable().into_iter().map(|(name, t)| (format!("param.{name}"), t)));
    // A buffer that is not updated keeps its content.
    let updates = params.updates();
    let mut named = Vec::new();
    for spec in params.specs().into_iter().filter(|s| !s.trainable) {
        let new = updates.iter().find(|(n, _)| *n == spec.name).map(|(_, t)| t.clone());
        if let Some(t) = new.or_else(|| params.get(&spec.name)) {
            named.push((format!("buffer.{}", spec.name), t));
        }
    }
    run_built(case, device, &inputs.builder, &Built { outs, named, leaves })
}

fn pair(a: &Attrs, name: &str, default: usize) -> Result<[usize; 2]> {
    Ok(a.per_dim(name, 2)?.map_or([default; 2], |v| [v[0], v[1]]))
}

fn transformer(a: &Attrs, d_model: usize, nhead: usize) -> Result<TransformerConfig> {
    let activation = match a.word("activation", "relu")?.as_str() {
        "relu" => FeedForwardActivation::Relu,
        "gelu" => FeedForwardActivation::Gelu,
        other => return Err(unsupported(format!("activation {other:?}"))),
    };
    Ok(TransformerConfig {
        dim_feedforward: a.count("dim_feedforward", 2048)?,
        dropout: a.float("dropout", 0.1)?,
        activation,
        norm_first: a.flag("norm_first", false)?,
        batch_first: a.flag("batch_first", false)?,
        layer_norm_eps: a.float("layer_norm_eps", 1e-5)?,
        bias: a.flag("bias", true)?,
        ..TransformerConfig::new(d_model, nhead)
    })
}

fn build(case: &Case, x: &Inputs, s: &Scope) -> Result<Vec<Tensor>> {
    let a = &case.attrs;
    let need = |name: &str| match a.count(name, usize::MAX)? {
        usize::MAX => Err(unsupported(format!("{} without {name}", case.name))),
        n => Ok(n),
    };
    let one = |module: &dyn Module| -> Result<Vec<Tensor>> { Ok(vec![module.forward(s, &x.arg("input")?)]) };
    let batch_norm = || -> Result<BatchNorm> {
        Ok(BatchNorm {
            eps: a.float("eps", 1e-5)?,
            momentum: if a.has("momentum") { a.opt_float("momentum")? } else { Some(0.1) },
            affine: a.flag("affine", true)?,
            track_running_stats: a.flag("track_running_stats", true)?,
            ..BatchNorm::new(need("num_features")?)
        })
    };
    let rnn = || -> Result<RnnConfig> {
        Ok(RnnConfig {
            num_layers: a.count("num_layers", 1)?,
            bias: a.flag("bias", true)?,
            batch_first: a.flag("batch_first", false)?,
            bidirectional: a.flag("bidirectional", false)?,
            dropout: a.float("dropout", 0.0)?,
            ..RnnConfig::new(need("input_size")?, need("hidden_size")?)
        })
    };
    match case.name.as_str() {
        "Linear" => {
            let mut m = Linear::new(need("in_features")?, need("out_features")?);
            m.bias = a.flag("bias", true)?;
            one(&m)
        }
        "Conv2d" => {
            let padding = match a.get("padding").and_then(serde_json::Value::as_str) {
                Some("same") => Padding::Same,
                Some("valid") => Padding::Valid,
                Some(word) => return Err(unsupported(format!("padding {word:?} of Conv2d"))),
                None => Padding::Zeros(pair(a, "padding", 0)?.to_vec()),
            };
            let mode = a.word("padding_mode", "zeros")?;
            one(&Conv2d {
                in_channels: need("in_channels")?,
                out_channels: need("out_channels")?,
                kernel: pair(a, "kernel_size", 1)?,
                stride: pair(a, "stride", 1)?,
                padding,
                dilation: pair(a, "dilation", 1)?,
                groups: a.count("groups", 1)?,
                bias: a.flag("bias", true)?,
                padding_mode: PadMode::named(&mode, 0.0)
                    .ok_or_else(|| unsupported(format!("padding mode {mode:?}")))?,
                init: Init::TORCH_WEIGHT,
            })
        }
        "Embedding" => {
            let mut m = Embedding::new(need("num_embeddings")?, need("embedding_dim")?);
            m.padding_idx = match a.opt_int("padding_idx")? {
                None => None,
                Some(i) if i < 0 => Some((m.num_embeddings as i64 + i).max(0) as usize),
                Some(i) => Some(i as usize),
            };
            m.scale_grad_by_freq = a.flag("scale_grad_by_freq", false)?;
            one(&m)
        }
        "BatchNorm1d" => one(&BatchNorm1d(batch_norm()?)),
        "BatchNorm2d" => one(&BatchNorm2d(batch_norm()?)),
        "LayerNorm" => {
            let shape = a.opt_ints("normalized_shape")?.unwrap_or_default();
            let mut m = LayerNorm::new(shape.iter().map(|&n| n.max(0) as usize).collect::<Vec<_>>());
            m.eps = a.float("eps", 1e-5)?;
            m.elementwise_affine = a.flag("elementwise_affine", true)?;
            m.bias = a.flag("bias", true)?;
            one(&m)
        }
        "MultiheadAttention" => {
            let mut m = MultiheadAttention::new(need("embed_dim")?, need("num_heads")?);
            let width = |name: &str| Ok::<_, Error>(a.opt_int(name)?.map(|n| n.max(0) as usize));
            (m.kdim, m.vdim) = (width("kdim")?, width("vdim")?);
            (m.bias, m.batch_first) = (a.flag("bias", true)?, a.flag("batch_first", false)?);
            (m.add_bias_kv, m.add_zero_attn) = (a.flag("add_bias_kv", false)?, a.flag("add_zero_attn", false)?);
            m.dropout = a.float("dropout", 0.0)?;
            let (padding, mask) = (x.opt("key_padding_mask"), x.opt("attn_mask"));
            // A hint beside the mask, which says the same.
            let hinted = case.call.flag("is_causal", false)?;
            let options = MultiheadOptions {
                key_padding_mask: padding.as_ref(),
                attn_mask: mask.as_ref(),
                is_causal: hinted && mask.is_none(),
                need_weights: case.call.flag("need_weights", true)?,
                weights_per_head: !case.call.flag("average_attn_weights", true)?,
            };
            let (out, weights) = m.attend(s, &x.arg("query")?, &x.arg("key")?, &x.arg("value")?, &options);
            Ok([Some(out), weights].into_iter().flatten().collect())
        }
        "GroupNorm" => one(&GroupNorm {
            num_groups: need("num_groups")?,
            num_channels: need("num_channels")?,
            eps: a.float("eps", 1e-5)?,
            affine: a.flag("affine", true)?,
            bias: a.flag("bias", true)?,
        }),
        "PReLU" => one(&PRelu { num_parameters: a.count("num_parameters", 1)?, init: a.float("init", 0.25)? }),
        "Bilinear" => {
            let form = Bilinear {
                in1_features: need("in1_features")?,
                in2_features: need("in2_features")?,
                out_features: need("out_features")?,
                bias: a.flag("bias", true)?,
            };
            Ok(vec![form.forward(s, &x.arg("input1")?, &x.arg("input2")?)])
        }
        "TransformerEncoderLayer" => {
            let layer = TransformerEncoderLayer(transformer(a, need("d_model")?, need("nhead")?)?);
            let (mask, padding) = (x.opt("src_mask"), x.opt("src_key_padding_mask"));
            let masks = Masks { mask: mask.as_ref(), key_padding_mask: padding.as_ref(), is_causal: false };
            Ok(vec![layer.encode(s, &x.arg("src")?, &masks)])
        }
        "TransformerDecoderLayer" => {
            let layer = TransformerDecoderLayer(transformer(a, need("d_model")?, need("nhead")?)?);
            let (mask, padding) = (x.opt("tgt_mask"), x.opt("tgt_key_padding_mask"));
            let own = Masks { mask: mask.as_ref(), key_padding_mask: padding.as_ref(), is_causal: false };
            let (mask, padding) = (x.opt("memory_mask"), x.opt("memory_key_padding_mask"));
            let cross = Masks { mask: mask.as_ref(), key_padding_mask: padding.as_ref(), is_causal: false };
            Ok(vec![layer.decode(s, &x.arg("tgt")?, &x.arg("memory")?, &own, &cross)])
        }
        "RNN" => {
            let relu = match a.word("nonlinearity", "tanh")?.as_str() {
                "tanh" => false,
                "relu" => true,
                other => return Err(unsupported(format!("nonlinearity {other:?}"))),
            };
            let (out, h_n) = Rnn { config: rnn()?, relu }.run(s, &x.arg("input")?, x.opt("h_0").as_ref());
            Ok(vec![out, h_n])
        }
        "LSTM" => {
            let module = Lstm { config: rnn()?, proj_size: a.count("proj_size", 0)? };
            let (h_0, c_0) = (x.opt("h_0"), x.opt("c_0"));
            let (out, h_n, c_n) = module.run(s, &x.arg("input")?, h_0.as_ref(), c_0.as_ref());
            Ok(vec![out, h_n, c_n])
        }
        "GRU" => {
            let (out, h_n) = Gru::new(rnn()?).run(s, &x.arg("input")?, x.opt("h_0").as_ref());
            Ok(vec![out, h_n])
        }
        name => Err(unsupported(format!("module {name}"))),
    }
}
