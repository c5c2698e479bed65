//! A small decoder-only transformer (pre-norm, learned positions), as GPT-2: embeddings, blocks, norm, head.

use crate::dtype::DType;
use crate::grad::checkpoint;
use crate::ir::Tensor;
use crate::nn::attention::split_heads;
use crate::nn::linear::place;
use crate::nn::{Dropout, Embedding, Init, LayerNorm, Linear, Module, Scope};
use crate::ops::activation::Gelu;
use crate::ops::attention::AttentionOptions;
use std::panic::Location;

/// Tokens i32 (B, T) to logits (B, T, vocab). Parameters: `wte.weight`, `wpe.weight`, per block `h.N.ln_1`,
/// `h.N.attn.c_attn`, `h.N.attn.c_proj`, `h.N.ln_2`, `h.N.mlp.c_fc`, `h.N.mlp.c_proj`, then `ln_f`, `head.weight`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt {
    /// Number of different tokens.
    pub vocab: usize,
    /// Longest sequence.
    pub context: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; divides `width`.
    pub heads: usize,
    /// Size of the vector at each position.
    pub width: usize,
    /// Probability of a zero after the embeddings and at the end of each branch.
    pub dropout: f64,
    /// The backward pass computes each block again instead of keeping its inner values ([`crate::nn::Checkpoint`]).
    pub checkpoint: bool,
}

/// Standard deviation of the weights at the start, as GPT-2.
const STD: f64 = 0.02;

impl Gpt {
    /// One block on (B, T, width): x += attention(ln_1(x)); x += mlp(ln_2(x)). `attend` maps q, k, v (B, heads, T, width /
    /// heads) to the result of the attention.
    #[track_caller]
    fn block(&self, scope: &Scope, x: &Tensor, attend: &dyn Fn(&Scope, [Tensor; 3]) -> Tensor) -> Tensor {
        let w = self.width;
        // Each block adds two branches to the residual stream: their scale keeps its variance at the end.
        let into_stream = Init::Normal { std: STD / (2.0 * self.layers.max(1) as f64).sqrt() };
        let linear = |n: usize, m: usize, init: &Init| Linear::new(n, m).init(init.clone(), Init::ZEROS);
        let (normal, drop) = (Init::Normal { std: STD }, Dropout::new(self.dropout));

        let attn = scope.child("attn");
        let y = scope.run("ln_1", &LayerNorm::new([w]), x);
        let packed = attn.run("c_attn", &linear(w, 3 * w, &normal), &y);
        let heads = split_heads(&packed, self.heads).map(|t| t.permute(&[0, 2, 1, 3]));
        let y = attend(&attn, heads).permute(&[0, 2, 1, 3]).reshape(x.shape());
        let x = x + drop.forward(&attn, &attn.run("c_proj", &linear(w, w, &into_stream), &y));

        let mlp = scope.child("mlp");
        let y = scope.run("ln_2", &LayerNorm::new([w]), &x);
        let y = mlp.run("c_fc", &linear(w, 4 * w, &normal), &y).gelu(Gelu::Tanh);
        &x + drop.forward(&mlp, &mlp.run("c_proj", &linear(4 * w, w, &into_stream), &y))
    }

    /// Embedding, blocks, norm and head. `positions` are the rows of `wpe` for the tokens.
    #[track_caller]
    fn run(
        &self,
        scope: &Scope,
        tokens: &Tensor,
        positions: impl FnOnce(Tensor) -> Tensor,
        attend: &dyn Fn(&Scope, [Tensor; 3]) -> Tensor,
    ) -> Tensor {
        let (loc, w) = (Location::caller(), self.width);
        if tokens.rank() != 2 || tokens.dtype() != DType::I32 || tokens.size(-1) > self.context {
            let detail = format!("{} expects i32 (B, T <= {}), got {}", place(scope), self.context, tokens.ty());
            return tokens.fail("gpt", detail, loc);
        }
        if self.heads == 0 || w % self.heads != 0 {
            return tokens.fail("gpt", format!("{} heads do not divide the width {w}", self.heads), loc);
        }
        let table = |rows: usize| Embedding::new(rows, w).std(STD);
        let positions = positions(table(self.context).weight(&scope.child("wpe")));
        let x = scope.run("wte", &table(self.vocab), tokens) + positions;
        let x = scope.run("drop", &Dropout::new(self.dropout), &x);
        let blocks = scope.child("h");
        let x = (0..self.layers).fold(x, |x, i| {
            blocks.visit(i, |s| match self.checkpoint {
                true => checkpoint(s.builder(), || self.block(s, &x, attend)),
                false => self.block(s, &x, attend),
            })
        });
        let x = scope.run("ln_f", &LayerNorm::new([w]), &x);
        let head = Linear::new(w, self.vocab).init(Init::Normal { std: STD }, Init::ZEROS).without_bias();
        scope.run("head", &head, &x)
    }

    /// Attention of one new position to all up to it. The caches `k_cache` and `v_cache` are (B, heads, context, width / heads).
    #[track_caller]
    fn attend_cached(&self, attn: &Scope, [q, k, v]: [Tensor; 3], position: &Tensor) -> Tensor {
        let (b, h, d, t) = (q.size(0), self.heads, self.width / self.heads, self.context);
        let index = attn.builder().iota(t);
        let here = index.eq(&position.broadcast_to([t])).reshape([1, 1, t, 1]).broadcast_to([b, h, t, d]);
        let put = |name: &str, new: &Tensor| {
            let old = attn.buffer(name, [b, h, t, d], Init::ZEROS);
            let all = here.select(&new.broadcast_to([b, h, t, d]), &old);
            attn.update(name, &all);
            all
        };
        let (k, v) = (put("k_cache", &k), put("v_cache", &v));
        let seen = index.le(&position.broadcast_to([t])).reshape([1, 1, 1, t]).broadcast_to([b, h, 1, t]);
        let scores = q.matmul(&k.permute(&[0, 1, 3, 2])) * (1.0 / (d as f64).sqrt());
        // -inf after the softmax is an exact zero, whatever the cache holds there.
        let scores = seen.select(&scores, &attn.builder().full([b, h, 1, t], f64::NEG_INFINITY));
        scores.softmax(-1).matmul(&v)
    }
}

impl Module for Gpt {
    #[track_caller]
    fn forward(&self, scope: &Scope, tokens: &Tensor) -> Tensor {
        let causal = AttentionOptions { is_causal: true, ..Default::default() };
        let attend = |_: &Scope, [q, k, v]: [Tensor; 3]| q.scaled_dot_product_attention(&k, &v, &causal);
        self.run(scope, tokens, |table| table.narrow(0, 0, tokens.size(-1)), &attend)
    }

    #[track_caller]
    fn decode(&self, scope: &Scope, tokens: &Tensor, position: &Tensor) -> Option<Tensor> {
        let attend = |attn: &Scope, heads: [Tensor; 3]| self.attend_cached(attn, heads, position);
        Some(self.run(scope, tokens, |table| table.take(&position.reshape([1])), &attend))
    }
}
