//! Convolutions as products of packed operands (`packed.rs`), for software adapters: rows are pixels of the result, columns its
//! channels. The input is packed once, with its padding and with four channels to a texel, so that the rows of the im2col matrix are
//! shifts of it: a step of the inner loop is one texel per pixel, and no element is tested against an edge.

use super::choice::{Choice, Packing, Size};
use super::conv2d::Phase;
use super::packed::{self, Pack};
use super::{Bind, IMAGE_WIDTH};
use crate::backend::gpu::caps::GpuCaps;

/// The WGSL struct `Image`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Image {
    /// Sizes z, y, x with the padding; texels of a pixel.
    pub size: [u32; 4],
    /// Step between pixels of the result (z, y, x); texels of a pixel and group.
    pub step: [u32; 4],
    /// Input coordinates per coordinate along x; taps along x that are channels here; channels of a group and their number of taps
    /// taken together; images.
    pub fold: [u32; 4],
    /// Taps (z, y, x) of the inner loop and their product times texels.
    pub taps: [u32; 4],
    /// Texels between taps (z, y, x).
    pub tap: [u32; 4],
    /// What the walk adds where its channels, its x and its y end.
    pub jump: [i32; 4],
}

/// A convolution phase, packed.
pub(super) struct PackedConv {
    pub image: Image,
    pub packing: Packing,
    /// Texels of the input.
    texels: u64,
}

impl PackedConv {
    /// Of a product with these sizes (out channels of a group, pixels, .., groups), input sizes (images, channels, z, y, x) and phase.
    pub fn new(natural: Size, x: [usize; 5], at: &[Phase; 3], caps: &GpuCaps) -> Option<PackedConv> {
        let groups = natural.batches;
        let channels = x[1] / groups;
        let steps_of = |fold: usize| {
            (channels * fold).div_ceil(4) * at[0].taps * at[1].taps * if fold > 1 { 1 } else { at[2].taps }
        };
        // Few channels leave texels half empty; taps along x fill them.
        let fold = if steps_of(at[2].taps) < steps_of(1) { at[2].taps } else { 1 };
        let texels_of_group = (channels * fold).div_ceil(4).max(1);
        let pixel = groups * texels_of_group;
        let taps = [at[0].taps, at[1].taps, if fold > 1 { 1 } else { at[2].taps }];
        let stride = [at[0].stride, at[1].stride, if fold > 1 { 1 } else { at[2].stride }];
        let extent = |d: usize| (at[d].count.max(1) - 1) * stride[d] + (taps[d].max(1) - 1) * at[d].dilation + 1;
        let size = [extent(0), extent(1), extent(2)];
        let steps = steps_of(fold);
        let tap =
            [at[0].dilation * size[1] * size[2] * pixel, at[1].dilation * size[2] * pixel, at[2].dilation * pixel];
        let (tx, ty, tz) = (tap[2] as i64, tap[1] as i64, tap[0] as i64);
        let jump =
            [tx - texels_of_group as i64, ty - taps[2] as i64 * tx, tz - taps[1] as i64 * ty, 0].map(|j| j as i32);
        let texels = x[0] as u64 * size.iter().product::<usize>() as u64 * pixel as u64;
        let four = |v: [usize; 3], last: usize| [v[0] as u32, v[1] as u32, v[2] as u32, last as u32];
        let image = Image {
            size: four(size, pixel),
            step: four(stride, texels_of_group),
            fold: [if fold > 1 { at[2].stride } else { 1 }, fold, channels * fold, x[0]].map(|v| v as u32),
            taps: four(taps.map(|t| t.max(1)), steps),
            tap: four(tap, 0),
            jump,
        };
        let size = Size { m: natural.n, n: natural.m, k: 4 * steps, gather: false, ..natural };
        let packing = Packing { size, texels: texels as usize + size.n * steps * groups };
        let fits = texels <= u64::from(caps.image_rows) * u64::from(IMAGE_WIDTH) && texels < 1 << 30;
        fits.then_some(PackedConv { image, packing, texels })
    }

    /// How many invocations pack: one for each pixel with its padding, one for four out channels and a step.
    pub fn invocations(&self) -> usize {
        let Size { n, k, batches, .. } = self.packing.size;
        let [z, y, x, _] = self.image.size.map(|s| s as usize);
        self.image.fold[3] as usize * z * y * x + n.div_ceil(4) * (k / 4) * batches
    }

    /// What packs the operands.
    pub fn pack(&self, choice: &Choice, caps: &GpuCaps) -> Pack<'static> {
        let Size { m, n, k, batches, .. } = self.packing.size;
        Pack {
            stem: "conv2d_pack",
            text: include_str!("../../../../shaders/conv2d_pack.wgsl"),
            loaders: String::new(),
            operands: [("f32", Bind::Arg(0)), ("f32", Bind::Arg(1))],
            texels: [self.texels, packed::texels([m, n, k, batches], choice.frame, caps)[1]],
            images: [0, 1],
            invocations: self.invocations() as u64,
        }
    }
}
