//! Matrix products: `Dot` regions, with their epilogue. Both operands are read in place through strides, so transposes and broadcast
//! batches cost no copy. The frames and their choice are in `gemm.rs`.

use super::choice::{self, Frame, Packing, Size};
use super::epilogue::{Epilogue, MAX_EXTRA, is_slot};
use super::gemm::{self, Gemm, Operands, Product, Strided};
use super::loader::Operand;
use super::packed::{self, Pack};
use super::sample::{region, repeated, stored};
use super::{Bind, KernelCall, KernelInfo, Mutation, Serves, params};
use crate::backend::gpu::caps::GpuCaps;
use crate::dtype::DType;
use crate::ir::{Prim, Type};
use crate::plan::{Region, RegionKind};
use crate::shape::{Shape, View, collapse};

/// The registry row.
pub const KERNEL: KernelInfo = KernelInfo {
    serves: Serves::Kind(RegionKind::Dot),
    stems: &[
        "matmul_tiled",
        "matmul_pack",
        "matmul_packed",
        "matmul_subgroup",
        "matmul_broadcast",
        "matmul_direct",
        "matmul_combine",
    ],
    variants: choice::VARIANT_NAMES,
    select,
    takes: |_, _, _| Err("not a composite".into()),
    strided: |_, _| true,
    samples,
    mutations: &[
        Mutation { stem: "matmul_tiled", find: "        workgroupBarrier();\n        for", replace: "        for" },
        Mutation { stem: "matmul_tiled", find: "y + 1u * APART_M;", replace: "y;" },
        Mutation { stem: "matmul_pack", find: "f32(a[", replace: "-f32(a[" },
        Mutation { stem: "matmul_pack", find: "c % 4u) * LANES", replace: "c % 4u + 1u) * LANES" },
        Mutation { stem: "matmul_packed", find: "s1_3.w * p0_2.w", replace: "s1_2.w * p0_2.w" },
        Mutation { stem: "matmul_subgroup", find: "s1_3.w * q[3]", replace: "s1_3.z * q[3]" },
        Mutation { stem: "matmul_broadcast", find: "1u * HANDED + 2u)", replace: "2u)" },
        Mutation { stem: "matmul_direct", find: "s3.z * p0[2]", replace: "s3.z * p0[1]" },
        Mutation { stem: "matmul_combine", find: "s < g.splits", replace: "s + 1u < g.splits" },
    ],
};

/// Products of odd and tile-edge sizes; transposed, offset, sliced and repeated operands; batches; an empty k.
fn samples() -> Vec<Region> {
    let ty = |s: &[usize]| Type::new(DType::F32, s);
    let dot = |a: &[usize], b: &[usize]| {
        region(RegionKind::Dot, &[ty(a), ty(b)], |g, x| vec![g.apply(Prim::Dot, &[&x[0], &x[1]])])
    };
    let plain = |m: usize, k: usize, n: usize| dot(&[m, k], &[k, n]);
    let mut all: Vec<Region> = [
        (1, 1, 1),
        (3, 5, 2),
        (16, 16, 64),
        (17, 20, 68),
        (63, 65, 66),
        (65, 7, 257),
        (128, 64, 192),
        (1, 130, 33),
        (40, 12, 1),
        (133, 21, 197),
        (5, 0, 4),
        (12, 1030, 20),
    ]
    .map(|(m, k, n)| plain(m, k, n))
    .into();
    all.push(stored(plain(20, 24, 36), 0, &[1, 0], 0, 0));
    all.push(stored(plain(20, 24, 36), 1, &[1, 0], 0, 0));
    all.push(stored(stored(plain(33, 18, 35), 0, &[1, 0], 3, 1), 1, &[1, 0], 5, 2));
    all.push(stored(stored(plain(9, 16, 40), 0, &[0, 1], 4, 4), 1, &[0, 1], 8, 4));
    all.push(dot(&[3, 5, 6], &[3, 6, 7]));
    // With an epilogue: a bias per column, a residual and relu; k long enough to be split, and the residual overwritten.
    for k in [9, 520] {
        let types = [ty(&[2, 19, k]), ty(&[2, k, 21]), ty(&[2, 19, 21]), ty(&[2, 19, 21])];
        let tail = region(RegionKind::Dot, &types, |g, x| {
            let y = g.apply(Prim::Dot, &[&x[0], &x[1]]) + &x[2];
            vec![y.maximum(&y.like(0.0)) * 0.5 + &x[3]]
        });
        let mut tail = repeated(tail, 2, &[0, 1]);
        all.push(tail.clone());
        tail.in_place = vec![Some(3)];
        all.push(tail);
    }
    all.push(repeated(dot(&[2, 3, 8, 12], &[2, 3, 12, 16]), 1, &[0]));
    all.push(stored(dot(&[2, 3, 8, 12], &[2, 3, 12, 16]), 0, &[0, 2, 1, 3], 0, 0));
    all
}

params! {
    /// The WGSL struct `Params` of the product kernels.
    pub(super) struct MatmulParams {
        gemm: Gemm,
        a: Strided,
        b: Strided,
        extra: [Strided; MAX_EXTRA],
    }
}

const TYPES: &str =
    "struct Params {\n    gemm: Gemm,\n    a: Strided,\n    b: Strided,\n    extra: array<Strided, 4>,\n}";

/// Chooses the calls of a `Dot` region.
pub(super) fn select(region: &Region, caps: &GpuCaps) -> Result<Vec<KernelCall>, String> {
    let [a, b] = [&region.args[0].view, &region.args[1].view];
    let rank = a.shape.len();
    if !is_slot(region, 0) || !is_slot(region, 1) || rank < 2 || b.shape.len() != rank {
        return Err("a product needs two matrices in memory".into());
    }
    let epilogue = Epilogue::of(region)?;
    let (m, k, n) = (a.shape[rank - 2], a.shape[rank - 1], b.shape[rank - 1]);

    // Batch dimensions, merged where every operand allows it.
    let readers: Vec<usize> = [vec![0, 1], epilogue.args()].concat();
    let head = |v: &View| v.strides[..rank - 2].to_vec();
    let strides: Vec<Vec<isize>> = readers.iter().map(|&r| head(&region.args[r].view)).collect();
    let (batch, strides) = collapse(&Shape::from(&a.shape[..rank - 2]), &strides);
    if batch.len() > 3 {
        return Err(format!("the batch dimensions {batch} do not merge to three in the operands' memory"));
    }
    let pad = 3 - batch.len();
    let sizes = [vec![1; pad], batch.0.clone()].concat();
    let strided = |arg: usize| {
        let v = &region.args[arg].view;
        let mut s = [0; 5];
        if let Some(at) = readers.iter().position(|&r| r == arg) {
            s[pad..3].copy_from_slice(&strides[at]);
        }
        s[3..].copy_from_slice(&v.strides[rank - 2..]);
        Strided::new(v.offset, s)
    };

    let natural = Size { m, n, k, batches: batch.elems(), gather: false };
    let texels = (m + n) * k.div_ceil(4) * natural.batches;
    let choice = choice::choose("matmul", natural, Some(Packing { size: natural, texels }), true, caps)?;
    let swap = choice.swap;
    let size = if swap { Size { m: n, n: m, ..natural } } else { natural };
    let exact = k % choice.frame.depth() == 0;
    let load = |name, arg: usize, len| {
        let lone = matches!(choice.frame, Frame::Tiled(_) | Frame::Packed(_)) || name == "b";
        operand(name, strided(arg), arg == 1, [[m, n][arg], k], len, lone, exact)
    };
    let (left, right) = if swap { (1, 0) } else { (0, 1) };
    let (la, lb) = (load("a", left, "params.gemm.m"), load("b", right, "params.gemm.n"));
    let along = packed::along(la.along_k, lb.along_k);
    let buffers = [(la.element_type(), left), (lb.element_type(), right)];
    let (loaders, operands) = match choice.frame {
        Frame::Tiled(_) => (la.line() + &lb.line() + &along, Operands::Buffers(buffers)),
        Frame::Packed(_) => {
            let pack = Pack {
                stem: "matmul_pack",
                text: include_str!("../../../../shaders/matmul_pack.wgsl"),
                loaders: la.block() + &lb.block() + &along + &packed::later(false),
                operands: buffers.map(|(ty, arg)| (ty, Bind::Arg(arg))),
                texels: packed::texels([size.m, size.n, k, size.batches], choice.frame, caps),
                images: [0, 1],
                invocations: ((size.m.div_ceil(4) + size.n.div_ceil(4)) * k.div_ceil(4) * size.batches) as u64,
            };
            (include_str!("../../../../shaders/matmul_line.wgsl").into(), Operands::Packed(pack))
        }
        _ => (la.line() + &lb.block(), Operands::Buffers(buffers)),
    };
    let placing = format!(
        "const ONE_BATCH: bool = {};\n{}{}",
        batch.len() <= 1,
        packed::ratio([(m.max(n).div_ceil(4) * k.div_ceil(4) + 4) * natural.batches]),
        include_str!("../../../../shaders/matmul_strided.wgsl")
    );
    let elems = (m * k + k * n + m * n) * natural.batches;
    gemm::calls(
        Product {
            label: None,
            choice,
            size,
            params: MatmulParams {
                gemm: Gemm::default(),
                a: strided(0),
                b: strided(1),
                extra: epilogue.extra(strided),
            },
            set: |p, gemm| p.gemm = gemm,
            batch: [sizes[1], sizes[2]],
            types: TYPES.into(),
            loaders,
            prepared: false,
            placing: &placing,
            result: &format!("const SWAP: bool = {swap};\n{}", include_str!("../../../../shaders/matmul_result.wgsl")),
            dense_rows: !swap,
            operands,
            epilogue: &epilogue,
            id: 0,
            flops: 2 * (m * n * k * natural.batches) as u64,
            bytes: 4 * elems as u64,
        },
        caps,
    )
}

/// The loader of a strided matrix: of `params.a`, which has k last, or of the `second` one, `params.b`, which has k first. `counts` are
/// its outer size (`len` in the text) and k; `lone` loaders may read along the outer dimension; `exact` says that no load passes the last k.
pub(super) fn operand<'a>(
    name: &'a str,
    v: Strided,
    second: bool,
    [outers, k]: [usize; 2],
    len: &'a str,
    lone: bool,
    exact: bool,
) -> Operand<'a> {
    let (outer, inner) = if second { (v.s[4], v.s[3]) } else { (v.s[3], v.s[4]) };
    let fits = |unit: i32, step: i32, count: usize, other: usize| {
        unit == 1
            && count.is_multiple_of(4)
            && count > 0
            && (step % 4 == 0 || other == 1)
            && v.offset % 4 == 0
            && v.s[..3].iter().all(|s| s % 4 == 0)
    };
    let (vec_k, vec_o) = (fits(inner, outer, k, outers), lone && fits(outer, inner, outers, k));
    let along_k = vec_k || (!vec_o && (!lone || inner == 1 || outer != 1));
    let [start, outer, inner] = match second {
        false => ["batch_start(params.a, batch)", "params.a.s3", "params.a.s4"],
        true => ["batch_start(params.b, batch)", "params.b.s4", "params.b.s3"],
    };
    Operand {
        name,
        start,
        outer,
        inner,
        len,
        vec: vec_k || vec_o,
        along_k,
        k_len: "params.gemm.k",
        exact,
        address: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::kernels::harness;

    /// Every frame, also with k split and with rows and columns exchanged, within the bound of a sum of k products.
    #[test]
    fn products_agree_with_the_reference() {
        let variants = [
            "tiled_64",
            "tiled_128",
            "tiled_32",
            "packed_8",
            "packed_4",
            "packed_2",
            "packed_8_t:3",
            "packed_4:2",
            "subgroup_8",
            "subgroup_4",
            "direct_4x2",
            "direct_4x1_t",
            "direct_1x2",
            "direct_1x1:3",
            "tiled_64_t:2",
            "tiled_32_t",
            "subgroup_8_t",
            "subgroup_8:4",
            "broadcast_1",
            "broadcast_2",
            "broadcast_2_t",
            "broadcast_4:2",
            "broadcast_2:3",
            "direct_4x2:5",
            "tiled_128_t:2",
        ];
        let fill = |_: &Region, arg: usize, i: usize| harness::noise(7 + arg as u32, i);
        // |err| <= gamma_k (|A| |B|), and |a b| < 1: bounded by k itself. Not tight, but far below any wrong term.
        let bound = |args: &[crate::backend::reference::Array], _: usize, _: usize, _: f64| {
            let k = args[0].shape.last().copied().unwrap_or(0) as f64;
            4.0 * k.sqrt() * 2f64.powi(-23) * k / 3.0 + 1e-30
        };
        harness::check(&KERNEL, "matmul", &variants, &fill, &bound);
    }
}
