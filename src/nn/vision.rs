//! Blocks for images: the self-attention of SAGAN and the spatial transformer.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{Conv2d, Init, Linear, Module, Scope};
use crate::ops::attention::AttentionOptions;
use crate::ops::grid::{GridMode, Outside};
use std::panic::Location;

/// Self-attention over the pixels of (N, C, H, W) (arXiv 1805.08318): `y = gamma o + x` with
/// `o_j = sum_i softmax_i(f(x_i) . g(x_j)) h(x_i)`, gamma 0 at the start, so that the block starts as the identity.
/// Parameters: 1x1 convolutions `query_conv` (g) and `key_conv` (f) to C/reduction channels, `value_conv` (h) to C, and
/// `gamma` (1).
#[derive(Debug, Clone, PartialEq)]
pub struct SaganAttention {
    /// C, the number of channels.
    pub channels: usize,
    /// How many times fewer channels queries and keys have, at least one; 8 in the paper.
    pub reduction: usize,
}

impl SaganAttention {
    /// With an eighth of the channels in queries and keys.
    pub fn new(channels: usize) -> SaganAttention {
        SaganAttention { channels, reduction: 8 }
    }
}

impl Module for SaganAttention {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let c = self.channels;
        if x.rank() != 4 || x.size(1) != c {
            let detail = format!("{} expects (N, {c}, H, W), got {}", place(scope), x.ty());
            return x.fail("sagan_attention", detail, Location::caller());
        }
        let (n, pixels, narrow) = (x.size(0), x.size(2) * x.size(3), (c / self.reduction.max(1)).max(1));
        let project = |name: &str, channels: usize| {
            let y = scope.run(name, &Conv2d::new(c, channels, 1), x);
            y.reshape([n, 1, channels, pixels]).transpose(2, 3)
        };
        let (q, k, v) = (project("query_conv", narrow), project("key_conv", narrow), project("value_conv", c));
        let unscaled = AttentionOptions { scale: Some(1.0), ..Default::default() };
        let o = q.scaled_dot_product_attention(&k, &v, &unscaled).transpose(2, 3).reshape(x.shape());
        o * scope.param("gamma", [1], Init::ZEROS) + x
    }
}

/// Lets a network choose how to look at its input (arXiv 1506.02025): `localization` maps the images (N, C, H, W) to
/// features (N, F..), the linear layer `fc_loc` these to six numbers theta per image, and the result is sampled at the grid
/// theta [x, y, 1]. Starts as the identity: `fc_loc.weight` is zero, `fc_loc.bias` (1, 0, 0, 0, 1, 0).
#[derive(Debug, Clone, PartialEq)]
pub struct SpatialTransformer<L> {
    /// From images to features; what it gives is flattened.
    pub localization: L,
    /// Height and width of the result; `None`: those of the input.
    pub output_size: Option<[usize; 2]>,
    /// What lies outside the image.
    pub outside: Outside,
    /// -1 and 1 are the centres of the corner pixels instead of the edges of the image.
    pub align_corners: bool,
}

impl<L> SpatialTransformer<L> {
    /// The size of the input, zeros outside, bilinear, as torch's `grid_sample`.
    pub fn new(localization: L) -> SpatialTransformer<L> {
        SpatialTransformer { localization, output_size: None, outside: Outside::Zeros, align_corners: false }
    }
}

impl<L: Module> Module for SpatialTransformer<L> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        const OP: &str = "spatial_transformer";
        let loc = Location::caller();
        if x.rank() != 4 {
            return x.fail(OP, format!("{} expects (N, C, H, W), got {}", place(scope), x.ty()), loc);
        }
        let features = scope.run("localization", &self.localization, x);
        if features.rank() < 2 || features.size(0) != x.size(0) {
            let detail = format!("{}: the localization must give (N, ..), got {}", place(scope), features.ty());
            return x.fail(OP, detail, loc);
        }
        let features = features.flatten(1, -1);
        let identity = Init::Values(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let last = Linear::new(features.size(1), 6).init(Init::ZEROS, identity);
        let theta = scope.run("fc_loc", &last, &features).reshape([x.size(0), 2, 3]);
        let [h, w] = self.output_size.unwrap_or([x.size(2), x.size(3)]);
        x.grid_sample(
            &theta.affine_grid(&[h, w], self.align_corners),
            GridMode::Bilinear,
            self.outside,
            self.align_corners,
        )
    }
}
