//! Convolutions as products with an unfolded input. Three ways, by shape:
//! - per sample: weights times the unfolded positions of one sample (or a part of it), written in place;
//! - in groups of samples, where a sample has few positions (small images): through a scratch matrix;
//! - by contraction, where the "kernel" is larger than the output (weight gradients, which arrive as a convolution with
//!   batch and channels exchanged): the long contraction is cut into fixed parts whose sums are joined in order.

use super::Job;
use super::dot::{Gemm, Readable};
use super::memory::Words;
use super::par;
use super::pointwise::Epilogue;
use super::runner::Scratch;
use super::source::{Arg, Bound};
use super::turn::turn;
use super::unfold::{Input, Side, Three};
use crate::ir::{ConvDims, Prim};

/// Floats of an unfolded part: 1 MiB, as an L2 has.
const PART: usize = 256 * 1024;
/// Positions below which samples are grouped.
const FEW_POSITIONS: usize = 48;

struct Conv {
    x: Arg,
    w: Readable,
    input: Input,
    /// Kernel and output sizes, with the input's steps for each.
    kernel: Three<usize>,
    output: Three<usize>,
    stride: Three<usize>,
    spread: Three<usize>,
    samples: usize,
    /// Channels and outputs of one group.
    channels: usize,
    outputs: usize,
    groups: usize,
    /// Strides of the weight matrix: output, channel (a kernel position is 1).
    w_strides: (isize, isize),
    epilogue: Epilogue,
    aside: Option<Arg>,
}

fn three<T: Copy>(v: impl ExactSizeIterator<Item = T>, missing: T) -> Option<Three<T>> {
    let mut out = [missing; 3];
    let skip = 3usize.checked_sub(v.len())?;
    out[skip..].iter_mut().zip(v).for_each(|(o, x)| *o = x);
    Some(out)
}

/// The job of a convolution, or `None` for more than three spatial dimensions or an epilogue that is not pointwise.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let body = &bound.region.body;
    let (root, dims): (_, &ConvDims) = body.iter().find_map(|(id, n)| match &n.prim {
        Prim::Conv(dims) => Some((id, dims)),
        _ => None,
    })?;
    let epilogue = Epilogue::new(bound, root)?;
    let (x, w, out) = (&bound.args[0], &bound.args[1], bound.outs.first()?.clone());
    let (xs, ws) = (&x.view.shape, &w.view.shape);
    let result = body.shape(crate::ir::Value { node: root, out: 0 }).clone();
    let kernel = three(ws[2..].iter().copied(), 1)?;
    // The weights must have dense kernels; then output and channel may have any strides.
    let positions: usize = kernel.iter().product();
    let mut dense = 1;
    let mut keep = w.view.strides[..2].iter().all(|&s| s >= 0);
    for d in (2..ws.len()).rev() {
        keep &= ws[d] == 1 || w.view.strides[d] == dense;
        dense *= ws[d] as isize;
    }
    let w = Readable::new(w, keep)?;
    let input = Input {
        origin: x.origin(),
        size: three(xs[2..].iter().copied(), 1)?,
        strides: three(x.view.strides[2..].iter().copied(), 0)?,
        pad: three(dims.pad.iter().map(|p| p.0 as isize), 0)?,
        dilation: three(dims.lhs_dilation.iter().copied(), 1)?,
    };
    let w_strides = (w.arg.view.strides[0], w.arg.view.strides[1]);
    let conv = Conv {
        x: x.clone(),
        w,
        input,
        kernel,
        output: three(result[2..].iter().copied(), 1)?,
        stride: three(dims.stride.iter().copied(), 1)?,
        spread: three(dims.rhs_dilation.iter().copied(), 1)?,
        samples: xs[0],
        channels: ws[1],
        outputs: ws[0] / dims.groups,
        groups: dims.groups,
        w_strides,
        epilogue,
        aside: if bound.is_in_place() { Some(Arg::dense(&out.ty).ok()?) } else { None },
    };
    let positions_out: usize = conv.output.iter().product();
    Some(Box::new(move || {
        if out.elems() == 0 {
            return Ok(());
        }
        conv.w.prepare();
        let values = conv.aside.as_ref().map_or(out.words(), Arg::origin);
        if conv.channels == 0 {
            // SAFETY: the whole result, in this thread alone.
            unsafe {
                values.f32s_mut(out.elems()).fill(0.0);
                conv.epilogue.apply(values, out.words(), 0, out.elems());
            }
        } else if positions > 2 * positions_out && positions >= 32 {
            conv.by_contraction(values, out.words());
        } else if positions_out < FEW_POSITIONS && conv.samples > 1 {
            conv.by_groups(values, out.words());
        } else {
            conv.by_sample(values, out.words());
        }
        Ok(())
    }))
}

impl Conv {
    /// The channels `first ..` of group `g` with all kernel positions.
    fn channels(&self, g: usize, first: usize, count: usize) -> Side {
        let first = g * self.channels + first;
        Side { first, count, stride: self.x.view.strides[1], size: self.kernel, step: self.spread }
    }

    fn samples(&self, first: usize, count: usize) -> Side {
        Side { first, count, stride: self.x.view.strides[0], size: self.output, step: self.stride }
    }

    fn positions(&self) -> usize {
        self.output.iter().product()
    }

    fn kernel_len(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Nanoseconds for everything, roughly.
    fn cost(&self) -> f64 {
        let out = self.samples * self.groups * self.outputs * self.positions();
        let depth = self.channels * self.kernel_len();
        out as f64 * (depth as f64 / 40.0 + self.epilogue.cost())
            + (self.samples * self.groups * depth * self.positions()) as f64 * 0.3
    }

    /// Runs `f` per contiguous block of channels that one product can take: all of them if the weights are dense.
    fn channel_blocks(&self, most: usize, mut f: impl FnMut(usize, usize)) {
        let dense = self.channels == 1 || self.w_strides.1 == self.kernel_len() as isize;
        let block = if dense { most.max(1) } else { 1 };
        let mut c = 0;
        while c < self.channels {
            let n = block.min(self.channels - c);
            f(c, n);
            c += n;
        }
    }

    fn weights(&self, g: usize, channel: usize) -> Words {
        let at = (g * self.outputs) as isize * self.w_strides.0 + channel as isize * self.w_strides.1;
        self.w.arg.origin().at(at as usize)
    }

    /// True if the input itself is the unfolded matrix of a sample.
    fn is_pointwise(&self) -> bool {
        let contiguous = (0..3).rev().try_fold(1, |run: isize, d| {
            let fits = self.input.size[d] == 1 || self.input.strides[d] == run;
            fits.then_some(run * self.input.size[d] as isize)
        });
        self.kernel == [1; 3]
            && self.stride == [1; 3]
            && self.input.pad == [0; 3]
            && self.input.dilation == [1; 3]
            && self.input.size == self.output
            && self.x.view.strides[1] >= 0
            && contiguous.is_some()
    }

    fn by_sample(&self, values: Words, out: Words) {
        let (positions, depth) = (self.positions(), self.channels * self.kernel_len());
        // Parts of a sample: whole slices along the outermost spatial dimension that has several.
        let axis = (0..3).find(|&d| self.output[d] > 1).unwrap_or(2);
        let slice = positions / self.output[axis];
        let direct = self.is_pointwise();
        let most = if direct { PART / 8 } else { PART / depth.max(1) };
        let slices = (most / slice).clamp(1, self.output[axis]);
        let parts = self.output[axis].div_ceil(slices);
        let tasks = self.samples * self.groups * parts;
        par::each(tasks, self.cost(), |i| {
            let (n, g, part) = (i / parts / self.groups, i / parts % self.groups, i % parts);
            let (first, count) = (part * slices, slices.min(self.output[axis] - part * slices));
            let width = count * slice;
            let at = (n * self.groups + g) * self.outputs * positions + first * slice;
            let mut scratch = Scratch::new(if direct { 0 } else { depth * width });
            let mut gemm = Gemm {
                m: self.outputs,
                n: width,
                k: depth,
                lhs: (self.w_strides.0, 1),
                rhs: (width as isize, 1),
                dst: (positions as isize, 1),
            };
            let matrix = if direct {
                gemm.rhs.0 = self.x.view.strides[1];
                gemm.lhs.1 = self.w_strides.1;
                let from = n as isize * self.x.view.strides[0] + (g * self.channels) as isize * gemm.rhs.0;
                Words(self.input.origin.0.wrapping_offset(from)).at(first * slice)
            } else {
                let mut columns = self.samples(n, 1);
                columns.size[axis] = count;
                let mut input = self.input;
                input.pad[axis] -= (first * self.stride[axis]) as isize;
                // SAFETY: the scratch is as large as the matrix; the operand was checked when bound.
                unsafe { input.unfold(self.channels(g, 0, self.channels), columns, scratch.ptr()) };
                scratch.ptr()
            };
            // SAFETY: these rows and columns of the result belong to this task.
            unsafe {
                if direct {
                    gemm.run(values.at(at), self.weights(g, 0), matrix, false, false);
                } else {
                    let kernel = self.kernel_len();
                    self.channel_blocks(self.channels, |c, n| {
                        let part = Gemm { k: n * kernel, ..gemm };
                        part.run(values.at(at), self.weights(g, c), matrix.at(c * kernel * width), c > 0, false);
                    });
                }
                if self.epilogue.is_none() {
                } else if parts == 1 {
                    self.epilogue.apply(values.at(at), out, at, self.outputs * positions);
                } else {
                    for o in 0..self.outputs {
                        let from = at + o * positions;
                        self.epilogue.apply(values.at(from), out, from, width);
                    }
                }
            }
        });
    }

    fn by_groups(&self, values: Words, out: Words) {
        let (positions, depth) = (self.positions(), self.channels * self.kernel_len());
        let together = (PART / (depth * positions)).clamp(1, 512usize.div_ceil(positions)).min(self.samples);
        let parts = self.samples.div_ceil(together);
        par::each(parts * self.groups, self.cost(), |i| {
            let (g, first) = (i % self.groups, i / self.groups * together);
            let count = together.min(self.samples - first);
            let width = count * positions;
            let mut scratch = Scratch::new(depth * width + self.outputs * width);
            let (matrix, product) = (scratch.ptr(), scratch.ptr().at(depth * width));
            let kernel = self.kernel_len();
            // SAFETY: the scratch has room for both matrices; the results of these samples belong to this task.
            unsafe {
                self.input.unfold(self.channels(g, 0, self.channels), self.samples(first, count), matrix);
                self.channel_blocks(self.channels, |c, n| {
                    let gemm = Gemm {
                        m: self.outputs,
                        n: width,
                        k: n * kernel,
                        lhs: (self.w_strides.0, 1),
                        rhs: (width as isize, 1),
                        dst: (width as isize, 1),
                    };
                    gemm.run(product, self.weights(g, c), matrix.at(c * kernel * width), c > 0, false);
                });
                for s in 0..count {
                    let at = ((first + s) * self.groups + g) * self.outputs * positions;
                    for o in 0..self.outputs {
                        let from = product.at(o * width + s * positions).f32s(positions);
                        values.at(at + o * positions).f32s_mut(positions).copy_from_slice(from);
                    }
                    if self.groups > 1 {
                        self.epilogue.apply(values.at(at), out, at, self.outputs * positions);
                    }
                }
                if self.groups == 1 {
                    let (at, len) = (first * self.outputs * positions, count * self.outputs * positions);
                    self.epilogue.apply(values.at(at), out, at, len);
                }
            }
        });
    }

    fn by_contraction(&self, values: Words, out: Words) {
        let (positions, kernel) = (self.positions(), self.kernel_len());
        let all = self.samples * positions;
        let size = self.outputs * all;
        // Fixed parts of the contraction, each a task with a sum of its own.
        let per_task = self.channels.div_ceil(8).max(1);
        let parts = self.channels.div_ceil(per_task);
        let together = (PART / (kernel * positions)).clamp(1, self.samples);
        for g in 0..self.groups {
            let mut sums = Scratch::new(parts * size);
            let sums = sums.ptr();
            par::each(parts, self.cost() / self.groups as f64, |part| {
                let mine = sums.at(part * size);
                let end = ((part + 1) * per_task).min(self.channels);
                let block = (PART / (kernel * positions * together)).max(1);
                let mut c = part * per_task;
                while c < end {
                    let dense = self.w_strides.1 == kernel as isize;
                    let n = if dense { block.min(end - c) } else { 1 };
                    let depth = n * kernel;
                    // One side has to be turned to be multiplied: the weights, which are fewer than the unfolded elements.
                    let (stride, mut turned) = (self.w_strides.0 as usize, Scratch::new(depth * self.outputs));
                    // SAFETY: one stretch of each output's weights.
                    let w = unsafe { self.weights(g, c).f32s((self.outputs - 1) * stride + depth) };
                    turn(w, stride, self.outputs, depth, turned.f32s(depth * self.outputs), self.outputs);
                    let mut first = 0;
                    while first < self.samples {
                        let count = together.min(self.samples - first);
                        let width = count * positions;
                        let mut scratch = Scratch::new(width * depth);
                        let gemm = Gemm {
                            m: width,
                            n: self.outputs,
                            k: depth,
                            lhs: (depth as isize, 1),
                            rhs: (self.outputs as isize, 1),
                            dst: (self.outputs as isize, 1),
                        };
                        let to = mine.at(first * positions * self.outputs);
                        // SAFETY: the scratch has room; the part's sums belong to this task.
                        unsafe {
                            self.input.unfold(self.samples(first, count), self.channels(g, c, n), scratch.ptr());
                            gemm.run(to, scratch.ptr(), turned.ptr(), c > part * per_task, false);
                        }
                        first += count;
                    }
                    c += n;
                }
            });
            for s in 0..self.samples {
                let at = (s * self.groups + g) * self.outputs * positions;
                // SAFETY: all tasks are done; this thread alone writes the result.
                unsafe {
                    for o in 0..self.outputs {
                        let row = values.at(at + o * positions).f32s_mut(positions);
                        for (p, v) in row.iter_mut().enumerate() {
                            let from = (s * positions + p) * self.outputs + o;
                            *v = (0..parts).map(|part| *sums.at(part * size + from).f32s(1).as_ptr()).sum();
                        }
                    }
                    self.epilogue.apply(values.at(at), out, at, self.outputs * positions);
                }
            }
        }
    }
}
