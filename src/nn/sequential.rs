//! Modules in a row, and the reshaping that goes between them.

use crate::ir::Tensor;
use crate::nn::{Module, Scope};

/// Modules one after the other; the scope of each is its position: "0", "1", ..
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// Nothing: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }
    /// The same with one more module at the end.
    #[expect(clippy::should_implement_trait, reason = "appends a layer, as the name says to users of other frameworks")]
    pub fn add(mut self, layer: impl Module + 'static) -> Sequential {
        self.layers.push(Box::new(layer));
        self
    }
    /// Number of modules.
    pub fn len(&self) -> usize {
        self.layers.len()
    }
    /// True for the identity.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sequential({} layers)", self.layers.len())
    }
}

impl Module for Sequential {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.layers.iter().enumerate().fold(x.clone(), |x, (i, layer)| scope.run(i, layer, &x))
    }
}

/// All dimensions from `start` on merged into one; by default all but the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Flatten {
    /// First merged dimension.
    pub start: isize,
}

impl Flatten {
    /// Keeps the batch dimension.
    pub fn new() -> Flatten {
        Flatten { start: 1 }
    }
}

impl Default for Flatten {
    fn default() -> Flatten {
        Flatten::new()
    }
}

impl Module for Flatten {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.flatten(self.start, -1)
    }
}
