//! Fusion: which items run as one region. A product or convolution takes the pointwise items that only its result
//! leads through (epilogue), a reduction those that only it reads (prologue), and what is left of the pointwise items
//! merges along edges and between siblings that read the same tensor, into regions with several results; at last these take
//! the concatenations of what they compute.
//!
//! A merge is legal if no path leaves the cluster and comes back. Clusters with one exit cannot have such a path
//! (it would be a cycle between items); merges of pointwise clusters search for one.

use crate::plan::items::{Arg, Base, Items};
use crate::plan::regions::{Cluster, operands, region, view_in};
use crate::plan::{Caps, Limits, RegionKind, SlotId};
use crate::shape::Shape;
use std::collections::{BTreeMap, BTreeSet};

/// Longest epilogue or prologue, in items: beyond it kernels would run out of registers, and compile slowly.
pub(super) const MAX_ATTACHED: usize = 32;
/// Largest pointwise cluster, in items, for the same reasons.
pub(super) const MAX_CLUSTER: usize = 64;

/// Up to how many elements the launch of a kernel costs more than its work.
const SMALL: usize = 64 << 10;

/// What fusion made of the items.
pub(super) struct Clusters {
    /// Clusters in topological order.
    pub list: Vec<Cluster>,
}

/// True if the device takes this cluster with its single result as one region, views left aside.
pub(super) fn accepted(items: &Items, cluster: &Cluster, device: &dyn Caps) -> bool {
    let Some(&last) = cluster.members.last() else { return false };
    let region = region(items, cluster, &[(last, 0)], &|_| SlotId(0));
    region.is_some_and(|r| device.supports(&r).is_ok())
}

/// Items that read each item, and whether its results are outputs of the graph.
struct Uses {
    readers: Vec<Vec<usize>>,
    /// Items that wait for each item without reading it.
    waiting: Vec<Vec<usize>>,
    /// Also true for items that others wait for: nothing that is computed after them may join their region, since it
    /// might read what waits.
    escapes: Vec<bool>,
}

/// Clusters of items. `accepts` says whether the device takes a product, convolution or reduction with what was
/// attached to it.
pub(super) fn fuse(items: &Items, limits: Limits, on: bool, accepts: &dyn Fn(&Cluster) -> bool) -> Clusters {
    let n = items.items.len();
    let mut uses = Uses { readers: vec![Vec::new(); n], waiting: vec![Vec::new(); n], escapes: vec![false; n] };
    for (i, item) in items.items.iter().enumerate() {
        for &p in &item.after {
            uses.waiting[p].push(i);
            uses.escapes[p] = true;
        }
        for arg in &item.args {
            if let Arg::View { base: Base::Item(p, _), .. } = arg
                && uses.readers[*p].last() != Some(&i)
            {
                uses.readers[*p].push(i);
            }
        }
    }
    for (p, _) in items.outputs.iter().flatten() {
        uses.escapes[*p] = true;
    }
    let clusters = items
        .items
        .iter()
        .enumerate()
        .map(|(i, item)| Some(Cluster { kind: item.kind, shape: item.shape.clone(), members: vec![i] }))
        .collect();
    let mut f = Fuser { items, uses, limits, accepts, clusters, of: (0..n).collect(), stamp: vec![0; n], now: 0 };
    if on {
        f.epilogues();
        f.prologues();
        f.edges();
        f.siblings();
        f.small_results();
        f.joins();
    }
    f.sorted()
}

struct Fuser<'a> {
    items: &'a Items,
    uses: Uses,
    limits: Limits,
    accepts: &'a dyn Fn(&Cluster) -> bool,
    clusters: Vec<Option<Cluster>>,
    /// The cluster of each item.
    of: Vec<usize>,
    /// Marks of searches: a cluster was visited in search `now` if its stamp says so.
    stamp: Vec<usize>,
    now: usize,
}

impl Fuser<'_> {
    fn alone(&self, item: usize) -> bool {
        self.clusters[self.of[item]].as_ref().is_some_and(|c| c.members.len() == 1)
    }

    /// True if `item` reads `from` only whole and in order.
    fn reads_whole(&self, item: usize, from: &dyn Fn(usize) -> bool) -> bool {
        self.items.items[item].args.iter().all(|arg| match arg {
            Arg::View { base: Base::Item(p, out), view, .. } if from(*p) => {
                view.is_identity(self.items.items[*p].outs[*out as usize].shape.elems())
            }
            _ => true,
        })
    }

    /// True if `item` can run in an index space of this shape, reading the items in `inside` without memory.
    fn fits(&self, item: usize, shape: &Shape, inside: &dyn Fn(usize) -> bool) -> bool {
        let it = &self.items.items[item];
        it.kind == RegionKind::Pointwise
            && it.shape.elems() == shape.elems()
            && self.reads_whole(item, inside)
            && it.args.iter().all(|arg| match arg {
                Arg::View { base: Base::Item(p, _), .. } if inside(*p) => true,
                Arg::View { view, .. } => view_in(it, view, shape).is_some(),
                Arg::Const(..) => true,
            })
    }

    /// Number of slots that a cluster touches fits the limit.
    fn small(&self, cluster: &Cluster) -> bool {
        let outs = cluster.members.iter().filter(|&&m| self.leaves(m, &cluster.members)).count();
        operands(self.items, cluster).is_some_and(|ops| ops.len() + outs <= self.limits.max_operands)
    }

    /// True if the item's result is needed outside of `members` (sorted).
    fn leaves(&self, item: usize, members: &[usize]) -> bool {
        self.uses.escapes[item] || self.uses.readers[item].iter().any(|r| members.binary_search(r).is_err())
    }

    fn replace(&mut self, id: usize, cluster: Cluster) {
        for &m in &cluster.members {
            let old = self.of[m];
            if old != id {
                self.clusters[old] = None;
            }
            self.of[m] = id;
        }
        self.clusters[id] = Some(cluster);
    }

    /// Lets products and convolutions take the pointwise items after them, up to the farthest single exit.
    fn epilogues(&mut self) {
        for d in 0..self.items.items.len() {
            let item = &self.items.items[d];
            if !matches!(item.kind, RegionKind::Dot | RegionKind::Conv) || self.uses.escapes[d] {
                continue;
            }
            let shape = item.outs[0].shape.clone();
            let mut members = vec![d];
            let mut best: Option<Cluster> = None;
            while members.len() <= MAX_ATTACHED {
                let readers = members.iter().flat_map(|&m| &self.uses.readers[m]);
                let Some(&next) = readers.filter(|r| members.binary_search(r).is_err()).min() else { break };
                let random = matches!(self.items.items[next].prim, Some(crate::ir::Prim::Random { .. }));
                let iota = self.items.items[next].args.iter().any(|a| matches!(a, Arg::View { base: Base::Iota, .. }));
                let inside = |p: usize| members.binary_search(&p).is_ok();
                if random || iota || !self.alone(next) || !self.fits(next, &shape, &inside) {
                    break;
                }
                let at = members.partition_point(|&m| m < next);
                members.insert(at, next);
                let exits = members.iter().filter(|&&m| self.leaves(m, &members)).count();
                // `next` is the last in order; if it is the only exit, it is the result.
                if exits == 1 && members.last() == Some(&next) && self.leaves(next, &members) {
                    let kind = self.items.items[d].kind;
                    let mut cluster = Cluster { kind, shape: shape.clone(), members: members.clone() };
                    self.take_copies(&mut cluster);
                    if cluster.members.len() <= MAX_ATTACHED + 1 && self.small(&cluster) {
                        best = Some(cluster);
                    }
                }
                if self.uses.escapes[next] {
                    break;
                }
            }
            if let Some(cluster) = best.filter(|c| (self.accepts)(c)) {
                self.replace(self.of[d], cluster);
            }
        }
    }

    /// Adds the copies that were made for this cluster: what only its members read.
    fn take_copies(&self, cluster: &mut Cluster) {
        let mut open: BTreeSet<usize> = cluster.members.iter().flat_map(|&m| self.producers(m)).collect();
        while let Some(p) = open.pop_last() {
            let inside = |q: &usize| cluster.members.binary_search(q).is_ok();
            let only = self.uses.readers[p].iter().all(|q| inside(q) && self.reads_whole(*q, &|x| x == p));
            if self.items.items[p].copied && only && self.alone(p) && self.fits(p, &cluster.shape, &|_| false) {
                let at = cluster.members.partition_point(|&m| m < p);
                if cluster.members.get(at) != Some(&p) {
                    cluster.members.insert(at, p);
                    open.extend(self.producers(p));
                }
            }
        }
    }

    /// Lets reductions take the pointwise items that only they read.
    fn prologues(&mut self) {
        for r in 0..self.items.items.len() {
            if self.items.items[r].kind != RegionKind::Reduce {
                continue;
            }
            let shape = self.items.items[r].shape.clone();
            let mut cluster = Cluster { kind: RegionKind::Reduce, shape: shape.clone(), members: vec![r] };
            // Producers are found in descending order, so that all readers of one are known when it is tried.
            let mut open: BTreeSet<usize> = self.producers(r);
            while let Some(p) = open.pop_last() {
                let whole = self.uses.readers[p]
                    .iter()
                    .all(|&q| cluster.members.binary_search(&q).is_ok() && self.reads_whole(q, &|x| x == p));
                let none = |_: usize| false;
                if !whole || self.uses.escapes[p] || !self.alone(p) || !self.fits(p, &shape, &none) {
                    continue;
                }
                let mut larger = cluster.clone();
                larger.members.insert(larger.members.partition_point(|&m| m < p), p);
                if larger.members.len() > MAX_ATTACHED || !self.small(&larger) {
                    continue;
                }
                cluster = larger;
                open.extend(self.producers(p));
            }
            if cluster.members.len() > 1 && (self.accepts)(&cluster) {
                self.replace(self.of[r], cluster);
            }
        }
    }

    fn producers(&self, item: usize) -> BTreeSet<usize> {
        let bases = self.items.items[item].args.iter().filter_map(|a| match a {
            Arg::View { base: Base::Item(p, _), .. } => Some(*p),
            _ => None,
        });
        bases.collect()
    }

    /// Merges pointwise clusters along the edges between them.
    fn edges(&mut self) {
        // Copies first join those that they were made for; else they might join the region that they relieve.
        for p in (0..self.items.items.len()).rev().filter(|&p| self.items.items[p].copied) {
            for r in self.uses.readers[p].clone() {
                self.merge(self.of[p], self.of[r]);
            }
        }
        for c in 0..self.items.items.len() {
            for p in self.producers(c) {
                self.merge(self.of[p], self.of[c]);
            }
        }
    }

    /// Merges pointwise clusters that read the same whole tensor.
    fn siblings(&mut self) {
        for p in 0..self.items.items.len() {
            let elems = self.items.items[p].outs[0].shape.elems();
            let readers: Vec<usize> = self.uses.readers[p].clone();
            for pair in readers.windows(2) {
                let large = |r: usize| self.items.items[r].shape.elems() == elems && self.reads_whole(r, &|x| x == p);
                if elems > 1 && large(pair[0]) && large(pair[1]) {
                    self.merge(self.of[pair[0]], self.of[pair[1]]);
                }
            }
        }
    }

    /// Lets pointwise clusters write what they compute where a concatenation wants it: the gradients of a recurrent
    /// cell's gates become one matrix without a pass of their own.
    fn joins(&mut self) {
        for c in 0..self.items.items.len() {
            let item = &self.items.items[c];
            if item.kind != RegionKind::Concat || item.outs[0].shape.elems() == 0 || !self.alone(c) {
                continue;
            }
            let shape = item.args[0].shape();
            // Constants that a copy writes out are no values of an index space.
            let computed = |p: usize| {
                let piece = &self.items.items[p];
                piece.kind == RegionKind::Pointwise && piece.args.iter().any(|a| matches!(a, Arg::View { .. }))
            };
            let fits = |arg: &Arg| arg.item().is_some_and(computed) && arg.shape() == shape;
            if !item.args.iter().all(fits) || !self.reads_whole(c, &|_| true) {
                continue;
            }
            let pieces: Vec<usize> = item.reads().collect();
            for pair in pieces.windows(2) {
                self.merge(self.of[pair[0]], self.of[pair[1]]);
            }
            let home = self.of[pieces[0]];
            let Some(old) = self.clusters[home].clone().filter(|_| pieces.iter().all(|&p| self.of[p] == home)) else {
                continue;
            };
            let mut cluster = old;
            cluster.members.insert(cluster.members.partition_point(|&m| m < c), c);
            let legal = cluster.kind == RegionKind::Pointwise && cluster.members.len() <= MAX_CLUSTER;
            if legal && self.small(&cluster) && !self.reaches(home, self.of[c]) && !self.reaches(self.of[c], home) {
                self.replace(home, cluster);
            }
        }
    }

    /// Merges small pointwise clusters of one size that do nothing but compute results of the graph, and scalars: their launches
    /// cost more than their work. The updates of a network's small parameters become a few regions.
    fn small_results(&mut self) {
        let mut homes: BTreeMap<usize, usize> = BTreeMap::new();
        for i in 0..self.items.items.len() {
            let c = self.of[i];
            let Some(cluster) = self.clusters[c].as_ref().filter(|x| x.kind == RegionKind::Pointwise) else { continue };
            let elems = cluster.shape.elems();
            let escapes = |&m: &usize| self.uses.escapes[m] || !self.leaves(m, &cluster.members);
            if elems == 1 || (elems <= SMALL && cluster.members.iter().all(escapes)) {
                if let Some(&home) = homes.get(&elems) {
                    self.merge(home, c);
                }
                homes.insert(elems, self.of[i]);
            }
        }
    }

    /// Merges two pointwise clusters if that is legal.
    fn merge(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let (Some(x), Some(y)) = (&self.clusters[a], &self.clusters[b]) else { return };
        let pointwise = x.kind == RegionKind::Pointwise && y.kind == RegionKind::Pointwise;
        if !pointwise || x.shape.elems() != y.shape.elems() || x.members.len() + y.members.len() > MAX_CLUSTER {
            return;
        }
        let mut members: Vec<usize> = x.members.iter().chain(&y.members).copied().collect();
        members.sort_unstable();
        let inside = |p: usize| members.binary_search(&p).is_ok();
        if !members.iter().all(|&m| self.reads_whole(m, &inside)) {
            return;
        }
        let shapes = [x.shape.clone(), y.shape.clone()];
        let found = shapes.into_iter().find_map(|shape| {
            let cluster = Cluster { kind: RegionKind::Pointwise, shape, members: members.clone() };
            self.small(&cluster).then_some(cluster)
        });
        let Some(cluster) = found else { return };
        if self.reaches(a, b) || self.reaches(b, a) {
            return;
        }
        self.replace(a, cluster);
    }

    /// True if a path leads from cluster `a` to cluster `b` through another one.
    fn reaches(&mut self, a: usize, b: usize) -> bool {
        self.now += 1;
        let mut open: Vec<usize> = self.successors(a).filter(|&c| c != a && c != b).collect();
        while let Some(c) = open.pop() {
            if c == b {
                return true;
            }
            if self.stamp[c] == self.now || c == a {
                continue;
            }
            self.stamp[c] = self.now;
            open.extend(self.successors(c));
        }
        false
    }

    fn successors(&self, c: usize) -> impl Iterator<Item = usize> {
        let members = self.clusters[c].as_ref().map_or(&[][..], |c| &c.members);
        members.iter().flat_map(|&m| self.uses.readers[m].iter().chain(&self.uses.waiting[m])).map(|&r| self.of[r])
    }

    /// The clusters in an order in which producers come before readers, early items first.
    fn sorted(mut self) -> Clusters {
        let n = self.clusters.len();
        let mut waits = vec![0usize; n];
        for c in 0..n {
            let next: BTreeSet<usize> = self.successors(c).filter(|&s| s != c).collect();
            next.into_iter().for_each(|s| waits[s] += 1);
        }
        let first = |f: &Self, c: usize| f.clusters[c].as_ref().map(|x| x.members[x.members.len() - 1]);
        let mut ready: BTreeSet<(usize, usize)> =
            (0..n).filter(|&c| waits[c] == 0).filter_map(|c| first(&self, c).map(|m| (m, c))).collect();
        let mut list = Vec::new();
        while let Some((_, c)) = ready.pop_first() {
            let next: BTreeSet<usize> = self.successors(c).filter(|&s| s != c).collect();
            for s in next {
                waits[s] -= 1;
                if waits[s] == 0 {
                    ready.extend(first(&self, s).map(|m| (m, s)));
                }
            }
            list.extend(self.clusters[c].take());
        }
        Clusters { list }
    }
}
