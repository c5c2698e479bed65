//! Losses that are plain pointwise arithmetic and a reduction. Cross-entropy has its own file.

use crate::ir::Tensor;

/// What becomes of a loss per element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Kept as it is.
    None,
    /// The mean.
    #[default]
    Mean,
    /// The sum.
    Sum,
}

impl Tensor {
    /// This loss per element, reduced.
    #[track_caller]
    pub fn reduced(&self, reduction: Reduction) -> Tensor {
        match reduction {
            Reduction::None => self.clone(),
            Reduction::Mean => self.mean(&[], false),
            Reduction::Sum => self.sum(&[], false),
        }
    }
}
