//! Regions without a fast implementation: the reference evaluates the body on gathered copies of the operands.

use super::Job;
use super::source::Bound;
use crate::backend::reference::{self, Array, Precision};
use crate::error::Result;
use crate::ir::Type;

/// The job that runs the region through the reference.
pub(super) fn job(bound: &Bound) -> Result<Job> {
    let body = bound.region.body.clone();
    let (args, outs) = (bound.args.clone(), bound.outs.clone());
    Ok(Box::new(move || {
        let inputs: Vec<Array> =
            args.iter().map(|a| Array::from_words(&Type::new(a.dtype, a.view.shape.clone()), a.gathered())).collect();
        for (result, out) in reference::eval(&body, &inputs, Precision::F32)?.iter().zip(&outs) {
            // SAFETY: the result's buffer is large enough (checked when bound); this job is the only one running.
            unsafe { out.words().u32s_mut(out.elems()) }.copy_from_slice(&result.to_words());
        }
        Ok(())
    }))
}
