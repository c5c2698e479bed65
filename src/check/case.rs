//! `Case`: one problem, four uses: forward check, gradient check, support table, benchmark. It says how to build a graph
//! and what to feed it; tolerances follow from the graph itself, and so do the amounts of work.

use crate::backend::reference::Array;
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::{Builder, Graph, OutputKind, Prim, Tensor};
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::{Data, HostTensor};
use std::sync::Arc;

/// The seed from which all inputs are drawn unless another is given.
pub const SEED: u64 = 17;

/// How an input's elements are drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Gen {
    /// Normal with this mean and standard deviation.
    Normal(f64, f64),
    /// Uniform in [lo, hi).
    Uniform(f64, f64),
    /// A shuffle of evenly spaced values in [-2, 2]: no two are equal or nearly so.
    Distinct,
    /// Integers in lo..hi.
    Int(i32, i32),
    /// True with this probability.
    Bool(f64),
    /// These values, repeated to fill the shape.
    Fixed(Vec<f64>),
}

/// One input of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Shape,
    /// Values.
    pub values: Gen,
}

/// Appends the case's operation to a graph.
pub type Build = Arc<dyn Fn(&Builder, &[Tensor]) -> Vec<Tensor> + Send + Sync>;

/// One problem.
#[derive(Clone)]
pub struct Case {
    /// Operation, then shapes and attributes, separated by slashes: `softmax/65x257`. Filters match parts of it.
    pub name: String,
    /// What it is fed.
    pub inputs: Vec<Input>,
    /// What it computes.
    pub build: Build,
    /// Whether it is differentiated too, by all its float inputs. It must be smooth at the inputs that are drawn.
    pub grad: bool,
}

/// Work of one run: what a roofline needs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Floating-point operations: two per term of a product, one per element of anything else that computes.
    pub flops: f64,
    /// Bytes that must be read and written at least: inputs and outputs.
    pub bytes: f64,
}

impl Case {
    /// A case without inputs yet.
    pub fn new(
        name: impl Into<String>,
        build: impl Fn(&Builder, &[Tensor]) -> Vec<Tensor> + Send + Sync + 'static,
    ) -> Case {
        Case { name: name.into(), inputs: Vec::new(), build: Arc::new(build), grad: false }
    }
    /// A case with one result.
    pub fn one(name: impl Into<String>, build: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
        Case::new(name, move |_, t| vec![build(t)])
    }
    /// With a further float input.
    pub fn f32(self, shape: impl Into<Shape>, values: Gen) -> Case {
        self.input(DType::F32, shape, values)
    }
    /// With a further i32 input.
    pub fn i32(self, shape: impl Into<Shape>, values: Gen) -> Case {
        self.input(DType::I32, shape, values)
    }
    /// With a further bool input.
    pub fn bool(self, shape: impl Into<Shape>, values: Gen) -> Case {
        self.input(DType::Bool, shape, values)
    }
    /// With a further input.
    pub fn input(mut self, dtype: DType, shape: impl Into<Shape>, values: Gen) -> Case {
        self.inputs.push(Input { dtype, shape: shape.into(), values });
        self
    }
    /// Differentiated too.
    pub fn grad(mut self) -> Case {
        self.grad = true;
        self
    }

    /// The graph: inputs `0`, `1`, .. are fed, outputs `0`, `1`, .. fetched.
    pub fn graph(&self) -> Result<Graph> {
        let b = Builder::new();
        let feed = |(i, x): (usize, &Input)| b.feed(format!("{i}"), x.dtype, &x.shape);
        let inputs: Vec<Tensor> = self.inputs.iter().enumerate().map(feed).collect();
        for (i, t) in (self.build)(&b, &inputs).iter().enumerate() {
            b.output(format!("{i}"), OutputKind::Fetch, t);
        }
        b.build()
    }

    /// The inputs that `seed` gives.
    pub fn draw(&self, seed: u64) -> Vec<HostTensor> {
        let draw = |(i, x): (usize, &Input)| x.draw(&mut Rng::named(seed, &format!("{}/{i}", self.name)));
        self.inputs.iter().enumerate().map(draw).collect()
    }

    /// The names of the float inputs in [`Case::graph`].
    pub fn differentiable(&self) -> Vec<String> {
        let floats = self.inputs.iter().enumerate().filter(|(_, x)| x.dtype.is_float());
        floats.map(|(i, _)| i.to_string()).collect()
    }
}

impl Input {
    fn draw(&self, rng: &mut Rng) -> HostTensor {
        let n = self.shape.elems();
        let values: Vec<f64> = match &self.values {
            Gen::Normal(mean, std) => (0..n).map(|_| mean + std * rng.normal()).collect(),
            Gen::Uniform(lo, hi) => (0..n).map(|_| rng.range(*lo, *hi)).collect(),
            Gen::Distinct => rng.permutation(n).into_iter().map(|i| (i as f64 + 0.5) * 4.0 / n as f64 - 2.0).collect(),
            Gen::Int(lo, hi) => (0..n).map(|_| f64::from(lo + rng.below((hi - lo) as usize) as i32)).collect(),
            Gen::Bool(p) => (0..n).map(|_| f64::from(rng.uniform_f64() < *p)).collect(),
            Gen::Fixed(v) => v.iter().copied().cycle().take(n).collect(),
        };
        let data = match self.dtype {
            DType::F32 => Data::F32(values.into_iter().map(|x| x as f32).collect()),
            DType::F16 => Data::F16(values.into_iter().map(|x| half::f16::from_f32(x as f32)).collect()),
            DType::I32 => Data::I32(values.into_iter().map(|x| x as i32).collect()),
            DType::U32 => Data::U32(values.into_iter().map(|x| x as u32).collect()),
            DType::Bool => Data::Bool(values.into_iter().map(|x| u32::from(x != 0.0)).collect()),
        };
        HostTensor { shape: self.shape.clone(), data }
    }
}

/// Cotangents for the float outputs of a graph, in order: normal, never 1, so that a lost factor shows.
pub fn cotangents(graph: &Graph, seed: u64) -> Vec<HostTensor> {
    let floats = graph.outputs.iter().filter(|o| graph.ty(o.value).dtype.is_float());
    let draw = |o: &crate::ir::OutputSpec| {
        let input = Input { dtype: DType::F32, shape: graph.shape(o.value).clone(), values: Gen::Normal(0.0, 1.0) };
        input.draw(&mut Rng::named(seed, &format!("cotangent/{}", o.name)))
    };
    floats.map(draw).collect()
}

/// Host tensors as arrays of the reference.
pub fn arrays(tensors: &[HostTensor]) -> Vec<Array> {
    tensors.iter().map(Array::from).collect()
}

/// The work of one run of `graph`.
pub fn cost(graph: &Graph) -> Cost {
    let inputs = graph.inputs.iter().map(|i| i.value);
    let bytes: usize = inputs.chain(graph.outputs.iter().map(|o| o.value)).map(|v| graph.ty(v).bytes()).sum();
    Cost { flops: flops(graph), bytes: bytes as f64 }
}

fn flops(graph: &Graph) -> f64 {
    let node = |n: &crate::ir::Node| {
        let out = n.types.first().map_or(0, |t| t.shape.elems()) as f64;
        match &n.prim {
            Prim::Dot => 2.0 * out * graph.shape(n.args[0]).last().copied().unwrap_or(1) as f64,
            Prim::Conv(_) => 2.0 * out * graph.shape(n.args[1])[1..].iter().product::<usize>() as f64,
            Prim::Reduce { .. } => graph.shape(n.args[0]).elems() as f64,
            Prim::Call(call) => flops(&call.body),
            prim if prim.is_pointwise() => out,
            _ => 0.0,
        }
    };
    graph.nodes.iter().map(node).sum()
}
