//! Normalisation layers: batch norm with running statistics, layer norm, RMS norm, group norm, instance norm.

use crate::dtype::DType;
use crate::ir::{Tensor, Type};
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use crate::ops::batch_norm::BatchNormOptions;
use crate::shape::Shape;
use std::panic::Location;

/// What [`BatchNorm1d`], [`BatchNorm2d`] and [`BatchNorm3d`] have in common. Training normalises with the mean and the biased variance of
/// the batch; evaluation with `running_mean` and `running_var` (unbiased), which training moves by `momentum`.
/// Parameters: `weight`, `bias` (channels). Buffers: `running_mean`, `running_var`, `num_batches_tracked`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Number of channels (dimension 1).
    pub num_features: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Weight of a batch in the running statistics; `None`: they are the plain average over all batches so far.
    pub momentum: Option<f64>,
    /// Whether there are a scale and a shift per channel.
    pub affine: bool,
    /// Whether there are running statistics. Without them evaluation too normalises with those of the batch.
    pub track_running_stats: bool,
}

impl BatchNorm {
    /// torch's defaults: eps 1e-5, momentum 0.1, scale and shift, running statistics.
    pub fn new(num_features: usize) -> BatchNorm {
        BatchNorm { num_features, eps: 1e-5, momentum: Some(0.1), affine: true, track_running_stats: true }
    }

    #[track_caller]
    fn forward(&self, op: &str, ranks: &[usize], scope: &Scope, x: &Tensor) -> Tensor {
        if scope.averages() && self.momentum.is_some() {
            return BatchNorm { momentum: None, ..self.clone() }.forward(op, ranks, scope, x);
        }
        let (c, loc) = (self.num_features, Location::caller());
        if !ranks.contains(&x.rank()) || x.size(1) != c {
            let detail =
                format!("{} expects {c} channels in dimension 1 and rank {ranks:?}, got {}", place(scope), x.ty());
            return x.fail(op, detail, loc);
        }
        let affine =
            self.affine.then(|| (scope.param("weight", [c], Init::ONES), scope.param("bias", [c], Init::ZEROS)));
        let (weight, bias) = (affine.as_ref().map(|a| &a.0), affine.as_ref().map(|a| &a.1));
        let running = self.track_running_stats.then(|| Running::declare(scope, c));
        let training = scope.training() || running.is_none();
        let tracked = running.as_ref().map(|r| (&r.mean, &r.var));
        let (y, moved) = match scope.row_weight().filter(|_| training) {
            Some(rows) if rows.elems() != x.size(0) => {
                let detail = format!("{}: {} rows, but row weights {}", place(scope), x.size(0), rows.ty());
                return x.fail(op, detail, loc);
            }
            Some(rows) => self.weighted(x, rows, weight, bias, tracked),
            None => {
                let out = x.batch_norm(&BatchNormOptions {
                    running_mean: tracked.map(|t| t.0),
                    running_var: tracked.map(|t| t.1),
                    weight,
                    bias,
                    training,
                    momentum: self.batch_weight(),
                    eps: self.eps,
                });
                (out.output, out.running_mean.zip(out.running_var))
            }
        };
        if let (Some(running), Some((mean, var)), true) = (running, moved, scope.training()) {
            running.update(scope, self.momentum.is_none(), mean, var);
        }
        y
    }

    /// The weight with which a batch replaces the running statistics; 1 gives those of the batch, for the average.
    fn batch_weight(&self) -> f64 {
        self.momentum.unwrap_or(1.0)
    }

    /// Training with rows of weight 0 or 1: those of weight 0 do not enter the statistics. With n = sum of weights times
    /// positions: mean = sum(w x)/n, var = sum(w (x - mean)^2)/n, running var from var n/(n-1).
    #[track_caller]
    fn weighted(
        &self,
        x: &Tensor,
        rows: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        running: Option<(&Tensor, &Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let c = self.num_features;
        let mut along = vec![1; x.rank()];
        along[0] = x.size(0);
        let w = rows.reshape(along.clone());
        (along[0], along[1]) = (1, c);
        let dims: Vec<isize> = (0..x.rank() as isize).filter(|&d| d != 1).collect();
        let positions: usize = x.shape()[2..].iter().product();
        let n = rows.sum(&[], false) * positions as f64;
        let mean = (x * &w).sum(&dims, true) / &n;
        let d = x - &mean;
        let var = (d.square() * &w).sum(&dims, true) / &n;
        let mut y = d * (&var + self.eps).rsqrt();
        if let Some(weight) = weight {
            y = y * weight.reshape(along.clone());
        }
        if let Some(bias) = bias {
            y = y + bias.reshape(along);
        }
        // One element only: n - 1 = 0, and torch refuses such a batch; here the biased variance is kept.
        let unbiased = var.reshape([c]) * (&n / (&n - 1.0).maximum(&n.like(1.0)));
        let share = self.batch_weight();
        let moved = |old: &Tensor, new: Tensor| old * (1.0 - share) + new.detach() * share;
        (y, running.map(|r| (moved(r.0, mean.reshape([c])), moved(r.1, unbiased))))
    }
}

/// The buffers of a [`BatchNorm`].
struct Running {
    mean: Tensor,
    var: Tensor,
    /// Batches so far.
    count: Tensor,
}

impl Running {
    fn declare(scope: &Scope, c: usize) -> Running {
        Running {
            mean: scope.buffer("running_mean", [c], Init::ZEROS),
            var: scope.buffer("running_var", [c], Init::ONES),
            count: scope.buffer_of("num_batches_tracked", Type::new(DType::I32, Shape::default()), Init::ZEROS),
        }
    }

    /// New statistics after a batch; for an average over all batches those of the batch alone are given.
    #[track_caller]
    fn update(&self, scope: &Scope, average: bool, mean: Tensor, var: Tensor) {
        let count = &self.count + self.count.like(1.0);
        // The average of n batches from that of n - 1: moved by 1/n of the difference.
        let n = count.cast(DType::F32);
        let averaged = |old: &Tensor, new: Tensor| if average { old + (new - old) / &n } else { new };
        scope.update("num_batches_tracked", &count);
        scope.update("running_mean", &averaged(&self.mean, mean));
        scope.update("running_var", &averaged(&self.var, var));
    }
}

macro_rules! batch_norm {
    ($name:ident, $op:literal, $ranks:expr, $what:literal) => {
        #[doc = $what]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name(pub BatchNorm);

        impl $name {
            /// With torch's defaults: eps 1e-5, momentum 0.1, scale and shift.
            pub fn new(num_features: usize) -> $name {
                $name(BatchNorm::new(num_features))
            }
        }

        impl Module for $name {
            #[track_caller]
            fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
                self.0.forward($op, &$ranks, scope, x)
            }
        }
    };
}

batch_norm!(BatchNorm1d, "batch_norm1d", [2, 3], "Batch norm of (N, C) or (N, C, L).");
batch_norm!(BatchNorm2d, "batch_norm2d", [4], "Batch norm of (N, C, H, W).");
batch_norm!(BatchNorm3d, "batch_norm3d", [5], "Batch norm of (N, C, D, H, W).");

/// Normalises each row over the trailing dimensions. Parameters: `weight`, `bias` of the normalised shape.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// The trailing dimensions.
    pub normalized_shape: Vec<usize>,
    /// Added to the variance.
    pub eps: f64,
    /// Whether there are a scale and a shift.
    pub elementwise_affine: bool,
    /// Whether there is a shift beside the scale.
    pub bias: bool,
}

impl LayerNorm {
    /// Over the last dimensions, of these sizes, with torch's defaults.
    pub fn new(normalized_shape: impl Into<Vec<usize>>) -> LayerNorm {
        LayerNorm { normalized_shape: normalized_shape.into(), eps: 1e-5, elementwise_affine: true, bias: true }
    }
}

impl Module for LayerNorm {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let shape = &self.normalized_shape;
        let weight = self.elementwise_affine.then(|| scope.param("weight", shape, Init::ONES));
        let bias = (self.elementwise_affine && self.bias).then(|| scope.param("bias", shape, Init::ZEROS));
        x.layer_norm(shape, weight.as_ref(), bias.as_ref(), self.eps)
    }
}

/// Normalises each of `num_groups` groups of channels of each row. Parameters: `weight`, `bias` (channels).
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNorm {
    /// Number of groups; divides the channels.
    pub num_groups: usize,
    /// Number of channels (dimension 1).
    pub num_channels: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether there are a scale and a shift per channel.
    pub affine: bool,
    /// Whether there is a shift where there is a scale.
    pub bias: bool,
}

impl GroupNorm {
    /// With torch's defaults.
    pub fn new(num_groups: usize, num_channels: usize) -> GroupNorm {
        GroupNorm { num_groups, num_channels, eps: 1e-5, affine: true, bias: true }
    }
}

impl Module for GroupNorm {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let c = self.num_channels;
        let weight = self.affine.then(|| scope.param("weight", [c], Init::ONES));
        let bias = (self.affine && self.bias).then(|| scope.param("bias", [c], Init::ZEROS));
        x.group_norm(self.num_groups, weight.as_ref(), bias.as_ref(), self.eps)
    }
}

/// x / sqrt(mean(x^2) + eps) over the trailing dimensions, times the parameter `weight` of their shape (arXiv 1910.07467).
#[derive(Debug, Clone, PartialEq)]
pub struct RmsNorm {
    /// The trailing dimensions.
    pub normalized_shape: Vec<usize>,
    /// Added to the mean; torch's `None` is the distance from 1 to the next number, 2^-23 in f32.
    pub eps: f64,
    /// Whether there is a scale.
    pub elementwise_affine: bool,
}

impl RmsNorm {
    /// Over the last dimensions, of these sizes, with torch's defaults.
    pub fn new(normalized_shape: impl Into<Vec<usize>>) -> RmsNorm {
        RmsNorm { normalized_shape: normalized_shape.into(), eps: f32::EPSILON.into(), elementwise_affine: true }
    }
}

impl Module for RmsNorm {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let weight = self.elementwise_affine.then(|| scope.param("weight", &self.normalized_shape, Init::ONES));
        x.rms_norm(&self.normalized_shape, weight.as_ref(), self.eps)
    }
}

/// Normalises each channel of each sample of (N, C, S..) or (C, S..) with N spatial dimensions; the same in training and
/// evaluation. Parameters, if affine: `weight`, `bias` (channels).
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceNorm<const N: usize> {
    /// Number of channels.
    pub num_features: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether there are a scale and a shift per channel.
    pub affine: bool,
}

/// Over sequences (N, C, L) or (C, L).
pub type InstanceNorm1d = InstanceNorm<1>;
/// Over images (N, C, H, W) or (C, H, W).
pub type InstanceNorm2d = InstanceNorm<2>;

impl<const N: usize> InstanceNorm<N> {
    /// With torch's defaults: eps 1e-5, neither scale nor shift.
    pub fn new(num_features: usize) -> InstanceNorm<N> {
        InstanceNorm { num_features, eps: 1e-5, affine: false }
    }
    /// The same with a scale and a shift per channel.
    pub fn affine(mut self) -> InstanceNorm<N> {
        self.affine = true;
        self
    }
}

impl<const N: usize> Module for InstanceNorm<N> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let (c, loc) = (self.num_features, Location::caller());
        let batched = x.rank() == N + 2;
        if !(batched || x.rank() == N + 1) || x.shape()[x.rank() - N - 1] != c {
            let detail = format!("{} expects {c} channels before {N} further dimensions, got {}", place(scope), x.ty());
            return x.fail(&format!("instance_norm{N}d"), detail, loc);
        }
        let weight = self.affine.then(|| scope.param("weight", [c], Init::ONES));
        let bias = self.affine.then(|| scope.param("bias", [c], Init::ZEROS));
        let y = if batched { x.clone() } else { x.unsqueeze(0) };
        let y = y.instance_norm(weight.as_ref(), bias.as_ref(), self.eps);
        if batched { y } else { y.squeeze(0) }
    }
}
