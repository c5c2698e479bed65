//! `Graph`: nodes in topological order, with types, named inputs and named outputs. A graph is never edited, only
//! rebuilt (by the builder or a pass). It knows nothing of devices.

use crate::dtype::DType;
use crate::error::Loc;
use crate::ir::prim::Prim;
use crate::shape::Shape;
use std::fmt;

/// A node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One result of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub out: u32,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.out {
            0 => write!(f, "%{}", self.node.0),
            k => write!(f, "%{}.{k}", self.node.0),
        }
    }
}

/// Element type and shape of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the dimensions.
    pub shape: Shape,
}

impl Type {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Type {
        Type { dtype, shape: shape.into() }
    }
    /// Bytes in device memory, in whole words.
    pub fn bytes(&self) -> usize {
        (self.shape.elems() * self.dtype.bytes()).next_multiple_of(4)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// One application of a primitive.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is applied.
    pub prim: Prim,
    /// To what: values of earlier nodes.
    pub args: Vec<Value>,
    /// Types of the results.
    pub types: Vec<Type>,
    /// Where the user's source made it.
    pub loc: Loc,
}

/// What an input of a graph is, to those who run it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// Given anew at each run.
    Feed,
    /// Persistent state, kept in a `Store` under the input's name.
    State,
}

/// A named input.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// Unique among the graph's inputs; for state, the id in the store.
    pub name: String,
    /// Fed or persistent.
    pub kind: InputKind,
    /// The value of its `Input` node.
    pub value: Value,
}

/// What becomes of an output.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// Read back by the caller.
    Fetch,
    /// The new content of the state of this name (which is also an input of kind `State`).
    State,
}

/// A named output.
#[derive(Debug, Clone)]
pub struct OutputSpec {
    /// Unique among the outputs of its kind; for state, the id in the store.
    pub name: String,
    /// Fetched, or written back to state.
    pub kind: OutputKind,
    /// The value.
    pub value: Value,
}

/// Nodes in topological order with named inputs and outputs.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Nodes; arguments come before their users.
    pub nodes: Vec<Node>,
    /// Inputs, in the order of `Prim::Input::index`.
    pub inputs: Vec<InputSpec>,
    /// Outputs, in the order in which they were declared.
    pub outputs: Vec<OutputSpec>,
}

impl Graph {
    /// The node of this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.node(v.node).types[v.out as usize]
    }
    /// The shape of a value.
    pub fn shape(&self, v: Value) -> &Shape {
        &self.ty(v).shape
    }
    /// Ids with their nodes, in topological order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }
    /// For each node, how often its values are used as arguments or outputs.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        let args = self.nodes.iter().flat_map(|n| &n.args);
        for v in args.chain(self.outputs.iter().map(|o| &o.value)) {
            counts[v.node.0 as usize] += 1;
        }
        counts
    }
}
