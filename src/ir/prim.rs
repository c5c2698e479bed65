//! The closed set of primitives. Only data: types, gradients and meaning live in `ir/infer.rs`, `grad/` and
//! `backend/reference/`, each a `match` without `_`, so that a missing rule does not compile.

use crate::dtype::{DType, Scalar};
use crate::ir::graph::Graph;
use crate::ops::Composite;
use crate::shape::Shape;
use std::sync::Arc;

/// Elementwise functions of one operand. Float in, float out, unless said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unary {
    /// -x (also i32)
    Neg,
    /// e^x
    Exp,
    /// e^x - 1
    Expm1,
    /// ln x
    Log,
    /// ln(1 + x)
    Log1p,
    /// square root
    Sqrt,
    /// 1 / x
    Recip,
    /// sine, x in radians
    Sin,
    /// cosine, x in radians
    Cos,
    /// hyperbolic tangent
    Tanh,
    /// error function
    Erf,
    /// largest integer not above x
    Floor,
    /// nearest integer, halves to even
    Round,
    /// -1, 0 or 1 (also i32); 0 for NaN, as torch has it
    Sign,
    /// |x| (also i32)
    Abs,
    /// float to bool: neither NaN nor infinite
    IsFinite,
    /// logical not of a bool
    Not,
}

/// Elementwise functions of two operands of one type and shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b (integers: towards zero; by zero gives 0)
    Div,
    /// remainder with the sign of b, as Python's `%` (integers: by zero gives 0)
    Rem,
    /// a^b (floats only)
    Pow,
    /// the larger; NaN if either is
    Max,
    /// the smaller; NaN if either is
    Min,
    /// a < b, to bool
    Lt,
    /// a <= b, to bool
    Le,
    /// a == b, to bool
    Eq,
    /// logical and of bools
    And,
    /// logical or of bools
    Or,
}

/// What a reduction does to the elements it folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReduceOp {
    /// sum; 0 of nothing
    Sum,
    /// maximum; -inf (smallest integer) of nothing, NaN if any is
    Max,
    /// product; 1 of nothing
    Prod,
}

/// Geometry of a convolution, one entry per spatial dimension.
///
/// Cross-correlation of lhs `[N, C, S..]` with rhs `[O, C/groups, K..]`: with lhs dilated (zeros between its elements)
/// and padded by `pad` (before, after; negative crops), out size = (padded - rhs_dilation*(k-1) - 1) / stride + 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvDims {
    /// Step of the window.
    pub stride: Vec<usize>,
    /// Elements added (or, if negative, cropped) before and after, counted on the dilated lhs.
    pub pad: Vec<(i64, i64)>,
    /// Distance between neighbouring lhs elements (1: none inserted).
    pub lhs_dilation: Vec<usize>,
    /// Distance between neighbouring kernel elements.
    pub rhs_dilation: Vec<usize>,
    /// Number of groups into which input and output channels split.
    pub groups: usize,
}

/// A call of a composite, with the body that defines it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The composite.
    pub composite: Arc<dyn Composite>,
    /// Its body for these argument types: the meaning of the call.
    pub body: Arc<Graph>,
}

impl PartialEq for Call {
    fn eq(&self, other: &Call) -> bool {
        self.composite.name() == other.composite.name() && self.composite.attrs() == other.composite.attrs()
    }
}

/// A primitive with its attributes. The comment gives arguments -> results.
#[derive(Debug, Clone, PartialEq)]
pub enum Prim {
    /// `-> T`: input number `index` of the graph.
    Input {
        /// Position among the graph's inputs.
        index: usize,
    },
    /// `-> T[]`: a scalar constant; larger constants are its broadcasts.
    Const(Scalar),
    /// `-> i32[len]`: 0, 1, .., len-1.
    Iota {
        /// Number of elements.
        len: usize,
    },
    /// `(u32[4]: seed_lo, seed_hi, step, microbatch) -> u32[shape]`: Philox4x32-10 bits; see `rng.rs`.
    Random {
        /// Which stream of the generator: a hash of the module path.
        stream: u32,
        /// Shape of the result.
        shape: Shape,
    },
    /// `(T[s]) -> T[s]`
    Unary(Unary),
    /// `(T[s], T[s]) -> T[s]` or `bool[s]`
    Binary(Binary),
    /// `(bool[s], T[s], T[s]) -> T[s]`: the second where true, else the third.
    Select,
    /// `(T[s]) -> U[s]`: floats to integers truncate towards zero and saturate, NaN gives 0; anything to bool is `!= 0`; to f16
    /// rounds to nearest, ties to even, and from 65520 on gives infinity.
    Cast(DType),
    /// `(T[s]) -> T[s]`: the same value, with no gradient.
    StopGrad,
    /// `(T[s], ..) -> T[s]`: the first argument as it is. What is computed from it is computed after all the other
    /// arguments: for values that are computed a second time, late, instead of being kept (`grad::checkpoint`).
    After,
    /// `(T[s]) -> T[s with axes 1]`
    Reduce {
        /// The folding operation.
        op: ReduceOp,
        /// Folded dimensions, ascending; they stay with size 1.
        axes: Vec<usize>,
    },
    /// `(T[s]) -> i32[s with axis 1]`: index of the first maximum; a NaN wins.
    ArgMax {
        /// Searched dimension.
        axis: usize,
    },
    /// `(T[s]) -> T[s]`: inclusive running sum.
    CumSum {
        /// Summed dimension.
        axis: usize,
    },
    /// `(T[s]) -> (T[s], i32[s])`: sorted values and their original positions; stable, NaN largest.
    Sort {
        /// Sorted dimension.
        axis: usize,
        /// Largest first.
        descending: bool,
    },
    /// `(T[s]) -> T[shape]`: same elements in row-major order.
    Reshape(Shape),
    /// `(T[s]) -> T[shape]`: same rank; dimensions of size 1 repeat.
    Broadcast(Shape),
    /// `(T[s]) -> T[..]`: new dimension d is old dimension `perm[d]`.
    Permute(Vec<usize>),
    /// `(T[s]) -> T[len]`: elements start, start+step, ..
    Slice {
        /// First element per dimension.
        start: Vec<usize>,
        /// Number of elements per dimension.
        len: Vec<usize>,
        /// Step per dimension, at least 1.
        step: Vec<usize>,
    },
    /// `(T[s]) -> T[..]`: `interior` copies of `value` between neighbours, then `lo` before and `hi` after (negative crops).
    Pad {
        /// Elements before, per dimension.
        lo: Vec<i64>,
        /// Elements after, per dimension.
        hi: Vec<i64>,
        /// Elements between neighbours, per dimension.
        interior: Vec<usize>,
        /// What the new elements hold.
        value: Scalar,
    },
    /// `(T[s]) -> T[s]`: order reversed along these dimensions.
    Reverse(Vec<usize>),
    /// `(T[..], T[..], ..) -> T[..]`: joined along `axis`; other sizes equal.
    Concat {
        /// Joined dimension.
        axis: usize,
    },
    /// `(f32[B.., M, K], f32[B.., K, N]) -> f32[B.., M, N]`: equal batch dimensions (broadcasts are nodes of their own,
    /// transposes permutations; kernels read both through strides, so neither is copied). Operands may be f16; products and
    /// sums are f32.
    Dot,
    /// `(f32[N, C, S..], f32[O, C/g, K..]) -> f32[N, O, S'..]`; operands may be f16, as for `Dot`.
    Conv(ConvDims),
    /// `(T[V, D..], i32[n]) -> T[n, D..]`: rows of a table.
    Take,
    /// `(T[n, D..], i32[n]) -> T[rows, D..]`: rows summed into a table of zeros, in the order of n.
    ScatterAdd {
        /// Number of rows of the result.
        rows: usize,
    },
    /// `(T[s], i32[t]) -> T[t]`: `out[i]` = `in[i with i[axis]` = `index[i]`]; `t[d]` <= `s[d]` for d != axis.
    TakeAlong {
        /// Indexed dimension.
        axis: usize,
    },
    /// `(T[t], i32[t]) -> T[shape]`: the adjoint of `TakeAlong`: zeros plus src at the indexed places.
    ScatterAddAlong {
        /// Indexed dimension.
        axis: usize,
        /// Shape of the result.
        shape: Shape,
    },
    /// A composite: meaning given by its body.
    Call(Call),
}

impl Prim {
    /// The name used in text, errors and tables.
    pub fn name(&self) -> String {
        match self {
            Prim::Unary(u) => format!("{u:?}").to_lowercase(),
            Prim::Binary(b) => format!("{b:?}").to_lowercase(),
            Prim::Reduce { op, .. } => format!("reduce_{op:?}").to_lowercase(),
            Prim::Call(c) => c.composite.name().to_string(),
            Prim::Input { .. } => "input".into(),
            Prim::Const(_) => "const".into(),
            Prim::Iota { .. } => "iota".into(),
            Prim::Random { .. } => "random".into(),
            Prim::Select => "select".into(),
            Prim::Cast(_) => "cast".into(),
            Prim::StopGrad => "stop_grad".into(),
            Prim::After => "after".into(),
            Prim::ArgMax { .. } => "argmax".into(),
            Prim::CumSum { .. } => "cumsum".into(),
            Prim::Sort { .. } => "sort".into(),
            Prim::Reshape(_) => "reshape".into(),
            Prim::Broadcast(_) => "broadcast".into(),
            Prim::Permute(_) => "permute".into(),
            Prim::Slice { .. } => "slice".into(),
            Prim::Pad { .. } => "pad".into(),
            Prim::Reverse(_) => "reverse".into(),
            Prim::Concat { .. } => "concat".into(),
            Prim::Dot => "dot".into(),
            Prim::Conv(_) => "conv".into(),
            Prim::Take => "take".into(),
            Prim::ScatterAdd { .. } => "scatter_add".into(),
            Prim::TakeAlong { .. } => "take_along".into(),
            Prim::ScatterAddAlong { .. } => "scatter_add_along".into(),
        }
    }

    /// The attributes as text; with the name and the argument types it identifies the primitive.
    pub fn attrs(&self) -> String {
        match self {
            Prim::Input { index } => format!("{index}"),
            Prim::Const(s) => format!("{s}"),
            Prim::Iota { len } => format!("{len}"),
            Prim::Random { stream, shape } => format!("stream={stream:#x} shape={shape}"),
            Prim::Cast(d) => format!("{d}"),
            Prim::Reduce { axes, .. } => format!("axes={axes:?}"),
            Prim::ArgMax { axis } | Prim::CumSum { axis } | Prim::Concat { axis } | Prim::TakeAlong { axis } => {
                format!("axis={axis}")
            }
            Prim::Sort { axis, descending } => format!("axis={axis} descending={descending}"),
            Prim::Reshape(s) | Prim::Broadcast(s) => format!("{s}"),
            Prim::Permute(p) => format!("{p:?}"),
            Prim::Slice { start, len, step } => format!("start={start:?} len={len:?} step={step:?}"),
            Prim::Pad { lo, hi, interior, value } => {
                format!("lo={lo:?} hi={hi:?} interior={interior:?} value={value}")
            }
            Prim::Reverse(axes) => format!("{axes:?}"),
            Prim::Conv(c) => format!(
                "stride={:?} pad={:?} lhs_dilation={:?} rhs_dilation={:?} groups={}",
                c.stride, c.pad, c.lhs_dilation, c.rhs_dilation, c.groups
            ),
            Prim::ScatterAdd { rows } => format!("rows={rows}"),
            Prim::ScatterAddAlong { axis, shape } => format!("axis={axis} shape={shape}"),
            Prim::Call(c) => c.composite.attrs(),
            Prim::Unary(_) | Prim::Binary(_) | Prim::Select | Prim::StopGrad | Prim::After | Prim::Dot | Prim::Take => {
                String::new()
            }
        }
    }

    /// True if each output element depends only on the input elements at the same index (inputs have equal shapes).
    pub fn is_pointwise(&self) -> bool {
        matches!(self, Prim::Unary(_) | Prim::Binary(_) | Prim::Select | Prim::Cast(_) | Prim::StopGrad)
    }

    /// True if the result is a strided view of the argument (a reshape may still need a copy).
    pub fn is_view(&self) -> bool {
        matches!(self, Prim::Reshape(_) | Prim::Broadcast(_) | Prim::Permute(_) | Prim::Slice { .. } | Prim::Reverse(_))
    }
}
