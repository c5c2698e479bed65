//! Recomputation: a reduction that reads a cheap pointwise value which others read too gets a copy of that computation
//! to itself, so that it depends on nothing but memory that is there anyway. Without it the square of each gradient,
//! which both the global norm and the optimizer need, would force the optimizer's region to be cut in two.

use crate::ir::{Binary, Prim, Unary};
use crate::plan::RegionKind;
use crate::plan::items::{Arg, Base, Item, Items};

/// Most items that one copy may consist of.
const MAX_COPIED: usize = 3;

/// The items with cheap producers of reductions repeated, and what nobody reads any more removed.
pub(super) fn recompute(old: Items) -> Items {
    let mut readers = vec![0usize; old.items.len()];
    for arg in old.items.iter().flat_map(|i| &i.args) {
        if let Arg::View { base: Base::Item(p, _), .. } = arg {
            readers[*p] += 1;
        }
    }
    old.outputs.iter().flatten().for_each(|(p, _)| readers[*p] += 1);
    let mut new = Items::default();
    let mut at = vec![0usize; old.items.len()];
    for (i, item) in old.items.iter().enumerate() {
        let mut item = item.clone();
        let reduced = item.kind == RegionKind::Reduce;
        item.after = item.after.iter().map(|&p| at[p]).collect();
        for arg in &mut item.args {
            let Arg::View { base: Base::Item(p, _), view, .. } = arg else { continue };
            let mut tree = Vec::new();
            let whole = view.is_identity(old.items[*p].outs[0].shape.elems());
            let copied = reduced && whole && collect(&old, *p, &mut tree) && tree.iter().any(|&t| readers[t] > 1);
            if copied && large_operands(&old, &tree) <= 1 {
                *p = repeat(&old, &mut new, &at, &tree);
            } else {
                *p = at[*p];
            }
        }
        at[i] = new.items.len();
        new.items.push(item);
    }
    new.outputs = old.outputs.iter().map(|o| o.map(|(p, out)| (at[p], out))).collect();
    alive(new)
}

/// Adds `p` and the pointwise items that it is computed from to `tree` (ascending), or returns false if they are too
/// many, not cheap, or not read as they are.
fn collect(old: &Items, p: usize, tree: &mut Vec<usize>) -> bool {
    let item = &old.items[p];
    if tree.contains(&p) {
        return true;
    }
    if item.kind != RegionKind::Pointwise || !is_cheap(item) || tree.len() == MAX_COPIED {
        return false;
    }
    tree.insert(tree.partition_point(|&t| t < p), p);
    item.args.iter().all(|arg| match arg {
        Arg::View { base: Base::Item(q, _), view, .. } if old.items[*q].kind == RegionKind::Pointwise => {
            let from = &old.items[*q];
            // Small values (statistics, scalars) are in memory and are repeated by their view.
            from.shape.elems() < item.shape.elems() || view.is_identity(from.shape.elems()) && collect(old, *q, tree)
        }
        _ => true,
    })
}

/// How many tensors of full size a copy reads.
fn large_operands(old: &Items, tree: &[usize]) -> usize {
    let mut found: Vec<Base> = Vec::new();
    for (&t, arg) in tree.iter().flat_map(|t| old.items[*t].args.iter().map(move |a| (t, a))) {
        let Arg::View { base, view, .. } = arg else { continue };
        let inside = matches!(base, Base::Item(q, _) if tree.contains(q));
        let small = view.shape.iter().zip(&view.strides).any(|(&n, &s)| n > 1 && s == 0);
        if !inside && !small && old.items[t].shape.elems() > 1 && !found.contains(base) {
            found.push(*base);
        }
    }
    found.len()
}

/// Appends copies of the items of `tree`; the last one stands for the whole.
fn repeat(old: &Items, new: &mut Items, at: &[usize], tree: &[usize]) -> usize {
    let mut copies: Vec<(usize, usize)> = Vec::new();
    for &t in tree {
        let mut item = old.items[t].clone();
        item.redirect(|q| copies.iter().find(|(from, _)| *from == q).map_or(at[q], |c| c.1));
        copies.push((t, new.items.len()));
        new.items.push(item);
    }
    new.items.len() - 1
}

/// True for operations that cost less than reading their result from memory.
fn is_cheap(item: &Item) -> bool {
    match &item.prim {
        Some(Prim::Unary(u)) => matches!(u, Unary::Neg | Unary::Abs | Unary::Not | Unary::Sign | Unary::IsFinite),
        Some(Prim::Binary(b)) => !matches!(b, Binary::Pow | Binary::Rem | Binary::Div),
        Some(Prim::Select | Prim::Cast(_)) => true,
        _ => false,
    }
}

/// The items that lead to an output.
pub(super) fn alive(all: Items) -> Items {
    let mut live = vec![false; all.items.len()];
    all.outputs.iter().flatten().for_each(|(p, _)| live[*p] = true);
    for (i, item) in all.items.iter().enumerate().rev() {
        if !live[i] {
            continue;
        }
        item.sources().for_each(|p| live[p] = true);
    }
    let mut at = vec![0usize; all.items.len()];
    let mut out = Items::default();
    for (i, mut item) in all.items.into_iter().enumerate().filter(|(i, _)| live[*i]) {
        item.redirect(|p| at[p]);
        at[i] = out.items.len();
        out.items.push(item);
    }
    out.outputs = all.outputs.iter().map(|o| o.map(|(p, k)| (at[p], k))).collect();
    out
}
