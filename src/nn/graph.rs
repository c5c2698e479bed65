//! Graph attention (arXiv 1710.10903) over a dense mask or over a list of edges, and several of them side by side, one for
//! each distance in hops.

use crate::dtype::DType;
use crate::ir::{Prim, Tensor};
use crate::nn::linear::place;
use crate::nn::{Dropout, Init, Linear, Module, Scope};
use std::panic::Location;

/// `h = W x`, `e_ij = leaky_relu(att_dst . h_i + att_src . h_j)`, and node i becomes the sum of the h_j of its neighbours,
/// weighed by the softmax of e_ij over them. Parameters, named as in PyTorch Geometric: `lin.weight` (heads out, in),
/// `att_src`, `att_dst` (1, heads, out), `bias`. A node without neighbours becomes the bias. Self-loops are the caller's
/// part of mask or list.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphAttention {
    /// Width of a node's input.
    pub in_features: usize,
    /// Width of a node's result per head.
    pub out_features: usize,
    /// Number of heads.
    pub heads: usize,
    /// Heads side by side, (N, heads out), instead of their mean, (N, out).
    pub concat: bool,
    /// Slope of the leaky rectifier.
    pub negative_slope: f64,
    /// Probability with which a weight is dropped in training.
    pub dropout: f64,
    /// Whether there is a bias.
    pub bias: bool,
}

/// The neighbours of the nodes.
#[derive(Debug, Clone, Copy)]
pub enum Edges<'a> {
    /// bool (N, N): `[i, j]` is true if i looks at j.
    Mask(&'a Tensor),
    /// i32 (2, E), as PyTorch Geometric's `edge_index`: row 0 the node j that is looked at, row 1 the node i that looks.
    /// An index out of range is an error at run time.
    List {
        /// The edges.
        index: &'a Tensor,
        /// bool (E): false for entries that only pad the list.
        valid: Option<&'a Tensor>,
    },
}

impl GraphAttention {
    /// Heads side by side, slope 0.2, no dropout, with bias.
    pub fn new(in_features: usize, out_features: usize, heads: usize) -> GraphAttention {
        GraphAttention { in_features, out_features, heads, concat: true, negative_slope: 0.2, dropout: 0.0, bias: true }
    }

    /// The layer on nodes (N, in).
    #[track_caller]
    pub fn attend(&self, scope: &Scope, x: &Tensor, edges: Edges) -> Tensor {
        let (f, o, heads, loc) = (self.in_features, self.out_features, self.heads, Location::caller());
        let fail = |detail: String| x.fail("graph_attention", format!("{}: {detail}", place(scope)), loc);
        if x.rank() != 2 || x.size(1) != f || heads == 0 {
            return fail(format!("expects nodes (N, {f}) and at least one head, got {} and {heads}", x.ty()));
        }
        let n = x.size(0);
        match edges {
            Edges::Mask(m) if m.dtype() != DType::Bool || m.shape()[..] != [n, n] => {
                return fail(format!("the mask must be bool ({n}, {n}), got {}", m.ty()));
            }
            Edges::List { index, .. } if index.dtype() != DType::I32 || index.rank() != 2 || index.size(0) != 2 => {
                return fail(format!("edges must be i32 (2, E), got {}", index.ty()));
            }
            Edges::List { index, valid: Some(v) } if v.dtype() != DType::Bool || v.shape()[..] != [index.size(1)] => {
                return fail(format!("validity of edges must be bool ({}), got {}", index.size(1), v.ty()));
            }
            Edges::Mask(_) | Edges::List { .. } => {}
        }
        let glorot = Init::XavierUniform { gain: 1.0 };
        let lin = Linear { init: glorot, ..Linear::new(f, heads * o).without_bias() };
        let h = scope.run("lin", &lin, x).reshape([n, heads, o]);
        let bound = (6.0 / (heads + o).max(1) as f64).sqrt();
        let part = |name: &str| {
            let a = scope.param(name, [1, heads, o], Init::Uniform { bound });
            (&h * a).sum(&[2], false)
        };
        let (src, dst) = (part("att_src"), part("att_dst"));
        let drop = |weights: &Tensor| Dropout::new(self.dropout).forward(scope, weights);
        // (N, heads, out)
        let y = match edges {
            Edges::Mask(mask) => {
                let e = (dst.t().unsqueeze(2) + src.t().unsqueeze(1)).leaky_relu(self.negative_slope);
                drop(&e.masked_softmax(&mask.unsqueeze(0))).matmul(&h.transpose(0, 1)).transpose(0, 1)
            }
            Edges::List { index, valid } => {
                let row = |k: usize| index.narrow(0, k, 1).reshape([index.size(1)]);
                let (from, to) = (row(0), row(1));
                let e = (dst.take(&to) + src.take(&from)).leaky_relu(self.negative_slope);
                let weights = drop(&e.segment_softmax(&to, n, valid));
                let sent = h.take(&from) * weights.unsqueeze(2);
                x.builder().apply(Prim::ScatterAdd { rows: n }, &[&sent, &to])
            }
        };
        let y = if self.concat { y.reshape([n, heads * o]) } else { y.mean(&[1], false) };
        let width = y.size(1);
        if self.bias { y + scope.param("bias", [width], Init::ZEROS) } else { y }
    }
}

/// One [`GraphAttention`] with weights of its own for each distance, `hops.0`, `hops.1`, ..; their results are added.
#[derive(Debug, Clone, PartialEq)]
pub struct HopAttention {
    /// Each of the layers.
    pub layer: GraphAttention,
}

impl HopAttention {
    /// The layers on nodes (N, in), the k-th over the k-th edges, such as those of [`hop_masks`]. At least one.
    #[track_caller]
    pub fn attend(&self, scope: &Scope, x: &Tensor, hops: &[Edges]) -> Tensor {
        let place = scope.child("hops");
        let each = hops.iter().enumerate().map(|(k, edges)| self.layer.attend(&place.child(k), x, *edges));
        each.reduce(|a, b| a + b)
            .unwrap_or_else(|| x.fail("hop_attention", "needs the edges of at least one distance", Location::caller()))
    }
}

/// The masks (N, N) of distances 1, 2, .. `hops` of a graph with the mask `adjacency`: `[i, j]` of the k-th is true if the
/// shortest way from i to j has k edges. With `own` each node also belongs to the first.
#[track_caller]
pub fn hop_masks(adjacency: &Tensor, hops: usize, own: bool) -> Vec<Tensor> {
    let n = adjacency.size(-1);
    let i = adjacency.builder().iota(n);
    let same = i.unsqueeze(1).eq(&i.unsqueeze(0));
    let step = adjacency.or(&same).cast(DType::F32);
    let mut within = same.clone();
    (0..hops)
        .map(|k| {
            // Counts of ways, cut to 0 or 1 after each edge: exact below 2^24 nodes.
            let further = within.cast(DType::F32).matmul(&step).gt(&adjacency.builder().full([n, n], 0.0));
            let ring = further.and(&within.not());
            within = further;
            if k == 0 && own { ring.or(&same) } else { ring }
        })
        .collect()
}
