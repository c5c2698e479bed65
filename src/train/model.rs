//! Models from configurations: the compact kinds, and lists of layers. A layer takes the sizes of its input from the tensor
//! that it is given, so that a configuration names only what is free.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::nn::norm::BatchNorm;
use crate::nn::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm1d, BatchNorm2d, Conformer, ConformerLayer, Conv2d, Dropout, Edges,
    Embedding, FeedForwardActivation, Flatten, Gelu, Gpt, GraphAttention, GroupNorm, Gru, Init, LayerNorm, Linear,
    Lstm, Masks, MaxPool2d, Module, Relu, Rnn, RnnConfig, Scope, Sequential, Sigmoid, Silu, Tanh, TransformerConfig,
    TransformerEncoderLayer,
};
use crate::ops::conv::{ConvOptions, Padding};
use crate::ops::pooling::Pool;
use crate::ops::reparam::sinusoidal_positions;
use crate::train::config::layers::{Activation, Size};
use crate::train::config::model::Layers;
use crate::train::config::{LayerConfig, ModelConfig, NamedLayer};
use crate::train::seq2seq::EncoderDecoder;
use std::panic::Location;

/// What a model must know of the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// Shape of the first input, without the batch.
    pub input: Vec<usize>,
    /// Classes or numbers at each place of the output.
    pub outputs: usize,
    /// Tokens of the input, if it consists of tokens, and of the output.
    pub tokens: Option<[usize; 2]>,
}

/// The model of a configuration.
pub fn build(config: &ModelConfig, shapes: &Shapes) -> Result<Box<dyn Module>> {
    let misfit = || Error::input("model.kind", "does not fit the kind of the data");
    Ok(match config {
        ModelConfig::Mlp(m) => Box::new(mlp(shapes.input.iter().product(), &m.hidden, shapes.outputs, m.dropout)),
        ModelConfig::Cnn(m) => match shapes.input[..] {
            [c, h, w] => Box::new(cnn(c, [h, w], &m.stages, shapes.outputs, m.dropout)?),
            _ => {
                let detail = format!("cnn takes images, the examples are {:?}; take mlp or layers", shapes.input);
                return Err(Error::input("model.kind", detail));
            }
        },
        ModelConfig::Gpt(m) => Box::new(Gpt {
            vocab: shapes.outputs,
            context: shapes.input.first().copied().unwrap_or(0),
            layers: m.layers,
            heads: m.heads,
            width: m.width,
            dropout: m.dropout,
            checkpoint: m.checkpoint,
        }),
        ModelConfig::EncoderDecoder(m) => {
            let [source, target] = shapes.tokens.ok_or_else(misfit)?;
            Box::new(EncoderDecoder { config: m.clone(), source, target })
        }
        ModelConfig::Layers(Layers { layers }) => Box::new(Stack {
            layers: layers.clone(),
            outputs: shapes.outputs,
            tokens: shapes.tokens.map(|t| t[0]),
            time: shapes.input.first().copied().unwrap_or(0),
        }),
    })
}

/// Fully connected layers with ReLU between them, on flattened inputs.
pub fn mlp(inputs: usize, hidden: &[usize], outputs: usize, dropout: f64) -> Sequential {
    let (mut net, mut width) = (Sequential::new().add(Flatten::new()), inputs);
    for &next in hidden {
        net = net.add(Linear::new(width, next)).add(Relu);
        if dropout > 0.0 {
            net = net.add(Dropout::new(dropout));
        }
        width = next;
    }
    net.add(Linear::new(width, outputs))
}

/// Stages of 3x3 convolutions with batch norm and ReLU, each stage ending in 2x2 max pooling; then one linear layer.
/// Parameters: `features.N...`, `classifier...`. Errors if the image is too small for so many stages.
pub fn cnn(
    channels: usize,
    size: [usize; 2],
    stages: &[Vec<usize>],
    classes: usize,
    dropout: f64,
) -> Result<impl Module + use<>> {
    let [mut h, mut w] = size;
    let (mut features, mut channels) = (Sequential::new(), channels);
    for stage in stages {
        if h < 2 || w < 2 {
            let detail = format!("{} stages halve images of {size:?} pixels to nothing; take fewer", stages.len());
            return Err(Error::input("model.stages", detail));
        }
        for &next in stage {
            // No bias: batch norm would remove it.
            let conv = Conv2d { bias: false, ..Conv2d::new(channels, next, 3).padding(1) };
            features = features.add(conv).add(BatchNorm2d::new(next)).add(Relu);
            channels = next;
        }
        features = features.add(MaxPool2d::new(2));
        (h, w) = (h / 2, w / 2);
    }
    let classifier = Linear::new(channels * h * w, classes);
    Ok(move |scope: &Scope, x: &Tensor| {
        let x = scope.run("features", &features, x).flatten(1, -1);
        let x = scope.run("dropout", &Dropout::new(dropout), &x);
        scope.run("classifier", &classifier, &x)
    })
}

/// Layers of a configuration, one after the other; their scopes are their positions, as in torch's `Sequential`, or their names. The second
/// input, if there is one, holds the lengths of padded sequences, i32 (N), or who is near whom in a graph, i32 [1, N, N].
#[derive(Debug, Clone)]
pub struct Stack {
    /// The layers.
    pub layers: Vec<NamedLayer>,
    /// Width of a linear layer that does not say it.
    pub outputs: usize,
    /// Rows of an embedding that does not say them.
    pub tokens: Option<usize>,
    /// Time steps of padded sequences, to which their lengths refer.
    pub time: usize,
}

impl Module for Stack {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.run(scope, &self.layers, x, None)
    }

    #[track_caller]
    fn forward_all(&self, scope: &Scope, inputs: &[Tensor]) -> Tensor {
        self.run(scope, &self.layers, &inputs[0], inputs.get(1))
    }
}

/// True at the positions of (N, T, ..) that do not pad: bool (N, T).
fn valid(x: &Tensor, lengths: &Tensor) -> Tensor {
    let t = x.size(1);
    let positions = x.builder().iota(t).reshape([1, t]).broadcast_to([x.size(0), t]);
    positions.lt(&lengths.reshape([x.size(0), 1]).broadcast_to([x.size(0), t]))
}

impl Stack {
    #[track_caller]
    fn run(&self, scope: &Scope, layers: &[NamedLayer], x: &Tensor, lengths: Option<&Tensor>) -> Tensor {
        layers.iter().enumerate().fold(x.clone(), |x, (i, layer)| {
            // Once something is wrong, what follows only hides it.
            if !x.builder().is_ok() {
                return x;
            }
            scope.visit(layer.scope(i), |scope| self.layer(layer, scope, &x, lengths))
        })
    }

    #[track_caller]
    fn layer(&self, layer: &LayerConfig, scope: &Scope, x: &Tensor, lengths: Option<&Tensor>) -> Tensor {
        let loc = Location::caller();
        let fail = |expected: &str| x.fail(layer.kind(), format!("takes {expected}, got {}", x.ty()), loc);
        let padding = |p: Size| Padding::Zeros(p.pair().to_vec());
        match layer {
            LayerConfig::Linear { .. } | LayerConfig::LayerNorm { .. } if x.rank() < 2 => fail("(N, .., C)"),
            LayerConfig::Linear { out, bias } => {
                Linear { bias: *bias, ..Linear::new(x.size(-1), out.unwrap_or(self.outputs)) }.forward(scope, x)
            }
            LayerConfig::Conv { .. }
            | LayerConfig::MaxPool { .. }
            | LayerConfig::AvgPool { .. }
            | LayerConfig::AdaptiveAvgPool { .. }
            | LayerConfig::Patches { .. }
                if x.rank() != 4 =>
            {
                fail("images (N, C, H, W)")
            }
            LayerConfig::Conv { out, kernel, stride, padding: p, dilation, groups, bias } => Conv2d {
                kernel: kernel.pair(),
                stride: stride.pair(),
                padding: padding(*p),
                dilation: dilation.pair(),
                groups: *groups,
                bias: *bias,
                ..Conv2d::new(x.size(1), *out, 1)
            }
            .forward(scope, x),
            LayerConfig::BatchNorm { .. } | LayerConfig::GroupNorm { .. } | LayerConfig::InstanceNorm { .. }
                if !(2..=4).contains(&x.rank()) =>
            {
                fail("(N, C), (N, C, L) or (N, C, H, W)")
            }
            LayerConfig::BatchNorm { eps, momentum } => {
                let norm = BatchNorm { eps: *eps, momentum: Some(*momentum), ..BatchNorm::new(x.size(1)) };
                match x.rank() {
                    4 => BatchNorm2d(norm).forward(scope, x),
                    _ => BatchNorm1d(norm).forward(scope, x),
                }
            }
            LayerConfig::LayerNorm { eps } => LayerNorm { eps: *eps, ..LayerNorm::new([x.size(-1)]) }.forward(scope, x),
            LayerConfig::RmsNorm { eps } => {
                let weight = scope.param("weight", [x.size(-1)], Init::ONES);
                x.rms_norm(&[x.size(-1)], Some(&weight), *eps)
            }
            LayerConfig::InstanceNorm { eps } if x.rank() > 2 => x.instance_norm(None, None, *eps),
            LayerConfig::InstanceNorm { .. } => fail("(N, C, L) or (N, C, H, W)"),
            LayerConfig::GroupNorm { groups } => GroupNorm::new(*groups, x.size(1)).forward(scope, x),
            LayerConfig::Relu {} => Relu.forward(scope, x),
            LayerConfig::Gelu {} => Gelu.forward(scope, x),
            LayerConfig::Tanh {} => Tanh.forward(scope, x),
            LayerConfig::Sigmoid {} => Sigmoid.forward(scope, x),
            LayerConfig::Silu {} => Silu.forward(scope, x),
            LayerConfig::Elu {} => x.elu(1.0),
            LayerConfig::LeakyRelu { slope } => x.leaky_relu(*slope),
            LayerConfig::HardSigmoid {} => x.hardsigmoid(),
            LayerConfig::Softplus {} => x.softplus(1.0, 20.0),
            LayerConfig::MaxPool { kernel, stride, padding } => {
                MaxPool2d { pool: pool(*kernel, *stride, *padding) }.forward(scope, x)
            }
            LayerConfig::AvgPool { kernel, stride, padding } => {
                AvgPool2d { pool: pool(*kernel, *stride, *padding), count_include_pad: true }.forward(scope, x)
            }
            LayerConfig::AdaptiveAvgPool { out } => AdaptiveAvgPool2d { output_size: out.pair() }.forward(scope, x),
            LayerConfig::Flatten { start } if *start >= x.rank() => fail(&format!("a tensor with a dimension {start}")),
            LayerConfig::Flatten { start } => x.flatten(*start as isize, -1),
            LayerConfig::Dropout { p } if !(0.0..=1.0).contains(p) => fail(&format!("a probability, p = {p} is none;")),
            LayerConfig::Dropout { p } => Dropout::new(*p).forward(scope, x),
            LayerConfig::Residual { layers, shortcut } => {
                let branch = self.run(&scope.child("layers"), layers, x, lengths);
                let past = self.run(&scope.child("shortcut"), shortcut, x, lengths);
                if branch.shape() != past.shape() && x.builder().is_ok() {
                    let detail = format!(
                        "the branch gives {}, the way past it {}; give a shortcut (such as a convolution of kernel 1) that \
                         makes them equal",
                        branch.ty(),
                        past.ty()
                    );
                    return x.fail("residual", detail, loc);
                }
                past + branch
            }
            LayerConfig::Embedding { dim, num } => match num.or(self.tokens) {
                Some(rows) if x.dtype() == DType::I32 => Embedding::new(rows, *dim).forward(scope, x),
                _ => fail("tokens (i32)"),
            },
            LayerConfig::Positions { .. }
            | LayerConfig::Conv1d { .. }
            | LayerConfig::Conformer { .. }
            | LayerConfig::GraphAttention { .. }
            | LayerConfig::Rnn { .. }
            | LayerConfig::Lstm { .. }
            | LayerConfig::Gru { .. }
            | LayerConfig::TransformerEncoder { .. }
            | LayerConfig::First {}
            | LayerConfig::Last {}
            | LayerConfig::Mean {}
            | LayerConfig::Max {}
                if x.rank() != 3 || !x.dtype().is_float() =>
            {
                fail("sequences (N, T, C) of numbers")
            }
            LayerConfig::TransformerEncoder { .. }
            | LayerConfig::Last {}
            | LayerConfig::Mean {}
            | LayerConfig::Max {}
                if lengths.is_some() && x.size(1) != self.time =>
            {
                let kept = "sequences as long as those of the data, so that what pads them is known (a conv1d keeps the \
                            length with padding = kernel / 2)";
                fail(kept)
            }
            LayerConfig::Positions { learned } => {
                let (t, c) = (x.size(1), x.size(2));
                let table = match learned {
                    true => scope.param("weight", [t, c], Init::Normal { std: 0.02 }),
                    false => sinusoidal_positions(x.builder(), t, c, 10_000.0),
                };
                x + table
            }
            LayerConfig::Conv1d { out, kernel, stride, padding, dilation, groups, bias } => {
                let c = x.size(2);
                if *groups == 0 || !c.is_multiple_of(*groups) || !out.is_multiple_of(*groups) {
                    return fail(&format!("channels that split into {groups} groups"));
                }
                let weight = scope.param("weight", [*out, c / groups, *kernel], Init::TORCH_WEIGHT);
                let bias = bias.then(|| scope.param("bias", [*out], Init::torch_bias(c / groups * kernel)));
                let mut o = ConvOptions::new(1).stride([*stride]).dilation([*dilation]).groups(*groups);
                o.padding = Padding::Zeros(vec![*padding]);
                x.transpose(1, 2).conv_nd(&weight, bias.as_ref(), &o).transpose(1, 2)
            }
            LayerConfig::Rnn { hidden, layers, bidirectional, dropout } => {
                Rnn::new(recurrent(x, *hidden, *layers, *bidirectional, *dropout)).forward(scope, x)
            }
            LayerConfig::Lstm { hidden, layers, bidirectional, dropout } => {
                Lstm::new(recurrent(x, *hidden, *layers, *bidirectional, *dropout)).forward(scope, x)
            }
            LayerConfig::Gru { hidden, layers, bidirectional, dropout } => {
                Gru::new(recurrent(x, *hidden, *layers, *bidirectional, *dropout)).forward(scope, x)
            }
            LayerConfig::TransformerEncoder {
                heads,
                feedforward,
                layers,
                dropout,
                norm_first,
                activation,
                causal,
                norm,
            } => {
                let width = x.size(2);
                let config = TransformerConfig {
                    dim_feedforward: if *feedforward == 0 { 4 * width } else { *feedforward },
                    dropout: *dropout,
                    norm_first: *norm_first,
                    activation: match activation {
                        Activation::Relu => FeedForwardActivation::Relu,
                        Activation::Gelu => FeedForwardActivation::Gelu,
                    },
                    batch_first: true,
                    ..TransformerConfig::new(width, *heads)
                };
                let pads = lengths.map(|l| valid(x, l).not());
                let masks = Masks { key_padding_mask: pads.as_ref(), is_causal: *causal, mask: None };
                let layer = TransformerEncoderLayer(config);
                let list = scope.child("layers");
                let y = (0..*layers).fold(x.clone(), |x, i| list.visit(i, |s| layer.encode(s, &x, &masks)));
                if *norm { scope.run("norm", &LayerNorm::new([width]), &y) } else { y }
            }
            LayerConfig::Conformer { heads, feedforward, layers, kernel, dropout, group_norm } => {
                let width = x.size(2);
                let ffn = if *feedforward == 0 { 4 * width } else { *feedforward };
                let layer = ConformerLayer {
                    dropout: *dropout,
                    use_group_norm: *group_norm,
                    ..ConformerLayer::new(width, ffn, *heads, *kernel)
                };
                Conformer { layer, num_layers: *layers }.encode(scope, x, lengths)
            }
            LayerConfig::GraphAttention { out, heads, concat, dropout } => match lengths {
                Some(near) if x.size(0) == 1 && near.rank() == 3 => {
                    let (nodes, n) = (x.squeeze(0), x.size(1));
                    let near = near.reshape([n, n]);
                    let mask = near.eq(&near.like(0.0)).not();
                    let layer = GraphAttention {
                        concat: *concat,
                        dropout: *dropout,
                        ..GraphAttention::new(x.size(2), out.unwrap_or(self.outputs), *heads)
                    };
                    layer.attend(scope, &nodes, Edges::Mask(&mask)).unsqueeze(0)
                }
                _ => fail("one graph (data of the kind graph, batch = 1)"),
            },
            LayerConfig::Patches { size, dim, class_token } => {
                let [h, w] = size.pair();
                if h == 0 || w == 0 || !x.size(2).is_multiple_of(h) || !x.size(3).is_multiple_of(w) {
                    return fail(&format!("images that patches of {h}x{w} divide"));
                }
                let conv = Conv2d { kernel: [h, w], stride: [h, w], ..Conv2d::new(x.size(1), *dim, 1) };
                let patches = conv.forward(scope, x).flatten(2, -1).transpose(1, 2);
                if !class_token {
                    return patches;
                }
                let token = scope.param("class_token", [1, 1, *dim], Init::Normal { std: 0.02 });
                Tensor::cat(&[&token.broadcast_to([x.size(0), 1, *dim]), &patches], 1)
            }
            LayerConfig::First {} => x.narrow(1, 0, 1).squeeze(1),
            LayerConfig::Last {} => match lengths {
                None => x.narrow(1, x.size(1) - 1, 1).squeeze(1),
                Some(lengths) => {
                    // The last valid position is one that is valid while the next is not.
                    let shorter = lengths - &lengths.like(1.0);
                    let is_last = valid(x, lengths).and(&valid(x, &shorter).not()).unsqueeze(-1);
                    let (is_last, x) = is_last.broadcast_with(x, "last");
                    is_last.select(&x, &x.like(0.0)).sum(&[1], false)
                }
            },
            LayerConfig::Mean {} => match lengths {
                None => x.mean(&[1], false),
                Some(lengths) => {
                    let (is_valid, x) = valid(x, lengths).unsqueeze(-1).broadcast_with(x, "mean");
                    is_valid.select(&x, &x.like(0.0)).sum(&[1], false) / lengths.cast(DType::F32).unsqueeze(-1)
                }
            },
            LayerConfig::Max {} => match lengths {
                None => x.amax(&[1], false),
                Some(lengths) => {
                    let (is_valid, x) = valid(x, lengths).unsqueeze(-1).broadcast_with(x, "max");
                    is_valid.select(&x, &x.like(f64::NEG_INFINITY)).amax(&[1], false)
                }
            },
        }
    }
}

fn pool(kernel: Size, stride: Option<Size>, padding: Size) -> Pool {
    Pool::new(kernel.pair()).stride(stride.unwrap_or(kernel).pair()).padding(padding.pair())
}

fn recurrent(x: &Tensor, hidden: usize, layers: usize, bidirectional: bool, dropout: f64) -> RnnConfig {
    RnnConfig { num_layers: layers, bidirectional, dropout, batch_first: true, ..RnnConfig::new(x.size(2), hidden) }
}
