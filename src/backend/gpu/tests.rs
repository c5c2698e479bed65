//! Device tests of the kernels, against the reference backend on the same regions.
