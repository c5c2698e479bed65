//! torch's convolutions over one, two or three spatial dimensions, and their transposes, on the one primitive `Conv`.

use crate::error::Loc;
use crate::ir::{ConvDims, Tensor};
use std::panic::Location;

/// Zeros around the input of a convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Padding {
    /// As many on both sides, per spatial dimension.
    Zeros(Vec<usize>),
    /// Such that the output has the size of the input (stride 1): the smaller half before.
    Same,
    /// None.
    Valid,
}

/// Geometry of a convolution, one entry per spatial dimension. `ConvOptions::new(2)` has torch's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvOptions {
    /// Distance between windows.
    pub stride: Vec<usize>,
    /// Zeros around the input.
    pub padding: Padding,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
    /// Groups into which the channels split.
    pub groups: usize,
    /// Elements added at the end of the output; only for transposed convolution.
    pub output_padding: Vec<usize>,
}

impl ConvOptions {
    /// Stride 1, no padding, no dilation, one group.
    pub fn new(dims: usize) -> ConvOptions {
        ConvOptions {
            stride: vec![1; dims],
            padding: Padding::Valid,
            dilation: vec![1; dims],
            groups: 1,
            output_padding: vec![0; dims],
        }
    }
    /// With another distance between windows.
    pub fn stride(mut self, stride: impl Into<Vec<usize>>) -> ConvOptions {
        self.stride = stride.into();
        self
    }
    /// With zeros around the input.
    pub fn padding(mut self, padding: impl Into<Vec<usize>>) -> ConvOptions {
        self.padding = Padding::Zeros(padding.into());
        self
    }
    /// With distance between the elements of a window.
    pub fn dilation(mut self, dilation: impl Into<Vec<usize>>) -> ConvOptions {
        self.dilation = dilation.into();
        self
    }
    /// With channels in groups.
    pub fn groups(mut self, groups: usize) -> ConvOptions {
        self.groups = groups;
        self
    }

    /// Padding before and after for a kernel of these sizes, or what does not fit.
    fn pads(&self, kernel: &[usize]) -> Result<Vec<(i64, i64)>, String> {
        let n = kernel.len();
        if [self.stride.len(), self.dilation.len(), self.output_padding.len()] != [n; 3] {
            return Err(format!("needs stride and dilation for {n} spatial dimensions, got {self:?}"));
        }
        match &self.padding {
            Padding::Valid => Ok(vec![(0, 0); n]),
            Padding::Zeros(p) if p.len() == n => Ok(p.iter().map(|&p| (p as i64, p as i64)).collect()),
            Padding::Zeros(p) => Err(format!("padding {p:?} is not for {n} spatial dimensions")),
            Padding::Same if self.stride.iter().any(|&s| s != 1) => {
                Err("padding to the same size needs stride 1".to_string())
            }
            Padding::Same => {
                let total = |d: usize| self.dilation[d] as i64 * (kernel[d] as i64 - 1);
                Ok((0..n).map(|d| (total(d) / 2, total(d) - total(d) / 2)).collect())
            }
        }
    }
}

impl Tensor {
    /// Cross-correlation of `[N, C, S..]` or `[C, S..]` with `weight [O, C/groups, K..]`, plus `bias [O]`.
    #[track_caller]
    pub fn conv_nd(&self, weight: &Tensor, bias: Option<&Tensor>, o: &ConvOptions) -> Tensor {
        let loc = Location::caller();
        let Some((x, batched)) = batch_of("conv", self, weight, loc) else { return self.clone() };
        let pad = match o.pads(&weight.shape()[2..]) {
            Ok(pad) => pad,
            Err(detail) => return self.fail("conv", detail, loc),
        };
        let dims = ConvDims {
            stride: o.stride.clone(),
            pad,
            lhs_dilation: vec![1; weight.rank() - 2],
            rhs_dilation: o.dilation.clone(),
            groups: o.groups,
        };
        finish("conv", x.conv(weight, dims), bias, batched, loc)
    }

    /// The adjoint of a convolution as a function of its input: `[N, C, S..]` or `[C, S..]` with
    /// `weight [C, O/groups, K..]`, plus `bias [O]`. Sizes are (n-1) stride - 2 padding + dilation (k-1) + output_padding + 1.
    #[track_caller]
    pub fn conv_transpose_nd(&self, weight: &Tensor, bias: Option<&Tensor>, o: &ConvOptions) -> Tensor {
        const OP: &str = "conv_transpose";
        let loc = Location::caller();
        let Some((x, batched)) = batch_of(OP, self, weight, loc) else { return self.clone() };
        let (kernel, g) = (&weight.shape()[2..], o.groups);
        let pads = match o.pads(kernel) {
            Ok(pads) if o.padding != Padding::Same => pads,
            Ok(_) => return self.fail(OP, "takes no \"same\" padding", loc),
            Err(detail) => return self.fail(OP, detail, loc),
        };
        let (c, per_group) = (weight.size(0), weight.size(1));
        if g == 0 || c % g != 0 || x.size(1) != c {
            let detail = format!("channels do not fit {g} groups (input {}, weight {})", self.ty(), weight.ty());
            return self.fail(OP, detail, loc);
        }
        // [C, O/g, K..] -> [O, C/g, K..] with the kernel turned around.
        let grouped = weight.reshape([&[g, c / g, per_group], kernel].concat()).transpose(1, 2);
        let spatial: Vec<isize> = (2..weight.rank() as isize).collect();
        let turned = grouped.reshape([&[g * per_group, c / g], kernel].concat()).flip(&spatial);
        let pad = (0..kernel.len())
            .map(|d| {
                let reach = o.dilation[d] as i64 * (kernel[d] as i64 - 1);
                (reach - pads[d].0, reach - pads[d].1 + o.output_padding[d] as i64)
            })
            .collect();
        let dims = ConvDims {
            stride: vec![1; kernel.len()],
            pad,
            lhs_dilation: o.stride.clone(),
            rhs_dilation: o.dilation.clone(),
            groups: g,
        };
        finish(OP, x.conv(&turned, dims), bias, batched, loc)
    }
}

/// The input with a batch dimension, and whether it had one; `None` after recording a misfit.
fn batch_of(op: &str, x: &Tensor, weight: &Tensor, loc: Loc) -> Option<(Tensor, bool)> {
    if weight.rank() < 3 || (x.rank() != weight.rank() && x.rank() + 1 != weight.rank()) {
        x.fail(op, format!("input {} does not fit weight {}", x.ty(), weight.ty()), loc);
        return None;
    }
    let batched = x.rank() == weight.rank();
    Some((if batched { x.clone() } else { x.unsqueeze(0) }, batched))
}

fn finish(op: &str, y: Tensor, bias: Option<&Tensor>, batched: bool, loc: Loc) -> Tensor {
    let y = match bias {
        Some(b) if b.rank() == 1 && b.size(0) == y.size(1) => y.clone() + b.along_axis(1, y.rank()),
        Some(b) => return y.fail(op, format!("bias {} is not one value per channel of {}", b.ty(), y.ty()), loc),
        None => y,
    };
    if batched { y } else { y.squeeze(0) }
}
