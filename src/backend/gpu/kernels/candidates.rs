//! Which kernels could compute a region: the built-in pick, and every other variant that fits it on this adapter. Pure, like
//! selection. `bench::variants` measures them; a pick of a tuning file is one of them, by name.

use super::{KernelCall, KernelInfo, Serves, choice, find, plain};
use crate::backend::gpu::caps::GpuCaps;
use crate::plan::{Region, RegionKind, Source};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Into how many pieces products and convolutions may split k, besides one.
const SPLITS: [usize; 6] = [2, 4, 8, 16, 32, 64];

/// One way to compute a region.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The variant's name: as in [`Pick::variant`]; of the built-in pick, what it amounts to.
    pub variant: String,
    /// True for what is chosen where no tuning file says otherwise.
    pub built_in: bool,
    /// What would run.
    pub calls: Vec<KernelCall>,
}

/// What a tuning file wants for one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Name of the variant, possibly `_t` (rows and columns exchanged) and `:n` (k in n pieces) behind it.
    pub variant: String,
    /// [`texts`] of the calls that were measured: if they are others now, the pick is no longer about them.
    pub texts: String,
}

/// The picks of a tuning file: [`key`] of the region -> what it wants.
pub type Picks = BTreeMap<String, Pick>;

/// The calls of a region under this variant, or why it does not fit.
pub fn with_variant(region: &Region, caps: &GpuCaps, variant: &str) -> Result<Vec<KernelCall>, String> {
    let kernel = find(region)?;
    let base = variant.split(':').next().unwrap_or_default().trim_end_matches("_t");
    if !kernel.variants.contains(&base) {
        return Err(format!("there is no variant {variant:?}"));
    }
    let variants = kernel.asked_by().map(|s| (s.to_string(), variant.to_string())).collect();
    let calls = plain(kernel, region, &GpuCaps { variants, picks: Default::default(), ..caps.clone() })?;
    match calls.iter().any(|c| c.variant == base) {
        true => Ok(calls),
        false => Err(format!("variant {variant} does not fit this region")),
    }
}

/// What a tuning file wants for this region, if it is still what was measured: the variant's name and the calls.
pub fn picked(region: &Region, caps: &GpuCaps) -> Option<(String, Result<Vec<KernelCall>, String>)> {
    if caps.picks.is_empty() {
        return None;
    }
    let pick = caps.picks.get(&key(region))?;
    let calls = with_variant(region, caps, &pick.variant).and_then(|calls| match texts(&calls) == pick.texts {
        true => Ok(calls),
        false => Err("its kernels have changed since".into()),
    });
    Some((pick.variant.clone(), calls))
}

/// All ways to compute a region, the built-in first; the others differ from it and from each other. A frame comes before its splits
/// of k, and those by their number.
pub fn candidates(region: &Region, caps: &GpuCaps) -> Result<Vec<Candidate>, String> {
    let kernel = find(region)?;
    let untuned = GpuCaps { picks: Default::default(), ..caps.clone() };
    let calls = plain(kernel, region, &untuned)?;
    let main = calls.iter().map(|c| c.variant).find(|v| !["pack", "combine", "scan", "chunks"].contains(v));
    let mut all = vec![Candidate { variant: main.unwrap_or("built-in").into(), built_in: true, calls }];
    let (mut seen, mut named) = (vec![texts(&all[0].calls)], false);
    for variant in names(kernel).into_iter().filter(|v| !hopeless(kernel, v, caps)) {
        let Ok(calls) = with_variant(region, &untuned, &variant) else { continue };
        let own = texts(&calls);
        if own == seen[0] && !named {
            all[0].variant.clone_from(&variant);
            named = true;
        }
        if !seen.contains(&own) {
            seen.push(own);
            all.push(Candidate { variant, built_in: false, calls });
        }
    }
    Ok(all)
}

/// True for what is never near the best on this adapter and takes long to compile: on software adapters the largest tiles and products of a GPU's
/// subgroups, and attention in tiles on those of fewer than eight lanes (SwiftShader needs minutes and 14 GB for it).
fn hopeless(kernel: &KernelInfo, variant: &str, caps: &GpuCaps) -> bool {
    let large = ["tiled_128", "tile_64", "broadcast"].iter().any(|v| variant.starts_with(v))
        || (variant == "subgroup" && kernel.stems.contains(&"attention"));
    caps.software() && (large || (variant == "tile_32" && caps.lanes() < 8))
}

/// Names of variants that a region of this kernel may have.
fn names(kernel: &KernelInfo) -> Vec<String> {
    if !matches!(kernel.serves, Serves::Kind(RegionKind::Dot | RegionKind::Conv)) {
        return kernel.variants.iter().map(|v| v.to_string()).collect();
    }
    let ways = |(name, _): &(&str, choice::Frame)| ["", "_t"].map(|t| format!("{name}{t}"));
    let whole: Vec<String> = choice::VARIANTS.iter().flat_map(ways).collect();
    let split = whole.iter().flat_map(|name| SPLITS.map(|n| format!("{name}:{n}")));
    whole.iter().cloned().chain(split).collect()
}

/// A digest of everything that distinguishes calls on the device: texts, constants, parameters, grids.
pub fn texts(calls: &[KernelCall]) -> String {
    let mut hash = Sha256::new();
    for c in calls {
        hash.update(c.source.as_bytes());
        hash.update(format!("{}{:?}{:?}{:?}", c.label, c.overrides, c.bindings, c.grid));
        // The site of an operation is not known yet; all other parameters are.
        hash.update(&c.params.bytes);
    }
    short(hash)
}

/// What a region computes on which memory, as a digest: the same for equal regions of any program. Slots are numbered in the order
/// in which they appear.
pub fn key(region: &Region) -> String {
    let mut slots = Vec::new();
    let mut slot = |s| {
        let at = slots.iter().position(|&known| known == s);
        at.unwrap_or_else(|| {
            slots.push(s);
            slots.len() - 1
        })
    };
    let mut text = format!("{:?}\n", region.kind);
    for arg in &region.args {
        let source = if let Source::Slot(s) = arg.source { slot(s).to_string() } else { "iota".into() };
        let _ = writeln!(text, "{source} {} {:?}", arg.dtype, arg.view);
    }
    for out in &region.outs {
        let _ = writeln!(text, "{} {}", slot(out.slot), out.ty);
    }
    let _ = writeln!(text, "{:?}\n{}", region.in_place, region.body);
    let mut hash = Sha256::new();
    hash.update(text);
    short(hash)
}

fn short(hash: Sha256) -> String {
    hash.finalize()[..12].iter().map(|b| format!("{b:02x}")).collect()
}

/// A region for people: what it computes, from what, to what.
pub fn describe(region: &Region) -> String {
    let args: Vec<String> = region.args.iter().take(4).map(|a| format!("{}{}", a.dtype, a.view.shape)).collect();
    let more = if region.args.len() > 4 { format!(" and {} more", region.args.len() - 4) } else { String::new() };
    let outs: Vec<String> = region.outs.iter().map(|o| o.ty.to_string()).collect();
    format!("{} {}{more} -> {}", region.label(), args.join(" "), outs.join(" "))
}
