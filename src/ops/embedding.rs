//! Rows of a table by index: torch's `embedding` with its options.

use crate::dtype::DType;
use crate::ir::Tensor;
use std::panic::Location;

/// Options of [`Tensor::embedding_with`]; the default has none of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingOptions {
    /// This row gets no gradient; its value is used as it is.
    pub padding_idx: Option<usize>,
    /// Rows that are longer than this are shortened to it, as a constant to the gradient. (torch writes them back into
    /// its table; a graph does not change its argument.)
    pub max_norm: Option<f64>,
    /// The p of the norm that measures the rows.
    pub norm_type: f64,
    /// The gradient of a row is divided by how often the row occurs in the index.
    pub scale_grad_by_freq: bool,
}

impl Default for EmbeddingOptions {
    fn default() -> EmbeddingOptions {
        EmbeddingOptions { padding_idx: None, max_norm: None, norm_type: 2.0, scale_grad_by_freq: false }
    }
}

impl Tensor {
    /// Rows of this table at `index` (i32, any shape). The row `padding_idx` gets no gradient.
    #[track_caller]
    pub fn embedding(&self, index: &Tensor, padding_idx: Option<usize>) -> Tensor {
        self.embedding_with(index, &EmbeddingOptions { padding_idx, ..EmbeddingOptions::default() })
    }

    /// Rows of this table `[V, D]` at `index` (i32, any shape): `[index.., D]`.
    #[track_caller]
    pub fn embedding_with(&self, index: &Tensor, o: &EmbeddingOptions) -> Tensor {
        if self.rank() != 2 {
            return self.fail("embedding", format!("the table must be [V, D], got {}", self.ty()), Location::caller());
        }
        let mut rows = self.take(index);
        if let Some(max) = o.max_norm {
            let norm = rows.detach().norm(o.norm_type, &[-1], true);
            let factor = norm.gt(&norm.like(max)).select(&(max / (&norm + 1e-7)), &norm.like(1.0));
            let shorter = (&rows * factor).detach();
            rows = shorter + (&rows - rows.detach());
        }
        if o.scale_grad_by_freq {
            let flat = index.reshape([index.elems()]);
            let counts =
                self.builder().full([self.size(0)], 0.0).scatter_add(0, &flat, &flat.cast(DType::F32).like(1.0));
            let share = &rows / counts.take(index).unsqueeze(-1);
            rows = &share + (&rows - &share).detach();
        }
        match o.padding_idx {
            Some(row) => {
                let pad = index.eq(&index.like(row as f64)).unsqueeze(-1);
                pad.select(&rows.detach(), &rows)
            }
            None => rows,
        }
    }
}
