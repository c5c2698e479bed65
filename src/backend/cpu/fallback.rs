//! Regions without a fast implementation: the reference evaluates the body on gathered copies of the operands.

use super::Job;
use super::source::Bound;
use crate::backend::reference::{self, Array, Precision};
use crate::dtype::DType;
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
            let words = result.to_words();
            // SAFETY: the result's buffer is large enough (checked when bound); this job is the only one running.
            let target = unsafe { out.words().u32s_mut(out.ty.bytes() / 4) };
            match out.ty.dtype {
                DType::F16 => {
                    let halfs = bytemuck::cast_slice_mut::<u32, u16>(target);
                    halfs.iter_mut().zip(words).for_each(|(to, w)| *to = w as u16);
                }
                DType::F32 | DType::I32 | DType::U32 | DType::Bool => target.copy_from_slice(&words),
            }
        }
        Ok(())
    }))
}
