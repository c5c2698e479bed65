//! Pooling layers over images.

use crate::ir::Tensor;
use crate::nn::{Module, Scope};
use crate::ops::pooling::Pool;

/// The maximum of each window of (N, C, H, W).
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPool2d(pub Pool);

impl MaxPool2d {
    /// Square windows side by side.
    pub fn new(kernel: usize) -> MaxPool2d {
        MaxPool2d(Pool::new([kernel; 2]))
    }
}

impl Module for MaxPool2d {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.max_pool(&self.0)
    }
}

/// The mean of each window of (N, C, H, W).
#[derive(Debug, Clone, PartialEq)]
pub struct AvgPool2d {
    /// The windows.
    pub pool: Pool,
    /// Whether padding counts as elements.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// Square windows side by side.
    pub fn new(kernel: usize) -> AvgPool2d {
        AvgPool2d { pool: Pool::new([kernel; 2]), count_include_pad: true }
    }
}

impl Module for AvgPool2d {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.avg_pool(&self.pool, self.count_include_pad, None)
    }
}

/// Means over a grid of windows that divides the image evenly, whatever its size.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the result.
    pub output_size: [usize; 2],
}

impl Module for AdaptiveAvgPool2d {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool(&self.output_size)
    }
}
