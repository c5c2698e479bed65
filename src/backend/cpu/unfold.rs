//! The matrices that turn convolutions into products. An element of the unfolded input is named by a channel, a kernel
//! position k, a sample and an output position p; it lies at p * stride + k * dilation - pad of the (dilated) input.
//! Whichever of k and p has the longer innermost run becomes the matrix's columns, so that runs are plain copies.

use super::memory::Words;

/// Spatial dimensions, always three: missing ones have size 1.
pub(super) type Three<T> = [T; 3];

/// The input of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    pub origin: Words,
    pub size: Three<usize>,
    pub strides: Three<isize>,
    pub pad: Three<isize>,
    pub dilation: Three<usize>,
}

/// One side of the matrix: an outer dimension (channels or samples) and a window position, with what a step of each
/// means in the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub first: usize,
    pub count: usize,
    pub stride: isize,
    pub size: Three<usize>,
    pub step: Three<usize>,
}

impl Input {
    /// Index in the stored input of position `at` of the dilated, padded one, or `None` if there is a zero.
    #[inline(always)]
    fn stored(&self, d: usize, at: isize) -> Option<isize> {
        let dilation = self.dilation[d] as isize;
        if at < 0 || (dilation != 1 && at % dilation != 0) {
            return None;
        }
        let i = if dilation == 1 { at } else { at / dilation };
        (i < self.size[d] as isize).then_some(i)
    }

    /// Writes the matrix with `rows.len()` rows of `columns.len()` elements, row-major.
    ///
    /// # Safety
    /// The input's memory is live and large enough for its sizes and strides, `to` has room, nobody else touches it.
    pub(super) unsafe fn unfold(&self, rows: Side, columns: Side, to: Words) {
        let (run, plane) = (columns.size[2], columns.size[1] * columns.size[2]);
        let shifts = self.shifts(&columns);
        let mut out = to.0.cast::<f32>();
        for channel in 0..rows.count {
            let at_row = (rows.first + channel) as isize * rows.stride;
            for a0 in 0..rows.size[0] {
                for a1 in 0..rows.size[1] {
                    for a2 in 0..rows.size[2] {
                        let base = |d: usize, a: usize| (a * rows.step[d]) as isize - self.pad[d];
                        let (o0, o1, o2) = (base(0, a0), base(1, a1), base(2, a2));
                        for sample in 0..columns.count {
                            let at = at_row + (columns.first + sample) as isize * columns.stride;
                            for b0 in 0..columns.size[0] {
                                let i0 = self.stored(0, o0 + (b0 * columns.step[0]) as isize);
                                if let (Some(i0), true) = (i0, shifts) {
                                    // SAFETY: `out` stays inside `to`; the plane at `i0` is stored.
                                    unsafe {
                                        self.shifted(out, columns.size[1], at + i0 * self.strides[0], o1, o2);
                                        out = out.add(plane);
                                    }
                                    continue;
                                }
                                for b1 in 0..columns.size[1] {
                                    let i1 = self.stored(1, o1 + (b1 * columns.step[1]) as isize);
                                    // SAFETY: `out` stays inside `to`; the run reads stored elements only.
                                    unsafe {
                                        match (i0, i1) {
                                            (Some(i0), Some(i1)) => {
                                                let from = at + i0 * self.strides[0] + i1 * self.strides[1];
                                                self.run(out, run, from, o2, columns.step[2]);
                                            }
                                            _ => std::ptr::write_bytes(out, 0, run),
                                        }
                                        out = out.add(run);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// True if a plane of the columns is a plane of the input, moved: one copy, whose ends and edges are then zeros.
    fn shifts(&self, columns: &Side) -> bool {
        self.dilation[1] == 1
            && self.dilation[2] == 1
            && columns.step[1] == 1
            && columns.step[2] == 1
            && columns.size[2] == self.size[2]
            && self.strides[2] == 1
            && self.strides[1] == self.size[2] as isize
    }

    /// `lines` lines of the plane at `from`, beginning with line `down`, moved left by `left`.
    ///
    /// # Safety
    /// `out` has room for them, and the plane is inside the input.
    unsafe fn shifted(&self, out: *mut f32, lines: usize, from: isize, down: isize, left: isize) {
        let (height, width) = (self.size[1] as isize, self.size[2] as isize);
        let lo = (-down).clamp(0, lines as isize);
        let hi = (height - down).clamp(lo, lines as isize);
        let left = left.clamp(-width, width);
        // Zeros at the beginning of each line, and at its end.
        let (before, after) = ((-left).max(0), left.max(0));
        // SAFETY: by the caller's promise. What is read is inside the plane: the first zeros of the first line and the last of
        // the last line are left out.
        unsafe {
            std::ptr::write_bytes(out, 0, (lo * width) as usize);
            std::ptr::write_bytes(out.offset(hi * width), 0, ((lines as isize - hi) * width) as usize);
            let count = (hi - lo) * width - before - after;
            if count > 0 {
                let source = self.origin.0.cast::<f32>().wrapping_offset(from + (down + lo) * width + left + before);
                std::ptr::copy_nonoverlapping(source, out.offset(lo * width + before), count as usize);
            }
            for line in lo..hi {
                let line = out.offset(line * width);
                (0..before).for_each(|i| *line.offset(i) = 0.0);
                (width - after..width).for_each(|i| *line.offset(i) = 0.0);
            }
        }
    }

    /// Elements `start + t * step` of one line of the dilated input, t = 0 .. len.
    ///
    /// # Safety
    /// `out` has room for `len`, and the line at `from` is inside the input.
    #[inline(always)]
    unsafe fn run(&self, out: *mut f32, len: usize, from: isize, start: isize, step: usize) {
        let (n, stride) = (self.size[2] as isize, self.strides[2]);
        let source = self.origin.0.cast::<f32>().wrapping_offset(from);
        // SAFETY: by the caller's promise; positions outside 0 .. n are zeros and never read.
        unsafe {
            if self.dilation[2] != 1 {
                for t in 0..len {
                    let i = self.stored(2, start + (t * step) as isize);
                    *out.add(t) = i.map_or(0.0, |i| *source.offset(i * stride));
                }
                return;
            }
            let step = step as isize;
            let up = |x: isize| if step == 1 { x } else { (x + step - 1).div_euclid(step) };
            let lo = up(-start).clamp(0, len as isize);
            let hi = up(n - start).clamp(lo, len as isize);
            (0..lo).for_each(|t| *out.offset(t) = 0.0);
            let first = source.wrapping_offset((start + lo * step) * stride);
            if step * stride == 1 {
                if hi - lo >= 32 {
                    std::ptr::copy_nonoverlapping(first, out.offset(lo), (hi - lo) as usize);
                } else {
                    // Short runs: a call of memcpy costs more than the copy.
                    (0..hi - lo).for_each(|t| *out.offset(lo + t) = *first.offset(t));
                }
            } else {
                (0..hi - lo).for_each(|t| *out.offset(lo + t) = *first.offset(t * step * stride));
            }
            (hi..len as isize).for_each(|t| *out.offset(t) = 0.0);
        }
    }
}
