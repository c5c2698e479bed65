//! Pooling layers over one, two or three dimensions of (N, C, S..) or (C, S..).

use crate::ir::Tensor;
use crate::nn::{Module, Scope};
use crate::ops::pooling::Pool;

macro_rules! extreme {
    ($name:ident, $f:ident, $what:literal, $one:ident, $two:ident) => {
        #[doc = $what]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name<const N: usize> {
            /// The windows.
            pub pool: Pool,
        }

        /// Over sequences (N, C, L).
        pub type $one = $name<1>;
        /// Over images (N, C, H, W).
        pub type $two = $name<2>;

        impl<const N: usize> $name<N> {
            /// Windows of equal sides, side by side.
            pub fn new(kernel: usize) -> $name<N> {
                $name { pool: Pool::new([kernel; N]) }
            }
        }

        impl<const N: usize> Module for $name<N> {
            #[track_caller]
            fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
                x.$f(&self.pool)
            }
        }
    };
}

extreme!(MaxPool, max_pool, "The maximum of each window; padding never wins.", MaxPool1d, MaxPool2d);
extreme!(MinPool, min_pool, "The minimum of each window; padding never wins.", MinPool1d, MinPool2d);

/// The mean of each window.
#[derive(Debug, Clone, PartialEq)]
pub struct AvgPool<const N: usize> {
    /// The windows.
    pub pool: Pool,
    /// Whether padding counts as elements.
    pub count_include_pad: bool,
}

/// Over sequences (N, C, L).
pub type AvgPool1d = AvgPool<1>;
/// Over images (N, C, H, W).
pub type AvgPool2d = AvgPool<2>;

impl<const N: usize> AvgPool<N> {
    /// Windows of equal sides, side by side.
    pub fn new(kernel: usize) -> AvgPool<N> {
        AvgPool { pool: Pool::new([kernel; N]), count_include_pad: true }
    }
}

impl<const N: usize> Module for AvgPool<N> {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.avg_pool(&self.pool, self.count_include_pad, None)
    }
}

/// Means over a grid of windows that divides the input evenly, whatever its size.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptiveAvgPool<const N: usize> {
    /// Sizes of the result.
    pub output_size: [usize; N],
}

/// Over sequences (N, C, L).
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// Over images (N, C, H, W).
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;

impl<const N: usize> Module for AdaptiveAvgPool<N> {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool(&self.output_size)
    }
}
