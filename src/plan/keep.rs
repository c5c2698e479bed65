//! Recompute or keep: a region of the backward pass that reads values which a pointwise region of the forward pass has
//! stored only for it gets copies of their computation instead, where that costs less than the memory traffic.
//!
//! GELU's forward would store every intermediate of its formula; with copies its pre-activation alone suffices. Works on
//! the clusters of a first fusion, which say what would be stored, and leaves the second fusion to attach the copies.
//! Products, convolutions, reductions and composites are never repeated.

use crate::ir::{Binary, Prim, Unary};
use crate::plan::fuse::{MAX_ATTACHED, MAX_CLUSTER};
use crate::plan::items::{Arg, Base, Item, Items};
use crate::plan::recompute::alive;
use crate::plan::regions::{Cluster, operands, view_in};
use crate::plan::{Limits, RegionKind};
use crate::shape::View;
use std::collections::{BTreeMap, BTreeSet};

/// What not reading or not writing one tensor is worth, in cheap operations per element: a stream through the L2 cache
/// takes about 0.25 ns per element on one thread, an addition 0.06 ns. Tensors of [`LARGE`] elements leave that cache.
const STREAM: usize = 4;
/// From how many elements on a stream is worth twice as much.
const LARGE: usize = 16 << 10;

/// The items, with copies of what is cheaper to compute again than to store.
pub(super) fn keep(items: Items, clusters: Vec<Cluster>, limits: Limits) -> Items {
    let n = items.items.len();
    let mut k = Keep { items, clusters, limits, of: vec![0; n], readers: Vec::new(), escapes: vec![false; n] };
    for (c, cluster) in k.clusters.iter().enumerate() {
        cluster.members.iter().for_each(|&m| k.of[m] = c);
    }
    k.items.outputs.iter().flatten().for_each(|(p, _)| k.escapes[*p] = true);
    k.find_readers();
    let compared = k.compared();
    let mut copied = false;
    for p in 0..k.clusters.len() {
        if k.clusters[p].kind == RegionKind::Pointwise && k.clusters[p].shape.elems() > 1 {
            copied |= k.cluster(p, &compared);
        }
    }
    if copied { alive(sorted(k.items, n)) } else { k.items }
}

/// What a cluster reads from memory.
type Reads = Vec<(Base, View)>;

struct Keep {
    /// Copies are appended, after the items that read them; `sorted` puts that right.
    items: Items,
    clusters: Vec<Cluster>,
    limits: Limits,
    of: Vec<usize>,
    readers: Vec<BTreeSet<usize>>,
    escapes: Vec<bool>,
}

/// The values that one cluster would compute again: which, by which items, and from what.
#[derive(Default)]
struct Copies {
    wanted: BTreeSet<usize>,
    cone: BTreeSet<usize>,
}

impl Keep {
    fn find_readers(&mut self) {
        self.readers = vec![BTreeSet::new(); self.items.items.len()];
        for (i, item) in self.items.items.iter().enumerate() {
            for arg in &item.args {
                if let Arg::View { base: Base::Item(p, _), .. } = arg {
                    self.readers[*p].insert(i);
                }
            }
        }
    }

    /// For each item, whether an equality of two tensors depends on it through pointwise items. The two sides of
    /// `x == max(x)` must see the same bits of x, and a copy may be rounded otherwise, as part of a multiply-add.
    fn compared(&self) -> Vec<bool> {
        let mut compared = vec![false; self.items.items.len()];
        for i in (0..compared.len()).rev() {
            compared[i] = self.readers[i].iter().any(|&r| {
                let item = &self.items.items[r];
                let constant = item.args.iter().any(|a| matches!(a, Arg::Const(..)));
                matches!(item.prim, Some(Prim::Binary(Binary::Eq))) && !constant
                    || item.kind == RegionKind::Pointwise && compared[r]
            });
        }
        compared
    }

    /// Decides on the results of cluster `p`; returns whether anything is computed again.
    fn cluster(&mut self, p: usize, compared: &[bool]) -> bool {
        let members = self.clusters[p].members.clone();
        let stored: Vec<usize> = members.iter().copied().filter(|&m| self.outside(m, p).next().is_some()).collect();
        let open: BTreeSet<usize> = stored
            .iter()
            .copied()
            .filter(|&v| v < compared.len() && !self.escapes[v] && self.outside(v, p).all(|r| self.absorbs(r, v)))
            .collect();
        if open.is_empty() {
            return false;
        }
        let stored: BTreeSet<usize> =
            stored.into_iter().chain(members.iter().copied().filter(|&m| self.escapes[m])).collect();
        let blocked = |cone: &BTreeSet<usize>, v: usize| {
            cone.iter().any(|&t| price(&self.items.items[t]).is_none())
                || compared[v] && cone.iter().any(|&t| !is_exact(&self.items.items[t]))
        };
        // All that can be copied; what cannot is stored, so later ones may start from it.
        let mut all = open.clone();
        for &v in &open {
            if blocked(&self.cone(p, v, &stored, &all), v) {
                all.remove(&v);
            }
        }
        let mut chosen = if self.pays(p, &all, &stored) { all.clone() } else { BTreeSet::new() };
        for &v in &all {
            let more: BTreeSet<usize> = chosen.iter().copied().chain([v]).collect();
            // With fewer copies there are fewer blocks, but more that the cone must not reach.
            let free = more.iter().all(|&v| !blocked(&self.cone(p, v, &stored, &more), v));
            if more.len() > chosen.len() && free && self.pays(p, &more, &stored) {
                chosen = more;
            }
        }
        if chosen.is_empty() {
            return false;
        }
        let plans = self.copies(p, &chosen, &stored);
        plans.iter().for_each(|(&r, copies)| self.repeat(r, copies));
        self.find_readers();
        true
    }

    /// Readers of `m` outside of its cluster.
    fn outside(&self, m: usize, p: usize) -> impl Iterator<Item = usize> {
        self.readers[m].iter().copied().filter(move |&r| self.of[r] != p)
    }

    /// True if `r` reads `v` as it is, in loops that can compute it instead.
    fn absorbs(&self, r: usize, v: usize) -> bool {
        let (item, cluster) = (&self.items.items[r], &self.clusters[self.of[r]]);
        let loops = matches!(item.kind, RegionKind::Pointwise | RegionKind::Reduce);
        // Regions that write outputs keep their form: optimizer steps in place are worth more.
        let writes = cluster.kind == RegionKind::Pointwise && cluster.members.iter().any(|&m| self.escapes[m]);
        let elems = self.items.items[v].shape.elems();
        loops && !writes && item.shape.elems() == elems && reads_whole(item, v, elems)
    }

    /// The items of cluster `p` that `v` is computed from, down to values that are stored.
    fn cone(&self, p: usize, v: usize, stored: &BTreeSet<usize>, copied: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut cone = BTreeSet::from([v]);
        let mut open = vec![v];
        while let Some(t) = open.pop() {
            for arg in &self.items.items[t].args {
                let Arg::View { base: Base::Item(q, _), .. } = arg else { continue };
                let kept = stored.contains(q) && !copied.contains(q);
                if self.of[*q] == p && !kept && cone.insert(*q) {
                    open.push(*q);
                }
            }
        }
        cone
    }

    /// What each reading cluster would compute again.
    fn copies(&self, p: usize, copied: &BTreeSet<usize>, stored: &BTreeSet<usize>) -> BTreeMap<usize, Copies> {
        let mut plans: BTreeMap<usize, Copies> = BTreeMap::new();
        for &v in copied {
            let cone = self.cone(p, v, stored, copied);
            for r in self.outside(v, p) {
                let plan = plans.entry(self.of[r]).or_default();
                plan.wanted.insert(v);
                plan.cone.extend(&cone);
            }
        }
        plans
    }

    /// True if computing these values of cluster `p` again is possible and costs less than storing them.
    fn pays(&self, p: usize, copied: &BTreeSet<usize>, stored: &BTreeSet<usize>) -> bool {
        let elems = self.clusters[p].shape.elems();
        let (mut cost, mut reads_saved, mut longer) = (0, 0isize, BTreeMap::new());
        for (r, copies) in self.copies(p, copied, stored) {
            let cluster = &self.clusters[r];
            let most = if cluster.kind == RegionKind::Pointwise { MAX_CLUSTER } else { MAX_ATTACHED };
            let Some((before, after)) = self.operands_with(cluster, &copies) else { return false };
            let product = matches!(cluster.kind, RegionKind::Dot | RegionKind::Conv);
            let outs = cluster.members.iter().filter(|&&m| self.escapes[m] || self.outside(m, r).next().is_some());
            let fits = cluster.members.len() + copies.cone.len() <= most
                && after.len() + outs.count() <= self.limits.max_operands
                && !(product && (after.len() > before.len() || after.iter().any(|(b, _)| *b == Base::Iota)));
            let new: Vec<_> = after.iter().filter(|o| !before.contains(o)).collect();
            let large = new.iter().filter(|(_, view)| !is_small(view)).count();
            if !fits || large > copies.wanted.len() {
                return false;
            }
            for (base, view) in new.into_iter().filter(|(base, _)| matches!(base, Base::Item(..))) {
                longer.insert(*base, !is_small(view));
            }
            reads_saved += copies.wanted.len() as isize - large as isize;
            cost += copies.cone.iter().filter_map(|&t| price(&self.items.items[t])).sum::<usize>();
        }
        // What is read later lives longer; it may not take more memory than what is not stored.
        let streams = copied.len() + reads_saved.max(0) as usize;
        let worth = if elems >= LARGE { 2 * STREAM } else { STREAM };
        longer.values().filter(|&&large| large).count() <= copied.len() && cost <= worth * streams
    }

    /// The operands of a cluster before and after the change; `None` if one does not fit its index space.
    fn operands_with(&self, cluster: &Cluster, copies: &Copies) -> Option<(Reads, Reads)> {
        let before = operands(&self.items, cluster)?;
        let replaced = |b: &Base| matches!(b, Base::Item(v, _) if copies.wanted.contains(v));
        let mut after: Reads = before.iter().filter(|(b, _)| !replaced(b)).cloned().collect();
        for &t in &copies.cone {
            let item = &self.items.items[t];
            for arg in &item.args {
                let Arg::View { base, view, .. } = arg else { continue };
                if matches!(base, Base::Item(q, _) if copies.cone.contains(q)) {
                    continue;
                }
                let operand = (*base, view_in(item, view, &cluster.shape)?);
                if !after.contains(&operand) {
                    after.push(operand);
                }
            }
        }
        Some((before, after))
    }

    /// Gives cluster `r` its copies, and lets its members read them.
    fn repeat(&mut self, r: usize, copies: &Copies) {
        let mut at: BTreeMap<usize, usize> = BTreeMap::new();
        let readers: Vec<usize> = self.clusters[r].members.clone();
        let fresh = |at: &BTreeMap<usize, usize>, item: &mut Item| {
            for arg in &mut item.args {
                if let Arg::View { base: Base::Item(q, _), .. } = arg {
                    *q = at.get(q).copied().unwrap_or(*q);
                }
            }
        };
        // Copies of copies lie after their readers, so a copy's arguments are looked up when all have their place.
        for (i, &t) in copies.cone.iter().enumerate() {
            at.insert(t, self.items.items.len() + i);
        }
        for &t in &copies.cone {
            let mut item = self.items.items[t].clone();
            fresh(&at, &mut item);
            item.copied = true;
            self.clusters[r].members.push(self.items.items.len());
            self.items.items.push(item);
            self.of.push(r);
            self.escapes.push(false);
        }
        at.retain(|t, _| copies.wanted.contains(t));
        readers.into_iter().for_each(|m| fresh(&at, &mut self.items.items[m]));
    }
}

/// True if `item` reads the whole of `v`, in order, wherever it reads it.
fn reads_whole(item: &Item, v: usize, elems: usize) -> bool {
    item.args.iter().all(|arg| match arg {
        Arg::View { base: Base::Item(q, _), view, .. } if *q == v => view.is_identity(elems),
        _ => true,
    })
}

/// True if the view repeats what it reads, such as a bias or a row's statistic.
fn is_small(view: &View) -> bool {
    view.shape.iter().zip(&view.strides).any(|(&n, &s)| n > 1 && s == 0)
}

/// Rough cost per element in additions; `None` for what is never repeated. Random numbers are: ten rounds of wide
/// multiplications take longer than reading the mask made from them.
fn price(item: &Item) -> Option<usize> {
    match &item.prim {
        None | Some(Prim::Select | Prim::Cast(_)) => Some(1),
        Some(Prim::Unary(u)) => Some(match u {
            Unary::Exp | Unary::Log | Unary::Tanh => 8,
            Unary::Erf => 12,
            Unary::Expm1 | Unary::Log1p | Unary::Sin | Unary::Cos => 24,
            Unary::Sqrt | Unary::Recip => 2,
            Unary::Neg | Unary::Floor | Unary::Round | Unary::Sign | Unary::Abs | Unary::IsFinite | Unary::Not => 1,
        }),
        Some(Prim::Binary(Binary::Pow | Binary::Rem)) => None,
        Some(Prim::Binary(Binary::Div)) => Some(2),
        Some(Prim::Binary(_)) => Some(1),
        _ => None,
    }
}

/// True for operations without rounding, whose copies give the same bits in whatever loop they run.
fn is_exact(item: &Item) -> bool {
    match &item.prim {
        None | Some(Prim::Select | Prim::Cast(_)) => true,
        Some(Prim::Unary(u)) => matches!(
            u,
            Unary::Neg | Unary::Floor | Unary::Round | Unary::Sign | Unary::Abs | Unary::IsFinite | Unary::Not
        ),
        Some(Prim::Binary(b)) => {
            !matches!(b, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Pow | Binary::Rem)
        }
        _ => false,
    }
}

/// The items in topological order again: each copy right before the first item that needs it.
fn sorted(old: Items, originals: usize) -> Items {
    let mut at: Vec<Option<usize>> = vec![None; old.items.len()];
    let mut order = Vec::with_capacity(old.items.len());
    for i in 0..originals {
        let mut open = vec![(i, false)];
        while let Some((t, ready)) = open.pop() {
            if at[t].is_some() {
                continue;
            }
            if ready {
                at[t] = Some(order.len());
                order.push(t);
                continue;
            }
            open.push((t, true));
            let sources: Vec<usize> = old.items[t].sources().collect();
            open.extend(sources.into_iter().rev().map(|q| (q, false)));
        }
    }
    let place = |t: usize| at[t].unwrap_or_default();
    let mut new = Items::default();
    for &t in &order {
        let mut item = old.items[t].clone();
        item.redirect(place);
        new.items.push(item);
    }
    new.outputs = old.outputs.iter().map(|o| o.map(|(t, out)| (place(t), out))).collect();
    new
}
