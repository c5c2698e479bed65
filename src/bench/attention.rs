//! What attention's gradient is given when its kernels are measured: it takes the result and the log of sums of its forward pass, and kernels rely
//! on their being those of the other operands.

use crate::backend::reference::{Array, Precision, eval};
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::{Builder, OutputKind, Prim};
use crate::ops::attention::{Attention, AttentionGrad};
use crate::plan::{Operand, Region};

/// The call of a region of attention's gradient.
fn grad_of(region: &Region) -> Option<&AttentionGrad> {
    region.body.nodes.iter().find_map(|n| match &n.prim {
        Prim::Call(c) => c.composite.as_any().downcast_ref::<AttentionGrad>(),
        _ => None,
    })
}

/// Arguments that must have certain values, given the others, with those values.
pub(super) fn dependent<'a>(
    region: &'a Region,
    given: &dyn Fn(&Operand) -> Result<Array>,
) -> Result<Vec<(&'a Operand, Vec<f64>)>> {
    let Some(a) = grad_of(region) else { return Ok(Vec::new()) };
    let first = 3 + usize::from(a.has_mask);
    let wide = |x: Array| if x.ty().dtype.is_float() { Array::floats(x.shape.clone(), x.to_f64()) } else { x };
    let args = region.args[..first].iter().map(|a| Ok(wide(given(a)?))).collect::<Result<Vec<_>>>()?;
    let b = Builder::new();
    let feed = |(i, x): (usize, &Array)| b.feed(format!("{i}"), x.ty().dtype, x.shape.clone());
    let fed: Vec<_> = args.iter().enumerate().map(feed).collect();
    let attention = Attention { causal: a.causal, scale: a.scale, has_mask: a.has_mask };
    for (i, out) in b.call(attention, &fed.iter().collect::<Vec<_>>()).iter().enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, out);
    }
    let outs = eval(&b.build()?, &args, Precision::F64)?;
    Ok(region.args[first..].iter().zip(outs.iter().map(Array::to_f64)).collect())
}

/// By how much dq, dk and dv may differ since kernels take sum(g * out) per query and exp(score - lse) where the body sums what the weights say: in f16
/// the result of the forward pass, and lse, have 11 bits. An average key has l / s of the weights, an early one under a causal mask up to
/// 1 + ln(l); twice that is allowed.
pub(super) fn rounding(region: &Region, args: &[Array]) -> Option<[f64; 3]> {
    let a = grad_of(region)?;
    let [out, lse, g] = [3, 4, 5].map(|i| i + usize::from(a.has_mask));
    let finite = |x: &f64| if x.is_finite() { x.abs() } else { 0.0 };
    let most = |arg: usize| args[arg].to_f64().iter().map(finite).fold(0.0, f64::max);
    let lost = |arg: usize| if region.args[arg].dtype == DType::F16 { 2f64.powi(-11) * most(arg) } else { 0.0 };
    let [l, s, d] = [args[0].shape[2], args[1].shape[2], args[2].shape[3]].map(|n| n.max(1) as f64);
    // Of a score's gradient, in units of its weight.
    let ds = d * most(g) * (lost(out) + 2.0 * lost(lse) * most(2)) * a.scale.abs();
    let weights = 2.0 * (l / s).max(if a.causal { 1.0 + l.ln() } else { 1.0 });
    Some([ds * most(1), weights * ds * most(0), weights * lost(lse) * most(g)])
}
