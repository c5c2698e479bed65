//! Convolutions over one, two or three dimensions, and their transposes.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use crate::ops::PadMode;
use crate::ops::conv::{ConvOptions, Padding};
use std::panic::Location;

/// Cross-correlation of (N, C, S..) or (C, S..) with N spatial dimensions. Parameters: `weight` (out, in/groups, K..), `bias`
/// (out).
#[derive(Debug, Clone, PartialEq)]
pub struct Conv<const N: usize> {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Sizes of the window.
    pub kernel: [usize; N],
    /// Step of the window.
    pub stride: [usize; N],
    /// How much is put around the input.
    pub padding: Padding,
    /// What is put there: zeros, as a rule.
    pub padding_mode: PadMode,
    /// Distance between neighbouring elements of the window.
    pub dilation: [usize; N],
    /// Number of groups into which the channels split.
    pub groups: usize,
    /// Whether there is a bias per output channel.
    pub bias: bool,
    /// Distribution of the weight at the start.
    pub init: Init,
}

/// Over sequences (N, C, L) or (C, L).
pub type Conv1d = Conv<1>;
/// Over images (N, C, H, W) or (C, H, W).
pub type Conv2d = Conv<2>;
/// Over volumes (N, C, D, H, W) or (C, D, H, W).
pub type Conv3d = Conv<3>;

impl<const N: usize> Conv<N> {
    /// A window of equal sides, stride 1, no padding, with bias and torch's initial distributions.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Conv<N> {
        Conv {
            in_channels,
            out_channels,
            kernel: [kernel; N],
            stride: [1; N],
            padding: Padding::Valid,
            padding_mode: PadMode::Constant(0.0),
            dilation: [1; N],
            groups: 1,
            bias: true,
            init: Init::TORCH_WEIGHT,
        }
    }
    /// The same with this step.
    pub fn stride(mut self, n: usize) -> Conv<N> {
        self.stride = [n; N];
        self
    }
    /// The same with so many zeros on each side.
    pub fn padding(mut self, n: usize) -> Conv<N> {
        self.padding = Padding::Zeros(vec![n; N]);
        self
    }
    /// The same with this around the input instead of zeros (torch's `padding_mode`).
    pub fn padding_mode(mut self, mode: PadMode) -> Conv<N> {
        self.padding_mode = mode;
        self
    }
    /// The same with this distance between elements of the window.
    pub fn dilation(mut self, n: usize) -> Conv<N> {
        self.dilation = [n; N];
        self
    }
    /// The same with so many groups.
    pub fn groups(mut self, n: usize) -> Conv<N> {
        self.groups = n;
        self
    }
    /// The same without bias.
    pub fn without_bias(mut self) -> Conv<N> {
        self.bias = false;
        self
    }
}

impl<const N: usize> Module for Conv<N> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let (c, o, g) = (self.in_channels, self.out_channels, self.groups);
        if let Some(detail) = misfit::<N>(scope, x, c, o, g) {
            return x.fail(&format!("conv{N}d"), detail, Location::caller());
        }
        let per_group = c / g;
        let weight = scope.param("weight", [&[o, per_group], &self.kernel[..]].concat(), self.init.clone());
        let fan_in = per_group * self.kernel.iter().product::<usize>();
        let bias = self.bias.then(|| scope.param("bias", [o], Init::torch_bias(fan_in)));
        let mut options = ConvOptions::new(N).stride(self.stride).dilation(self.dilation).groups(g);
        if self.padding_mode == PadMode::Constant(0.0) {
            options.padding = self.padding.clone();
            return x.conv_nd(&weight, bias.as_ref(), &options);
        }
        let padded = x.pad_with(&self.pads(), self.padding_mode);
        padded.conv_nd(&weight, bias.as_ref(), &options)
    }
}

impl<const N: usize> Conv<N> {
    /// What is put before and after each spatial dimension, the last one first.
    fn pads(&self) -> Vec<(i64, i64)> {
        let pads = |d: usize| match &self.padding {
            Padding::Valid => (0, 0),
            Padding::Zeros(n) => (n[d] as i64, n[d] as i64),
            Padding::Same => {
                let total = (self.dilation[d] * (self.kernel[d] - 1)) as i64;
                (total / 2, total - total / 2)
            }
        };
        (0..N).rev().map(pads).collect()
    }
}

/// The adjoint of a convolution as a function of its input: sizes are
/// (n-1) stride - 2 padding + dilation (k-1) + output_padding + 1. Parameters: `weight` (in, out/groups, K..), `bias` (out).
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose<const N: usize> {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Sizes of the window.
    pub kernel: [usize; N],
    /// Step of the window in the output.
    pub stride: [usize; N],
    /// What is cut off on each side of the output.
    pub padding: [usize; N],
    /// Elements added at the end of the output.
    pub output_padding: [usize; N],
    /// Distance between neighbouring elements of the window.
    pub dilation: [usize; N],
    /// Number of groups into which the channels split.
    pub groups: usize,
    /// Whether there is a bias per output channel.
    pub bias: bool,
    /// Distribution of the weight at the start.
    pub init: Init,
}

/// Over sequences (N, C, L) or (C, L).
pub type ConvTranspose1d = ConvTranspose<1>;
/// Over images (N, C, H, W) or (C, H, W).
pub type ConvTranspose2d = ConvTranspose<2>;
/// Over volumes (N, C, D, H, W) or (C, D, H, W).
pub type ConvTranspose3d = ConvTranspose<3>;

impl<const N: usize> ConvTranspose<N> {
    /// A window of equal sides, stride 1, no padding, with bias and torch's initial distributions.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> ConvTranspose<N> {
        ConvTranspose {
            in_channels,
            out_channels,
            kernel: [kernel; N],
            stride: [1; N],
            padding: [0; N],
            output_padding: [0; N],
            dilation: [1; N],
            groups: 1,
            bias: true,
            init: Init::TORCH_WEIGHT,
        }
    }
    /// The same with this step.
    pub fn stride(mut self, n: usize) -> ConvTranspose<N> {
        self.stride = [n; N];
        self
    }
    /// The same with so much cut off on each side.
    pub fn padding(mut self, n: usize) -> ConvTranspose<N> {
        self.padding = [n; N];
        self
    }
    /// The same with so many groups.
    pub fn groups(mut self, n: usize) -> ConvTranspose<N> {
        self.groups = n;
        self
    }
    /// The same without bias.
    pub fn without_bias(mut self) -> ConvTranspose<N> {
        self.bias = false;
        self
    }
}

impl<const N: usize> Module for ConvTranspose<N> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let (c, o, g) = (self.in_channels, self.out_channels, self.groups);
        if let Some(detail) = misfit::<N>(scope, x, c, o, g) {
            return x.fail(&format!("conv_transpose{N}d"), detail, Location::caller());
        }
        let per_group = o / g;
        let weight = scope.param("weight", [&[c, per_group], &self.kernel[..]].concat(), self.init.clone());
        // torch counts dimension 1 of the weight as the inputs of an output, here as there.
        let fan_in = per_group * self.kernel.iter().product::<usize>();
        let bias = self.bias.then(|| scope.param("bias", [o], Init::torch_bias(fan_in)));
        let mut options =
            ConvOptions::new(N).stride(self.stride).padding(self.padding).dilation(self.dilation).groups(g);
        options.output_padding = self.output_padding.to_vec();
        x.conv_transpose_nd(&weight, bias.as_ref(), &options)
    }
}

/// What does not fit a convolution over N dimensions from `c` to `o` channels in `g` groups.
fn misfit<const N: usize>(scope: &Scope, x: &Tensor, c: usize, o: usize, g: usize) -> Option<String> {
    if g == 0 || !c.is_multiple_of(g) || !o.is_multiple_of(g) {
        return Some(format!("{}: {c} input and {o} output channels do not split into {g} groups", place(scope)));
    }
    if !(x.rank() == N + 1 || x.rank() == N + 2) || x.shape()[x.rank() - N - 1] != c {
        let detail = format!("{} expects {c} channels before {N} further dimensions, got {}", place(scope), x.ty());
        return Some(detail);
    }
    None
}
