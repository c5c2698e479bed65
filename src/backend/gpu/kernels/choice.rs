//! Which kernel frame a product or convolution gets, in which orientation, and in how many pieces of k: by the adapter's class,
//! or as a tuning file or a test wants it.

use super::{packed, subgroup};
use crate::backend::gpu::caps::{AdapterClass, GpuCaps};

/// A kernel frame with its register tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// Workgroup tile of this side, 4 x 4 per invocation, and beyond 64 as much more for each of 256 invocations.
    Tiled(u32),
    /// One subgroup per workgroup, 16 rows by this many columns per lane, from operands packed into textures.
    Packed(u32),
    /// One subgroup of this size per workgroup, this many rows by 8 columns per lane.
    Subgroup(u32, u32),
    /// A workgroup of subgroups of any size from four lanes on, 8 rows by 8 columns per lane, so many quads of k handed round at a time.
    Broadcast(u32),
    /// Rows and vec4 columns per invocation.
    Direct(u32, u32),
}

/// Names of all variants; a test or a tuning file may ask for one, with `:n` behind it to split k into n pieces.
pub(super) const VARIANTS: &[(&str, Frame)] = &[
    ("tiled_128", Frame::Tiled(128)),
    ("tiled_64", Frame::Tiled(64)),
    ("tiled_32", Frame::Tiled(32)),
    ("packed_8", Frame::Packed(8)),
    ("packed_4", Frame::Packed(4)),
    ("packed_2", Frame::Packed(2)),
    ("subgroup_8", Frame::Subgroup(8, 16)),
    ("subgroup_8x8", Frame::Subgroup(8, 8)),
    ("subgroup_4", Frame::Subgroup(4, 16)),
    ("subgroup_4x8", Frame::Subgroup(4, 8)),
    ("broadcast_1", Frame::Broadcast(1)),
    ("broadcast_2", Frame::Broadcast(2)),
    ("broadcast_4", Frame::Broadcast(4)),
    ("direct_4x2", Frame::Direct(4, 2)),
    ("direct_4x1", Frame::Direct(4, 1)),
    ("direct_1x2", Frame::Direct(1, 2)),
    ("direct_1x1", Frame::Direct(1, 1)),
];

/// The names of [`VARIANTS`] and of the second pass, for the kernels' registry rows.
pub(super) const VARIANT_NAMES: &[&str] = &[
    "tiled_128",
    "tiled_64",
    "tiled_32",
    "packed_8",
    "packed_4",
    "packed_2",
    "pack",
    "subgroup_8",
    "subgroup_8x8",
    "subgroup_4",
    "subgroup_4x8",
    "direct_4x2",
    "direct_4x1",
    "direct_1x2",
    "direct_1x1",
    "combine",
    "broadcast_1",
    "broadcast_2",
    "broadcast_4",
];

/// Those of convolutions: without [`Frame::Broadcast`], which has the last three.
pub(super) const GATHER_VARIANT_NAMES: &[&str] = VARIANT_NAMES.split_at(VARIANT_NAMES.len() - 3).0;

/// Sizes of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub batches: usize,
    /// True for a convolution: four elements of b cost a computed address each.
    pub gather: bool,
}

/// How a product is computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub frame: Frame,
    pub name: &'static str,
    pub splits: u32,
    pub chunk: u32,
    /// Rows and columns exchanged.
    pub swap: bool,
}

impl Frame {
    /// Rows and columns of the tile of one workgroup (one invocation for `Direct`).
    pub fn tile(self, caps: &GpuCaps) -> (usize, usize) {
        match self {
            Frame::Packed(cols) => (packed::ROWS, (cols * caps.lanes()) as usize),
            Frame::Tiled(t) => (t as usize, t as usize),
            Frame::Subgroup(lanes, rows) => (rows as usize, 8 * lanes as usize),
            Frame::Broadcast(_) => (BROADCAST_ROWS as usize, 8 * broadcast_workgroup(caps) as usize),
            Frame::Direct(rows, cols) => (rows as usize, 4 * cols as usize),
        }
    }
    /// k advances by this.
    pub fn depth(self) -> usize {
        match self {
            // A tile of both operands takes 4.6 to 8.7 KiB.
            Frame::Tiled(t) => {
                if t > 64 {
                    8
                } else {
                    16
                }
            }
            Frame::Broadcast(steps) => 4 * steps as usize,
            Frame::Packed(_) | Frame::Subgroup(..) | Frame::Direct(..) => 4,
        }
    }
    /// What the text of `Frame::Tiled` is made for: sizes of the tile, blocks and loads of an invocation.
    pub fn tiled_counts(side: u32) -> Vec<(&'static str, u32)> {
        let (depth, blocks) = (Frame::Tiled(side).depth() as u32, (side / 64).max(1));
        let loads = side * depth / 4 / Frame::tiled_workgroup(side);
        let (rows, cols) = (("ROWS", side), ("COLS", side));
        let blocks = [("BLOCKS_M", blocks), ("BLOCKS_N", blocks)];
        [vec![rows, cols, ("DEPTH", depth)], blocks.to_vec(), vec![("LOADS_A", loads), ("LOADS_B", loads)]].concat()
    }
    fn tiled_workgroup(side: u32) -> u32 {
        let along = side.min(64) / 4;
        along * along
    }
    /// Tiles without splits.
    fn tiles(self, size: Size, caps: &GpuCaps) -> usize {
        let (rows, cols) = self.tile(caps);
        size.m.div_ceil(rows) * size.n.div_ceil(cols) * size.batches
    }
    /// Stem of the frame's file.
    pub fn stem(self) -> &'static str {
        match self {
            Frame::Tiled(_) => "matmul_tiled",
            Frame::Packed(_) => "matmul_packed",
            Frame::Subgroup(..) => "matmul_subgroup",
            Frame::Broadcast(_) => "matmul_broadcast",
            Frame::Direct(..) => "matmul_direct",
        }
    }
    /// The product as this frame computes it, if it can.
    fn sees(self, size: Size, packing: Option<Packing>, caps: &GpuCaps) -> Option<Packing> {
        // Tiles of few rows are for few rows, and what a convolution gathers one by one would fill all registers.
        let thin = size.m.min(size.n) <= 64 && !size.gather;
        if !self.runs_on(caps) || (!thin && matches!(self, Frame::Broadcast(_))) {
            return None;
        }
        if !matches!(self, Frame::Packed(_)) {
            return Some(Packing { size, texels: 0 });
        }
        let packing = packing?;
        let Size { m, n, k, batches, .. } = packing.size;
        let fits = |[m, n]: [usize; 2]| packed::fit(packed::texels([m, n, k, batches], self, caps), caps);
        (fits([m, n]) && fits([n, m])).then_some(packing)
    }
    fn runs_on(self, caps: &GpuCaps) -> bool {
        match self {
            Frame::Packed(_) => [4, 8, 16].contains(&caps.lanes()),
            Frame::Tiled(t) => {
                let bytes = 2 * 4 * self.depth() as u32 * (t + 4);
                caps.max_invocations >= Frame::tiled_workgroup(t) && caps.workgroup_bytes >= bytes
            }
            Frame::Subgroup(lanes, _) => caps.subgroups == Some((lanes, lanes)),
            Frame::Broadcast(steps) => {
                let wg = broadcast_workgroup(caps);
                let near = subgroup::near(wg, wg, caps).unwrap_or(0);
                wg <= caps.max_invocations.min(caps.max_workgroup_size[0]) && (near / BROADCAST_HANDED).min(4) == steps
            }
            Frame::Direct(..) => true,
        }
    }
}

/// A product as `Frame::Packed` sees it: its own sizes (a convolution's rows and columns are exchanged and its k is padded there)
/// and how many texels are packed first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    pub size: Size,
    pub texels: usize,
}

/// Chooses frame, orientation and splits; `swap` says whether rows and columns may be exchanged.
pub(super) fn choose(
    stem: &str,
    size: Size,
    packing: Option<Packing>,
    swap: bool,
    caps: &GpuCaps,
) -> Result<Choice, String> {
    if let Some(wanted) = caps.wanted(stem) {
        let (name, splits) = wanted.split_once(':').unwrap_or((wanted, "1"));
        let swap = swap && name.ends_with('t');
        let name = name.trim_end_matches("_t");
        let splits = splits.parse().map_err(|_| format!("{stem}: bad number of splits in variant {wanted:?}"))?;
        let &(name, frame) =
            VARIANTS.iter().find(|v| v.0 == name).ok_or_else(|| format!("{stem} has no variant {wanted:?}"))?;
        let seen = frame.sees(size, packing, caps);
        let size = seen.ok_or_else(|| format!("{stem}: variant {name} does not fit this adapter or these sizes"))?.size;
        return Ok(finished(name, frame, size, splits, swap));
    }
    if caps.software() { Ok(choose_software(size, packing, swap, caps)) } else { Ok(choose_gpu(size, swap, caps)) }
}

/// Rows of a tile of [`Frame::Broadcast`], and how many lanes load different ones.
const BROADCAST_ROWS: u32 = 8;
const BROADCAST_HANDED: u32 = 4;

/// Invocations of a workgroup of [`Frame::Broadcast`]: one subgroup of the largest size.
fn broadcast_workgroup(caps: &GpuCaps) -> u32 {
    caps.subgroups.map_or(32, |s| s.1.max(32))
}

/// What the text of [`Frame::Broadcast`] is made for.
pub(super) fn broadcast_counts(steps: u32, caps: &GpuCaps) -> Vec<(&'static str, u32)> {
    let rows = ("LANE_ROWS", BROADCAST_ROWS / BROADCAST_HANDED);
    vec![("WG", broadcast_workgroup(caps)), ("HANDED", BROADCAST_HANDED), ("STEPS", steps), rows]
}

fn finished(name: &'static str, frame: Frame, size: Size, splits: usize, swap: bool) -> Choice {
    let depth = frame.depth();
    let chunk = size.k.div_ceil(splits.max(1)).next_multiple_of(depth).max(depth);
    Choice { frame, name, splits: size.k.div_ceil(chunk).max(1) as u32, chunk: chunk as u32, swap }
}

fn flipped(size: Size, swap: bool) -> Size {
    if swap { Size { m: size.n, n: size.m, ..size } } else { size }
}

/// GPUs: workgroup tiles, the larger where enough of them fill the machine; the largest, whose results take 64 registers a lane, on discrete
/// GPUs alone. Thin products go without workgroup memory; a long k is split where too few workgroups would run.
fn choose_gpu(size: Size, may_swap: bool, caps: &GpuCaps) -> Choice {
    const BUSY: usize = 192;
    let swap = may_swap && size.n < size.m && size.n <= 8;
    let s = flipped(size, swap);
    let thin = s.m <= 4 || s.n <= 4 || s.k <= 8;
    let padded = |side: usize| s.m.next_multiple_of(side) * s.n.next_multiple_of(side);
    // The largest tiles compute at most a fifth more beyond the edges than the next smaller ones.
    let whole = 5 * padded(128) <= 6 * padded(64);
    let enough = |side: u32, tiles| Frame::Tiled(side).runs_on(caps) && Frame::Tiled(side).tiles(s, caps) >= tiles;
    let name = match (thin, s.m) {
        (true, 1) => "direct_1x1",
        (true, _) => "direct_4x1",
        _ if caps.class == AdapterClass::Discrete && enough(128, 2 * BUSY) && whole => "tiled_128",
        _ if enough(64, BUSY) => "tiled_64",
        _ if Frame::Tiled(32).runs_on(caps) => "tiled_32",
        _ => "direct_4x1",
    };
    let frame = VARIANTS.iter().find(|v| v.0 == name).map_or(Frame::Direct(4, 1), |v| v.1);
    let units = if thin { frame.tiles(s, caps).div_ceil(64) } else { frame.tiles(s, caps) };
    let splits = if units < BUSY && s.k >= 512 { (BUSY / units.max(1)).min(s.k / 128).min(64) } else { 1 };
    finished(name, frame, s, splits, swap)
}

/// Invocations of a workgroup of [`Frame::Direct`] over this k. Of few a software adapter makes two workgroups, so that a second thread helps,
/// where the work is worth waking it: that takes up to 30 microseconds.
pub(super) fn direct_workgroup(units: u64, k: usize, caps: &GpuCaps) -> u32 {
    if !caps.software() {
        return 64;
    }
    if units > 16 && units <= 32 && k >= 256 { 16 } else { 32 }
}

/// What `Frame::Subgroup` must gain over frames with smaller texts, in nanoseconds: this for a text of 8 rows, four times as much for one of 16.
/// Lavapipe 22.3.6 compiles them in 0.35 and 0.9 s (`Frame::Direct` in 0.13 to 0.24 s; 25.0.7: 0.4, 0.5 and 0.4 to 1 s), convolutions in 1.7 s: most
/// of a small model's cold start. Set so that picks are within 1.5 of the best, by medians of sweeps, and cold starts stay short; not derived.
const COMPILE: f64 = 1e4;

/// What it costs to wake a second thread, in nanoseconds: none to 30,000 on a machine whose other core is busy now and then.
const WAKE: f64 = 5e3;

/// Software adapters: the least estimated time. Costs in nanoseconds per SIMD group and 4 of k, fitted to lavapipe: a vec4 load 14,
/// a gathered vec4 45, a texel 4.3, four multiply-adds of a vec4 2.7 each; a texel is packed in 14 (8 on an idle machine,
/// but packing moves memory, and gives way to other work first).
fn choose_software(size: Size, packing: Option<Packing>, may_swap: bool, caps: &GpuCaps) -> Choice {
    let lanes = caps.subgroups.map_or(4, |s| s.0).clamp(4, 8) as f64;
    let block = if size.gather { 180.0 } else { 56.0 };
    let mut best: Option<(f64, Choice)> = None;
    for &(name, frame) in VARIANTS {
        let Some(Packing { size, texels }) = frame.sees(size, packing, caps) else { continue };
        let (step, store) = match frame {
            Frame::Tiled(_) | Frame::Broadcast(_) => continue,
            // With four lanes (SwiftShader) products are as fast without, convolutions up to 1.5 times as fast with it.
            Frame::Packed(_) if caps.lanes() < 8 && !size.gather => continue,
            Frame::Packed(cols) => (20.0 + 22.0 * cols as f64, 16.0 * (15.0 + 8.0 * cols as f64)),
            Frame::Subgroup(lanes, rows) => {
                let rows = rows as f64;
                (14.0 * rows / lanes as f64 + 2.0 * block + 16.3 * rows, 48.0 * rows)
            }
            Frame::Direct(rows, cols) => {
                let (r, c) = (rows as f64, cols as f64);
                // Short products take twice what the loads alone would; measured, the cause is not known.
                let slow = if size.gather { 1.0 } else { 2.0 };
                (slow * (14.0 * r + block * c + 10.7 * r * c), 24.0 * r * c)
            }
        };
        for swap in [false, true] {
            if swap && !may_swap {
                continue;
            }
            let s = flipped(size, swap);
            if matches!(frame, Frame::Subgroup(_, rows) if 2 * s.m <= rows as usize) {
                // Most of the tile would be nothing.
                continue;
            }
            let tiles = frame.tiles(s, caps);
            let target = if matches!(frame, Frame::Direct(..)) { 16 * lanes as usize } else { 16 };
            for splits in [1, (target / tiles.max(1)).min(s.k / 64)] {
                let choice = finished(name, frame, s, splits.max(1), swap);
                let units = tiles * choice.splits as usize;
                // Two threads at least share the workgroups: how many SIMD groups one of them gets.
                let (groups, workgroups) = match frame {
                    Frame::Direct(..) => {
                        let wg = direct_workgroup(units as u64, s.k.min(choice.chunk as usize), caps) as usize;
                        let workgroups = units.div_ceil(wg);
                        (workgroups.div_ceil(2) as f64 * (units.min(wg) as f64 / lanes).ceil(), workgroups)
                    }
                    _ => (units.div_ceil(2) as f64, units),
                };
                let k = s.k.min(choice.chunk as usize).div_ceil(4) as f64;
                let mut more = if texels > 0 { 4e4 + 7.0 * texels as f64 } else { 0.0 };
                if let Frame::Subgroup(_, rows) = frame {
                    more += if size.gather { 1e6 } else { COMPILE * f64::from(rows / 8).powi(2) };
                }
                if workgroups > 1 {
                    more += WAKE;
                }
                if choice.splits > 1 {
                    more += 2e4 + 1.5 * (s.m * s.n * s.batches * choice.splits as usize) as f64;
                }
                let cost = groups * (k * step + store + 150.0) + more;
                if best.is_none_or(|b| cost < b.0) {
                    best = Some((cost, choice));
                }
            }
        }
    }
    best.map_or_else(|| finished("direct_4x1", Frame::Direct(4, 1), size, 1, false), |b| b.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_picks() {
        let caps =
            |lanes| GpuCaps { image_rows: 8192, ..GpuCaps::sample(AdapterClass::Software, Some((lanes, lanes))) };
        let pick = |lanes: u32, [m, k, n]: [usize; 3], gather: bool| {
            let caps = caps(lanes);
            let size = Size { m, n, k, batches: 1, gather };
            let texels = packed::texels([m, n, k, 1], Frame::Packed(8), &caps).iter().sum::<u64>() as usize;
            choose("matmul", size, Some(Packing { size, texels }), false, &caps).expect("a choice").name
        };
        // As `kiln bench --variants` measured them: small products by tiles of eight rows, longer ones of sixteen, large ones packed.
        assert_eq!(pick(8, [32, 64, 64], false), "subgroup_8x8");
        assert_eq!(pick(8, [64, 3136, 128], false), "subgroup_8");
        assert_eq!(pick(8, [512, 512, 512], false), "packed_8");
        // Of eight rows one or four would be used.
        assert_eq!(pick(8, [1, 1024, 1024], false), "direct_1x2");
        assert!(pick(8, [4, 1024, 1024], false).starts_with("direct"));
        // With four lanes packing pays for what gathers alone.
        assert!(!pick(4, [512, 512, 512], false).starts_with("packed"));
        assert!(pick(4, [32, 144, 25088], true).starts_with("packed"));
    }

    #[test]
    fn names_of_convolutions_lack_products_of_few_rows_alone() {
        assert!(GATHER_VARIANT_NAMES.iter().all(|v| !v.starts_with("broadcast")));
        assert!(VARIANT_NAMES[GATHER_VARIANT_NAMES.len()..].iter().all(|v| v.starts_with("broadcast")));
    }

    #[test]
    fn gpu_picks() {
        let pick = |class, [m, k, n]: [usize; 3]| {
            let caps = GpuCaps::sample(class, Some((32, 64)));
            choose("matmul", Size { m, n, k, batches: 1, gather: false }, None, false, &caps).expect("a choice").name
        };
        assert_eq!(pick(AdapterClass::Discrete, [4096, 4096, 4096]), "tiled_128");
        assert_eq!(pick(AdapterClass::Integrated, [4096, 4096, 4096]), "tiled_64");
        assert_eq!(pick(AdapterClass::Discrete, [1024, 1024, 1024]), "tiled_64");
        assert_eq!(pick(AdapterClass::Discrete, [64, 64, 1 << 20]), "tiled_64");
        assert_eq!(pick(AdapterClass::Discrete, [144, 1024, 65536]), "tiled_64");
        assert_eq!(pick(AdapterClass::Discrete, [128, 784, 512]), "tiled_32");
        assert_eq!(pick(AdapterClass::Discrete, [1, 1024, 1024]), "direct_1x1");
    }

    #[test]
    fn few_invocations_are_two_workgroups_on_software_adapters() {
        let of =
            |class, k| [1, 16, 17, 32, 33, 1000].map(|n| direct_workgroup(n, k, &GpuCaps::sample(class, Some((8, 8)))));
        assert_eq!(of(AdapterClass::Software, 512), [32, 32, 16, 16, 32, 32]);
        assert_eq!(of(AdapterClass::Software, 64), [32; 6]);
        assert_eq!(of(AdapterClass::Discrete, 512), [64; 6]);
    }
}
