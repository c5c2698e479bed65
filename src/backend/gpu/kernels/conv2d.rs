//! Convolutions: `Conv` regions of one to three spatial dimensions, with their epilogue, as products whose right operand is gathered
//! from the input (implicit im2col). The frames are those of `gemm.rs`.
//!
//! A dilated input is never computed with its zeros: per spatial dimension with output o, tap k, input i,
//! `i * lhs_dilation = o * stride - lo + k * rhs_dilation`. For o = r + P*p (P = lhs_dilation / gcd(stride, lhs_dilation)) the taps
//! that meet an input are k = k0 + Q*t (Q = lhs_dilation / gcd(rhs_dilation, lhs_dilation)), a dense convolution with start
//! (r*stride - lo + k0*rhs_dilation) / lhs_dilation, stride P*stride / lhs_dilation and dilation Q*rhs_dilation / lhs_dilation.

use super::choice::{self, Frame, Size};
use super::conv2d_packed::{Image, PackedConv};
use super::epilogue::{Epilogue, MAX_EXTRA, is_slot};
use super::gemm::{self, Gemm, Operands, Product, Strided};
use super::loader::Operand;
use super::packed;
use super::sample::{region, repeated, stored};
use super::{KernelCall, KernelInfo, Mutation, Serves, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{ConvDims, Prim, Type};
use crate::plan::{Region, RegionKind};
use crate::shape::{Shape, View, collapse};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Conv),
    stems: &["conv2d_im2col", "conv2d_pack", "conv2d_packed", "matmul_combine"],
    variants: choice::GATHER_VARIANT_NAMES,
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples,
    mutations: &[
        Mutation { stem: "conv2d_pack", find: "v[1] = select(0.0, v1, in1)", replace: "v[1] = v1" },
        Mutation { stem: "conv2d_pack", find: "f32(b[", replace: "-f32(b[" },
        Mutation { stem: "conv2d_packed", find: "u32(im.jump.y), x)", replace: "u32(im.jump.y) + 1u, x)" },
        Mutation { stem: "conv2d_im2col", find: "< vec4<u32>(u32(p.size.z))", replace: "<= vec4<u32>(u32(p.size.z))" },
        Mutation { stem: "conv2d_im2col", find: "dy * p.x.s3", replace: "dx * p.x.s3" },
        Mutation { stem: "conv2d_im2col", find: "u32(at.y.x + shift.z) <", replace: "u32(at.y.x) <" },
        Mutation { stem: "conv2d_im2col", find: "b_prepare(t, k + DEPTH);", replace: "b_prepare(t, k);" },
        Mutation { stem: "conv2d_im2col", find: "return line + i32(c) * w.s1", replace: "return line" },
        Mutation {
            stem: "conv2d_im2col",
            find: "p.out_base.xyz + p.out_step.xyz",
            replace: "p.out_base.xyz + vec3<i32>(1)",
        },
    ],
};

/// Convolutions as they come from layers and from both gradients: strides, dilations, odd padding, groups, one to three
/// dimensions, flipped weights, a gradient's few results with a long sum.
fn samples() -> Vec<Region> {
    let conv = |x: &[usize], w: &[usize], stride: usize, pad: (i64, i64), lhs: usize, rhs: usize, groups: usize| {
        let n = x.len() - 2;
        let dims = ConvDims {
            stride: vec![stride; n],
            pad: vec![pad; n],
            lhs_dilation: vec![lhs; n],
            rhs_dilation: vec![rhs; n],
            groups,
        };
        let ty = |s: &[usize]| Type::new(DType::F32, s);
        region(RegionKind::Conv, &[ty(x), ty(w)], move |_, a| vec![a[0].conv(&a[1], dims.clone())])
    };
    let mut all = vec![
        conv(&[2, 3, 9, 7], &[5, 3, 3, 3], 1, (1, 1), 1, 1, 1),
        conv(&[1, 1, 6, 6], &[1, 1, 1, 1], 1, (0, 0), 1, 1, 1),
        conv(&[2, 4, 8, 8], &[16, 4, 3, 3], 2, (1, 0), 1, 1, 1),
        conv(&[2, 5, 9, 8], &[100, 5, 3, 3], 1, (1, 1), 1, 1, 1),
        conv(&[3, 4, 5, 6], &[4, 2, 3, 2], 1, (2, 1), 1, 2, 2),
        conv(&[2, 6, 7, 7], &[6, 1, 3, 3], 1, (1, 1), 1, 1, 6),
        conv(&[2, 3, 5, 5], &[4, 3, 3, 3], 1, (1, 2), 2, 1, 1),
        conv(&[2, 2, 4, 5], &[3, 2, 3, 3], 2, (2, 2), 3, 1, 1),
        conv(&[1, 2, 6, 6], &[2, 2, 2, 2], 1, (-1, 1), 2, 2, 1),
        conv(&[1, 2, 5, 5], &[2, 2, 3, 3], 3, (3, 3), 2, 4, 1),
        conv(&[2, 3, 11], &[4, 3, 5], 2, (2, 2), 1, 1, 1),
        conv(&[1, 2, 4, 5, 6], &[3, 2, 2, 3, 2], 1, (1, 1), 1, 1, 1),
        conv(&[1, 2, 3, 4, 3], &[2, 2, 2, 2, 3], 1, (2, 1), 2, 1, 1),
        // A weight gradient: channels as batch, results of the kernel's size, a long sum.
        conv(&[3, 8, 14, 14], &[16, 8, 14, 14], 1, (1, 1), 1, 1, 1),
        conv(&[2, 0, 4, 4], &[3, 0, 3, 3], 1, (1, 1), 1, 1, 1),
    ];
    all.push(stored(conv(&[3, 8, 12, 12], &[16, 8, 12, 12], 1, (1, 1), 1, 1, 1), 0, &[1, 0, 2, 3], 0, 0));
    // The same with a run of taps per channel, four at a time; and rows of the result in whole quads, in two dimensions and three.
    all.push(stored(conv(&[3, 8, 12, 12], &[16, 8, 12, 12], 1, (1, 1), 1, 1, 1), 1, &[1, 0, 2, 3], 0, 0));
    all.push(conv(&[2, 3, 9, 8], &[5, 3, 3, 3], 1, (1, 1), 1, 1, 1));
    all.push(conv(&[1, 2, 4, 5, 8], &[3, 2, 3, 3, 3], 1, (1, 1), 1, 1, 1));
    // A bias per channel and relu, over phases, too.
    for lhs in [1, 2] {
        let mut biased = conv(&[2, 3, 5, 6], &[4, 3, 3, 3], 1, (1, 1), lhs, 1, 1);
        let (x, w, y) =
            (biased.body.nodes[0].types[0].clone(), biased.body.nodes[1].types[0].clone(), biased.outs[0].ty.clone());
        let prim = biased.body.nodes[2].prim.clone();
        biased = region(RegionKind::Conv, &[x, w, y], |g, a| {
            let y = g.apply(prim.clone(), &[&a[0], &a[1]]) + &a[2];
            vec![y.maximum(&y.like(0.0))]
        });
        all.push(repeated(biased, 2, &[0, 2, 3]));
    }
    // An input gradient: out and in channels of the weights exchanged, both kernel dimensions reversed.
    let mut back = stored(conv(&[2, 4, 6, 6], &[5, 4, 3, 3], 1, (1, 1), 2, 1, 1), 1, &[1, 0, 2, 3], 0, 0);
    back.args[1].view = back.args[1].view.reverse(&[2, 3]);
    all.push(back);
    all
}

/// The WGSL struct `Conv`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Geometry {
    x: Strided,
    w: Strided,
    taps: [u32; 4],
    inverse: [f32; 4],
    size: [i32; 4],
    pixels: [u32; 4],
    out_base: [i32; 4],
    out_step: [i32; 4],
    out_size: [i32; 4],
    start: [i32; 4],
    stride: [i32; 4],
    dilation: [i32; 4],
}

params! {
    /// The WGSL struct `Params` of the convolution kernels.
    pub(super) struct ConvParams {
        gemm: Gemm,
        conv: Geometry,
        image: Image,
        extra: [Strided; MAX_EXTRA],
    }
}

const TYPES: &str =
    "struct Params {\n    gemm: Gemm,\n    conv: Conv,\n    image: Image,\n    extra: array<Strided, 4>,\n}";

/// One spatial dimension of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    /// First output, step between outputs, number of outputs.
    base: usize,
    step: usize,
    pub count: usize,
    /// First tap, step between taps, number of taps.
    tap: usize,
    tap_step: usize,
    pub taps: usize,
    /// Input coordinate of tap 0 of output 0; its growth per output and per tap.
    start: i64,
    pub stride: usize,
    pub dilation: usize,
}

impl Phase {
    /// True if some tap of some output lies outside an input of this size.
    fn padded(&self, size: usize) -> bool {
        let far = (self.count.max(1) - 1) * self.stride + (self.taps.max(1) - 1) * self.dilation;
        self.taps > 0 && (self.start < 0 || self.start + far as i64 >= size as i64)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The phases of one dimension: outputs of residue r modulo the step, each a dense convolution.
fn phases(stride: usize, lo: i64, lhs: usize, rhs: usize, kernel: usize, out: usize) -> Vec<Phase> {
    let step = lhs / gcd(stride, lhs);
    let tap_step = lhs / gcd(rhs, lhs);
    let one = |r: usize| {
        let at = |k: usize| (r * stride + k * rhs) as i64 - lo;
        let tap = (0..tap_step.min(kernel)).find(|&k| at(k).rem_euclid(lhs as i64) == 0);
        Phase {
            base: r,
            step,
            count: (out - r).div_ceil(step),
            tap: tap.unwrap_or(0),
            tap_step,
            taps: tap.map_or(0, |k| (kernel - k).div_ceil(tap_step)),
            start: tap.map_or(0, |k| at(k) / lhs as i64),
            stride: step * stride / lhs,
            dilation: tap_step * rhs / lhs,
        }
    };
    (0..step.min(out)).map(one).collect()
}

/// Sizes and strides of a view with its spatial dimensions padded to three (ones in front).
fn three(v: &View) -> ([usize; 5], [isize; 5]) {
    let pad = 5 - v.shape.len();
    let (mut size, mut stride) = ([1; 5], [0; 5]);
    for d in 0..v.shape.len() {
        let to = if d < 2 { d } else { d + pad };
        (size[to], stride[to]) = (v.shape[d], v.strides[d]);
    }
    (size, stride)
}

/// Chooses the calls of a `Conv` region: one product per phase.
pub(super) fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let dims = region.body.nodes.iter().find_map(|n| match &n.prim {
        Prim::Conv(d) => Some(d),
        _ => None,
    });
    let dims = dims.ok_or("the region has no convolution")?;
    let (x, w) = (&region.args[0].view, &region.args[1].view);
    if !is_slot(region, 0) || !is_slot(region, 1) || x.shape.len() > 5 {
        return Err(format!("a convolution takes one to three spatial dimensions, got {}", x.shape));
    }
    let rank = x.shape.len();
    let spatial = |v: &[usize]| [&vec![1; 5 - rank][..], v].concat();
    let lows: Vec<i64> = vec![0; 5 - rank].into_iter().chain(dims.pad.iter().map(|p| p.0)).collect();
    let (stride, lhs, rhs) = (spatial(&dims.stride), spatial(&dims.lhs_dilation), spatial(&dims.rhs_dilation));
    let (out, _) = three(&View::contiguous(&region.outs[0].ty.shape));
    let (kernel, _) = three(w);
    let of = |d: usize| phases(stride[d], lows[d], lhs[d], rhs[d], kernel[d + 2], out[d + 2]);
    let mut calls = Vec::new();
    let mut id = 0;
    for pz in of(0) {
        for py in of(1) {
            for px in of(2) {
                calls.extend(phase(region, dims, [pz, py, px], id, caps)?);
                id += 1;
            }
        }
    }
    Ok(calls)
}

fn phase(
    region: &Region,
    dims: &ConvDims,
    at: [Phase; 3],
    id: usize,
    caps: &GpuCaps,
) -> Result<Vec<KernelCall>, String> {
    let epilogue = Epilogue::of(region)?;
    let (xv, wv) = (&region.args[0].view, &region.args[1].view);
    let ((x, xs), (w, mut ws)) = (three(xv), three(wv));
    let (out, _) = three(&View::contiguous(&region.outs[0].ty.shape));
    let taps = at.map(|p| p.taps);
    let window: usize = taps.iter().product();
    let size = Size {
        m: w[0] / dims.groups,
        n: x[0] * at.iter().map(|p| p.count).product::<usize>(),
        k: w[1] * window,
        batches: dims.groups,
        gather: true,
    };
    let mut w_offset = wv.offset as isize;
    for (d, p) in at.iter().enumerate() {
        w_offset += p.tap as isize * ws[d + 2];
        ws[d + 2] *= p.tap_step as isize;
    }
    let mut weights = Strided::new(w_offset.max(0) as usize, ws);
    let (merged, line) = collapse(&Shape::from([w[1], taps[0], taps[1], taps[2]]), &[ws[1..].to_vec()]);
    let linear = merged.len() == 1;
    // The taps of one channel may lie in a line where those of all channels do not: the cotangents in a weight gradient.
    let (merged, own) = collapse(&Shape::from(taps), &[ws[2..].to_vec()]);
    let runs = !linear && merged.len() == 1;
    weights.run = if linear {
        line[0][0] as i32
    } else if runs {
        own[0][0] as i32
    } else {
        0
    };

    let packed = PackedConv::new(size, x, &at, caps);
    let choice = choice::choose("conv2d", size, packed.as_ref().map(|p| p.packing), false, caps)?;
    let packed = packed.filter(|_| matches!(choice.frame, Frame::Packed(_)));
    let exact = size.k.is_multiple_of(choice.frame.depth());
    let vec = (linear || runs && window.is_multiple_of(4) && ws[1] % 4 == 0)
        && weights.run == 1
        && size.k.is_multiple_of(4)
        && size.k > 0
        && weights.offset % 4 == 0
        && (weights.s[0] % 4 == 0 || w[0] == 1);
    let a = Operand {
        name: "a",
        start: "params.conv.w.offset + i32(batch * params.gemm.m) * params.conv.w.s0",
        outer: "params.conv.w.s0",
        inner: "params.conv.w.run",
        len: "params.gemm.m",
        vec,
        along_k: true,
        k_len: "params.gemm.k",
        exact,
        address: if linear { None } else { Some("weight_address") },
    };
    let flat = taps[0] == 1 && at[0].count == 1 && x[2] == 1 && at[0].start == 0;
    let padded = at.iter().zip(&x[2..]).any(|(p, &n)| p.padded(n));
    let flags = format!(
        "const FLAT: bool = {flat};\nconst PADDED: bool = {padded};\nconst K_EXACT: bool = {exact};\nconst SMALL_K: bool = {};\n\
         const SAME_ROW: bool = {};\nconst W_RUN: bool = {runs};\n",
        size.k < 1 << 21,
        at[2].count.is_multiple_of(4)
    );
    let ratio = packed::ratio([size.n, size.k, packed.as_ref().map_or(0, PackedConv::invocations)]);
    let mut loaders = format!("{flags}{}\n{}", include_str!("../../../../shaders/conv2d_im2col.wgsl"), a.line());
    if matches!(choice.frame, Frame::Tiled(_)) {
        loaders += "const A_ALONG_K: bool = true;\nconst B_ALONG_K: bool = false;\n";
        loaders += include_str!("../../../../shaders/conv2d_taps.wgsl");
    } else {
        loaders += "fn shift_at(k: u32) -> vec4<i32> {\n    return shift_of(k);\n}\n";
    }
    let four = |v: [i64; 3], last: usize| [v[0] as i32, v[1] as i32, v[2] as i32, last as i32];
    let inverse = |n: usize| 1.0 / n.max(1) as f32;
    let geometry = Geometry {
        x: Strided::new(xv.offset, xs),
        w: weights,
        taps: [taps[0] as u32, taps[1] as u32, taps[2] as u32, window as u32],
        inverse: [inverse(window), inverse(taps[1] * taps[2]), inverse(taps[2]), 0.0],
        size: four([x[2] as i64, x[3] as i64, x[4] as i64], w[1]),
        pixels: [at[0].count as u32, at[1].count as u32, at[2].count as u32, 0],
        out_base: four(at.map(|p| p.base as i64), 0),
        out_step: four(at.map(|p| p.step as i64), 0),
        out_size: four([out[2] as i64, out[3] as i64, out[4] as i64], out[1]),
        start: four(at.map(|p| p.start), 0),
        stride: four(at.map(|p| p.stride as i64), 0),
        dilation: four(at.map(|p| p.dilation as i64), 0),
    };
    let macs = size.m * size.n * size.k * size.batches;
    let elems = xv.shape.elems() + wv.shape.elems() + size.m * size.n * size.batches;
    let (label, size, loaders, operands) = match &packed {
        Some(p) => {
            let line = include_str!("../../../../shaders/conv2d_line.wgsl");
            ("conv2d_packed", p.packing.size, line.to_string(), Operands::Packed(p.pack(&choice, caps)))
        }
        None => ("conv2d_im2col", size, loaders, Operands::Buffers([(a.element_type(), 1), ("f32", 0)])),
    };
    gemm::calls(
        Product {
            label: Some(label),
            choice,
            size,
            params: ConvParams {
                gemm: Gemm::default(),
                conv: geometry,
                image: packed.as_ref().map(|p| p.image).unwrap_or_default(),
                extra: epilogue.extra(|arg| {
                    let v = &region.args[arg].view;
                    Strided::new(v.offset, three(v).1)
                }),
            },
            set: |p, gemm| p.gemm = gemm,
            batch: [1, 1],
            types: format!("{}\n{TYPES}", include_str!("../../../../shaders/conv2d_geometry.wgsl")),
            loaders,
            prepared: true,
            placing: &ratio,
            result: &format!(
                "const SWAP: bool = {};\n{}",
                packed.is_some(),
                include_str!("../../../../shaders/conv2d_result.wgsl")
            ),
            dense_rows: false,
            operands,
            epilogue: &epilogue,
            id,
            flops: 2 * macs as u64,
            bytes: 4 * elems as u64,
        },
        caps,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness;

    #[test]
    fn convolutions_agree_with_the_reference() {
        let variants = [
            "tiled_64",
            "tiled_128",
            "packed_8",
            "packed_4:2",
            "tiled_128:2",
            "packed_2",
            "tiled_32:3",
            "subgroup_8",
            "direct_4x2",
            "direct_4x1:4",
            "direct_1x2",
            "direct_1x1",
        ];
        let fill = |_: &Region, arg: usize, i: usize| harness::noise(17 + arg as u32, i);
        let bound = |args: &[crate::backend::reference::Array], _: usize, _: usize, _: f64| {
            let k = args[1].shape[1..].iter().product::<usize>() as f64;
            4.0 * k.sqrt() * 2f64.powi(-23) * k / 3.0 + 1e-30
        };
        harness::check(&KERNEL, "conv2d", &variants, &fill, &bound);
    }

    /// Every phase names exactly the (output, tap, input) triples of the definition.
    #[test]
    fn phases_are_the_definition() {
        for (stride, lo, lhs, rhs, kernel, input) in [
            (1, 1, 1, 1, 3, 5),
            (2, 1, 1, 1, 3, 8),
            (1, 1, 2, 1, 3, 5),
            (3, -1, 2, 2, 3, 7),
            (2, 2, 4, 3, 4, 5),
            (1, 0, 3, 3, 2, 4),
        ] {
            let padded = (input as i64 - 1) * lhs as i64 + 1 + 2 * lo;
            let out = ((padded - (rhs * (kernel - 1)) as i64 - 1) / stride as i64 + 1) as usize;
            let mut want = Vec::new();
            for o in 0..out {
                for k in 0..kernel {
                    let at = (o * stride + k * rhs) as i64 - lo;
                    if at % lhs as i64 == 0 {
                        want.push((o, k, at / lhs as i64));
                    }
                }
            }
            let mut have = Vec::new();
            let all = phases(stride, lo, lhs, rhs, kernel, out);
            for p in &all {
                for j in 0..p.count {
                    for t in 0..p.taps {
                        let at = p.start + (p.stride * j + p.dilation * t) as i64;
                        have.push((p.base + p.step * j, p.tap + p.tap_step * t, at));
                    }
                }
            }
            have.sort();
            assert_eq!(have, want, "stride {stride} lo {lo} dilations {lhs} {rhs}");
            assert_eq!(all.iter().map(|p| p.count).sum::<usize>(), out);
        }
    }
}
