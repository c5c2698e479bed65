//! Derivatives of indexed reads and writes: each is the other's transpose. The index gets nothing.

use super::{Grads, Site};
use crate::ir::Prim;

/// g's rows summed into the rows that were read
pub(super) fn take(site: &Site) -> Grads {
    let rows = site.args[0].shape()[0];
    site.linear(|g| site.builder.apply(Prim::ScatterAdd { rows }, &[g, &site.args[1]]))
}

/// the rows of g that were written to
pub(super) fn scatter_add(site: &Site) -> Grads {
    site.linear(|g| site.builder.apply(Prim::Take, &[g, &site.args[1]]))
}

/// g summed into the places that were read
pub(super) fn take_along(axis: usize, site: &Site) -> Grads {
    let shape = site.args[0].shape().clone();
    site.linear(|g| site.builder.apply(Prim::ScatterAddAlong { axis, shape }, &[g, &site.args[1]]))
}

/// the elements of g at the places that were written to
pub(super) fn scatter_add_along(axis: usize, site: &Site) -> Grads {
    site.linear(|g| site.builder.apply(Prim::TakeAlong { axis }, &[g, &site.args[1]]))
}
