//! f16 is what is kept: each item that loops over elements and reads a value widened from f16 gets the widening to itself,
//! so that it reads the f16 and nobody stores the f32. Kernels of other kinds read f16 themselves (`passes::narrow`), or
//! share the widened copy.

use crate::dtype::DType;
use crate::ir::Prim;
use crate::plan::RegionKind;
use crate::plan::items::{Arg, Base, Items};

/// The items with one widening per reader that can compute it. Those that nobody reads any more are left to the caller.
pub(super) fn spread(old: Items) -> Items {
    let mut new = Items::default();
    let mut at = vec![0usize; old.items.len()];
    for (i, item) in old.items.iter().enumerate() {
        let mut item = item.clone();
        let loops = matches!(item.kind, RegionKind::Pointwise | RegionKind::Reduce);
        let mut own: Vec<(usize, usize)> = Vec::new();
        item.after = item.after.iter().map(|&p| at[p]).collect();
        for arg in &mut item.args {
            let Arg::View { base: Base::Item(p, _), view, .. } = arg else { continue };
            let from = &old.items[*p];
            if !(loops && widens(&old, *p) && view.is_identity(from.shape.elems())) {
                *p = at[*p];
                continue;
            }
            let known = own.iter().find(|(q, _)| q == p).map(|x| x.1);
            let copy = known.unwrap_or_else(|| {
                let mut copy = from.clone();
                copy.redirect(|q| at[q]);
                copy.copied = true;
                new.items.push(copy);
                new.items.len() - 1
            });
            own.push((*p, copy));
            *p = copy;
        }
        at[i] = new.items.len();
        new.items.push(item);
    }
    new.outputs = old.outputs.iter().map(|o| o.map(|(p, out)| (at[p], out))).collect();
    new
}

/// True for a conversion from f16 to f32.
fn widens(items: &Items, p: usize) -> bool {
    let item = &items.items[p];
    let half = |a: &Arg| matches!(a, Arg::View { dtype: DType::F16, .. });
    item.prim == Some(Prim::Cast(DType::F32)) && item.args.iter().all(half)
}
