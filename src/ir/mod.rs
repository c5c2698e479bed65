//! The intermediate representation: a closed set of primitives, graphs of them, and a builder whose handles are
//! the tensors of user code. No I/O, no clocks, no globals.

pub mod builder;
pub mod graph;
pub mod infer;
pub mod prim;
pub mod text;
pub mod verify;

pub use builder::{Builder, Tensor};
pub use graph::{Graph, InputKind, InputSpec, Node, NodeId, OutputKind, OutputSpec, Type, Value};
pub use prim::{Binary, Call, ConvDims, Prim, ReduceOp, Unary};
