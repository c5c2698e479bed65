//! A table of vectors, looked up by index.

use crate::ir::Tensor;
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use crate::ops::EmbeddingOptions;
use std::panic::Location;

/// Rows of the parameter `weight` (num, dim) at integer positions: (S..) to (S.., dim).
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Number of rows.
    pub num_embeddings: usize,
    /// Length of a row.
    pub embedding_dim: usize,
    /// A row that starts as zeros and gets no gradient.
    pub padding_idx: Option<usize>,
    /// Standard deviation of the rows at the start.
    pub std: f64,
    /// Whether the gradient of a row is divided by how often the row occurs in the input.
    pub scale_grad_by_freq: bool,
}

impl Embedding {
    /// Rows drawn from N(0, 1), as torch.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Embedding {
        Embedding { num_embeddings, embedding_dim, padding_idx: None, std: 1.0, scale_grad_by_freq: false }
    }
    /// The same with a padding row.
    pub fn padding_idx(mut self, row: usize) -> Embedding {
        self.padding_idx = Some(row);
        self
    }
    /// The same with this standard deviation at the start.
    pub fn std(mut self, std: f64) -> Embedding {
        self.std = std;
        self
    }
    /// The table.
    #[track_caller]
    pub fn weight(&self, scope: &Scope) -> Tensor {
        let init = match self.padding_idx {
            Some(row) => Init::NormalZeroRow { std: self.std, row },
            None => Init::Normal { std: self.std },
        };
        scope.param("weight", [self.num_embeddings, self.embedding_dim], init)
    }
}

impl Module for Embedding {
    #[track_caller]
    fn forward(&self, scope: &Scope, index: &Tensor) -> Tensor {
        let loc = Location::caller();
        if index.dtype() != crate::dtype::DType::I32 {
            return index.fail("embedding", format!("{} expects i32 indices, got {}", place(scope), index.ty()), loc);
        }
        if let Some(row) = self.padding_idx.filter(|&row| row >= self.num_embeddings) {
            let detail = format!("{}: padding_idx {row} is not below {}", place(scope), self.num_embeddings);
            return index.fail("embedding", detail, loc);
        }
        self.weight(scope).embedding_with(
            index,
            &EmbeddingOptions {
                padding_idx: self.padding_idx,
                scale_grad_by_freq: self.scale_grad_by_freq,
                ..EmbeddingOptions::default()
            },
        )
    }
}
