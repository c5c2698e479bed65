//! Two-dimensional convolution.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use crate::ops::conv::{ConvOptions, Padding};
use std::panic::Location;

/// Cross-correlation of images (N, C, H, W) or (C, H, W). Parameters: `weight` (out, in/groups, kh, kw), `bias` (out).
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Distance between neighbouring elements of the window.
    pub dilation: [usize; 2],
    /// Number of groups into which the channels split.
    pub groups: usize,
    /// Whether there is a bias per output channel.
    pub bias: bool,
    /// Distribution of the weight at the start.
    pub init: Init,
}

impl Conv2d {
    /// A square window, stride 1, no padding, with bias and torch's initial distributions.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Conv2d {
        Conv2d {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: Padding::Valid,
            dilation: [1; 2],
            groups: 1,
            bias: true,
            init: Init::TORCH_WEIGHT,
        }
    }
    /// The same with this step.
    pub fn stride(mut self, n: usize) -> Conv2d {
        self.stride = [n; 2];
        self
    }
    /// The same with so many zeros on each side.
    pub fn padding(mut self, n: usize) -> Conv2d {
        self.padding = Padding::Zeros(vec![n; 2]);
        self
    }
    /// The same with this distance between elements of the window.
    pub fn dilation(mut self, n: usize) -> Conv2d {
        self.dilation = [n; 2];
        self
    }
    /// The same with so many groups.
    pub fn groups(mut self, n: usize) -> Conv2d {
        self.groups = n;
        self
    }
    /// The same without bias.
    pub fn without_bias(mut self) -> Conv2d {
        self.bias = false;
        self
    }
}

impl Module for Conv2d {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let loc = Location::caller();
        let (c, o, g) = (self.in_channels, self.out_channels, self.groups);
        if g == 0 || c % g != 0 || o % g != 0 {
            let detail = format!("{}: {c} input and {o} output channels do not split into {g} groups", place(scope));
            return x.fail("conv2d", detail, loc);
        }
        if !matches!(x.rank(), 3 | 4) || x.size(-3) != c {
            let detail = format!("{} expects (N, {c}, H, W) or ({c}, H, W), got {}", place(scope), x.ty());
            return x.fail("conv2d", detail, loc);
        }
        let [kh, kw] = self.kernel;
        let weight = scope.param("weight", [o, c / g, kh, kw], self.init.clone());
        let bias = self.bias.then(|| scope.param("bias", [o], Init::torch_bias(c / g * kh * kw)));
        let mut options = ConvOptions::new(2).stride(self.stride).dilation(self.dilation).groups(g);
        options.padding = self.padding.clone();
        x.conv_nd(&weight, bias.as_ref(), &options)
    }
}
