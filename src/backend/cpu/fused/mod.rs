//! Jobs of the composites that have a kernel here. Each file holds what one family needs; the attributes are read from
//! the composite itself. Operands are dense unless a family says otherwise.

mod attention;
mod norm;
mod pool;
mod row;
mod softmax;

use super::Job;
use super::dot::Readable;
use super::memory::Words;
use super::source::{Bound, Out};
use crate::dtype::DType;
use crate::ir::{Call, Prim, Type};
use crate::ops::attention::{Attention, AttentionGrad};
use crate::ops::batch_norm::{BatchNorm, BatchNormGrad};
use crate::ops::cross_entropy::{CrossEntropy, CrossEntropyGrad};
use crate::ops::layer_norm::{LayerNorm, LayerNormGrad};
use crate::ops::pool::{MaxPool, MaxPoolGrad, SumPool, SumPoolGrad};
use crate::ops::softmax::{LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad};
use crate::shape::Shape;

/// The composites with a job.
enum Kernel<'a> {
    Softmax(softmax::Kind),
    CrossEntropy(&'a CrossEntropy),
    CrossEntropyGrad(&'a CrossEntropyGrad),
    LayerNorm(f64),
    LayerNormGrad,
    BatchNorm(f64),
    BatchNormGrad(f64),
    Pool(pool::Windows, pool::Kind),
    Attention(attention::Attrs),
    AttentionGrad(attention::Attrs),
}

macro_rules! windows {
    ($p:expr) => {
        pool::Windows::new(&$p.kernel, &$p.stride, &$p.pad, &$p.dilation)?
    };
}

fn kernel(call: &Call) -> Option<Kernel<'_>> {
    let any = call.composite.as_any();
    Some(if any.is::<Softmax>() {
        Kernel::Softmax(softmax::Kind::Softmax)
    } else if any.is::<SoftmaxGrad>() {
        Kernel::Softmax(softmax::Kind::SoftmaxGrad)
    } else if any.is::<LogSoftmax>() {
        Kernel::Softmax(softmax::Kind::LogSoftmax)
    } else if any.is::<LogSoftmaxGrad>() {
        Kernel::Softmax(softmax::Kind::LogSoftmaxGrad)
    } else if let Some(c) = any.downcast_ref::<CrossEntropy>() {
        Kernel::CrossEntropy(c)
    } else if let Some(c) = any.downcast_ref::<CrossEntropyGrad>() {
        Kernel::CrossEntropyGrad(c)
    } else if let Some(n) = any.downcast_ref::<LayerNorm>() {
        Kernel::LayerNorm(n.eps)
    } else if any.is::<LayerNormGrad>() {
        Kernel::LayerNormGrad
    } else if let Some(n) = any.downcast_ref::<BatchNorm>() {
        Kernel::BatchNorm(n.eps)
    } else if let Some(n) = any.downcast_ref::<BatchNormGrad>() {
        Kernel::BatchNormGrad(n.eps)
    } else if let Some(p) = any.downcast_ref::<MaxPool>() {
        Kernel::Pool(windows!(p), pool::Kind::Max)
    } else if let Some(p) = any.downcast_ref::<MaxPoolGrad>() {
        Kernel::Pool(windows!(p), pool::Kind::MaxGrad)
    } else if let Some(p) = any.downcast_ref::<SumPool>() {
        Kernel::Pool(windows!(p), pool::Kind::Sum)
    } else if let Some(p) = any.downcast_ref::<SumPoolGrad>() {
        Kernel::Pool(windows!(p), pool::Kind::SumGrad)
    } else if let Some(a) = any.downcast_ref::<Attention>() {
        Kernel::Attention(attention::Attrs { causal: a.causal, scale: a.scale as f32, has_mask: a.has_mask })
    } else if let Some(a) = any.downcast_ref::<AttentionGrad>() {
        Kernel::AttentionGrad(attention::Attrs { causal: a.causal, scale: a.scale as f32, has_mask: a.has_mask })
    } else {
        return None;
    })
}

/// `Ok` if there is a job for this call on these types.
pub(super) fn supports(call: &Call, args: &[Type]) -> Result<(), String> {
    let name = call.composite.name();
    let Some(kernel) = kernel(call) else {
        return Err(format!("the CPU path has no kernel for {name} with these attributes"));
    };
    let integers = match kernel {
        Kernel::CrossEntropy(_) | Kernel::CrossEntropyGrad(_) => Some(1),
        Kernel::Attention(a) | Kernel::AttentionGrad(a) if a.has_mask => Some(3),
        _ => None,
    };
    match args.iter().enumerate().find(|(i, t)| Some(*i) != integers && t.dtype != DType::F32) {
        Some((i, t)) => Err(format!("operand {i} of {name} is {t}, the CPU kernel takes f32")),
        None => Ok(()),
    }
}

/// False for what neither job nor body reads: attention's result, in its gradient.
pub(super) fn reads(call: &Call, arg: usize) -> bool {
    !matches!(kernel(call), Some(Kernel::AttentionGrad(a)) if arg == 3 + usize::from(a.has_mask))
}

/// True if the job reads this argument through strides.
pub(super) fn reads_strided(call: &Call, arg: usize) -> bool {
    match kernel(call) {
        Some(Kernel::Attention(_)) => arg < 3,
        // What is not read at all needs no copy either.
        Some(Kernel::AttentionGrad(a)) => arg < 3 || arg == 5 + usize::from(a.has_mask) || !reads(call, arg),
        _ => false,
    }
}

/// The job of a composite, or `None` if it has none.
pub(super) fn job(bound: &Bound) -> Option<Job> {
    let body = &bound.region.body;
    let node = body.node(body.outputs.first()?.value.node);
    let Prim::Call(call) = &node.prim else { return None };
    // Arguments and results must stand in the body as they come.
    let ordered = node
        .args
        .iter()
        .enumerate()
        .all(|(i, v)| matches!(body.node(v.node).prim, Prim::Input { index } if index == i));
    let results = body.outputs.iter().enumerate().all(|(k, o)| o.value.out as usize == k);
    if !ordered || !results || node.args.len() != bound.args.len() || bound.outs.len() != call.composite.outputs() {
        return None;
    }
    match kernel(call)? {
        Kernel::Softmax(kind) => softmax::job(&Dense::new(bound)?, kind),
        Kernel::CrossEntropy(c) => softmax::cross_entropy(&Dense::new(bound)?, c),
        Kernel::CrossEntropyGrad(c) => softmax::cross_entropy_grad(&Dense::new(bound)?, c),
        Kernel::LayerNorm(eps) => norm::layer_norm(&Dense::new(bound)?, eps),
        Kernel::LayerNormGrad => norm::layer_norm_grad(&Dense::new(bound)?),
        Kernel::BatchNorm(eps) => norm::batch_norm(&Dense::new(bound)?, eps),
        Kernel::BatchNormGrad(eps) => norm::batch_norm_grad(&Dense::new(bound)?, eps),
        Kernel::Pool(windows, kind) => pool::job(&Dense::new(bound)?, windows, kind),
        Kernel::Attention(attrs) => attention::job(bound, attrs),
        Kernel::AttentionGrad(attrs) => attention::grad_job(bound, attrs),
    }
}

/// Operands that lie densely (others are copied at each run), and results.
#[derive(Clone)]
struct Dense {
    args: Vec<Readable>,
    outs: Vec<Out>,
}

impl Dense {
    fn new(bound: &Bound) -> Option<Dense> {
        if bound.is_in_place() {
            return None;
        }
        let args = bound.args.iter().map(Readable::dense).collect::<Option<_>>()?;
        Some(Dense { args, outs: bound.outs.clone() })
    }
    fn prepare(&self) {
        self.args.iter().for_each(Readable::prepare);
    }
    fn arg(&self, i: usize) -> Words {
        self.args[i].arg.origin()
    }
    fn shape(&self, i: usize) -> &Shape {
        &self.args[i].arg.view.shape
    }
    fn out(&self, k: usize) -> Words {
        self.outs[k].words()
    }
}
