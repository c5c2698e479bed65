//! The parameter tree of one graph: which parameters and buffers the modules declared, under which names, with which
//! initial distributions, and what the buffers become. A [`Scope`] is a place in the tree; [`Params`] is the whole.

use crate::dtype::{DType, Scalar};
use crate::error::{Loc, Result};
use crate::ir::{Builder, OutputKind, Prim, Tensor, Type};
use crate::nn::{Init, Module};
use crate::rng;
use crate::shape::Shape;
use crate::tensor::HostTensor;
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;

/// What a graph is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Dropout drops, batch norm uses and updates statistics of the batch.
    Train,
    /// Dropout passes, batch norm uses its running statistics.
    Eval,
}

/// A parameter or buffer: what a store must hold before the graph runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// Full name: the path of the scope and the name in it, joined by dots.
    pub name: String,
    /// Element type and shape.
    pub ty: Type,
    /// Where its first content comes from.
    pub init: Init,
    /// True for parameters, false for buffers (running statistics, counters, optimizer state).
    pub trainable: bool,
}

struct Tree {
    builder: Builder,
    mode: Mode,
    counter: Option<Tensor>,
    row_weight: Option<Tensor>,
    averages: bool,
    declared: RefCell<Declared>,
}

#[derive(Default)]
struct Declared {
    order: Vec<(ParamSpec, Tensor)>,
    index: HashMap<String, usize>,
    updates: Vec<(String, Tensor)>,
    visits: Vec<Visit>,
    /// Results of the modules that were run by name, in the order in which they were done.
    results: Vec<(String, Tensor)>,
    streams: HashMap<String, u32>,
}

/// What one module of a tree added to the graph: for tables of layers, and to say in which layer something went wrong.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The module's scope.
    pub path: String,
    /// The nodes that it appended, those of the modules in it among them.
    pub nodes: std::ops::Range<usize>,
    /// Its result.
    pub output: Type,
    /// True if building the graph failed in it.
    pub failed: bool,
}

/// The parameters of one graph. Clones share them.
#[derive(Clone)]
pub struct Params {
    tree: Rc<Tree>,
}

/// A place in the parameter tree of a graph: cheap to clone, handed down from module to module.
#[derive(Clone)]
pub struct Scope {
    tree: Rc<Tree>,
    path: String,
    hooks: Vec<Hook>,
}

/// What happens to the declarations of the modules below a scope; of several, the innermost is asked first.
#[derive(Clone)]
enum Hook {
    /// The parameter or buffer of this full name is computed.
    Replace(String, Rc<Replacement>),
    /// Parameters of more than one dimension start with this distribution.
    Matrices(Init),
}

/// From the scope of the parameter, without the hook, its shape and its distribution at the start.
type Replacement = dyn Fn(&Scope, &Shape, Init) -> Tensor;

impl Params {
    /// An empty tree for the graph of `builder`.
    pub fn new(builder: &Builder, mode: Mode) -> Params {
        Params::with(builder, mode, None, None)
    }

    /// An empty tree. `counter` (`u32[4]`: seed_lo, seed_hi, step, microbatch) feeds the random numbers; training with
    /// dropout needs it. `row_weight` (`f32[rows]`) is 1 for each row of the batch and 0 for rows that only pad it.
    pub fn with(builder: &Builder, mode: Mode, counter: Option<&Tensor>, row_weight: Option<&Tensor>) -> Params {
        let tree = Tree {
            builder: builder.clone(),
            mode,
            counter: counter.cloned(),
            row_weight: row_weight.cloned(),
            averages: false,
            declared: RefCell::default(),
        };
        Params { tree: Rc::new(tree) }
    }

    /// An empty tree for training mode in which running statistics of batch norm become plain averages over the batches
    /// since they were reset: what torch's `update_bn` does. `counter` is as in [`Params::with`].
    pub fn averaging(builder: &Builder, counter: &Tensor) -> Params {
        let tree = Tree {
            builder: builder.clone(),
            mode: Mode::Train,
            counter: Some(counter.clone()),
            row_weight: None,
            averages: true,
            declared: RefCell::default(),
        };
        Params { tree: Rc::new(tree) }
    }

    /// The root of the tree, whose path is empty.
    pub fn scope(&self) -> Scope {
        Scope { tree: self.tree.clone(), path: String::new(), hooks: Vec::new() }
    }

    /// The graph.
    pub fn builder(&self) -> &Builder {
        &self.tree.builder
    }

    /// Everything declared so far, in order.
    pub fn specs(&self) -> Vec<ParamSpec> {
        self.tree.declared.borrow().order.iter().map(|(spec, _)| spec.clone()).collect()
    }

    /// The trained parameters with their names, in the order of their declaration.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        let declared = self.tree.declared.borrow();
        declared.order.iter().filter(|(s, _)| s.trainable).map(|(s, t)| (s.name.clone(), t.clone())).collect()
    }

    /// The tensor of a declared parameter or buffer.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        let declared = self.tree.declared.borrow();
        declared.index.get(name).map(|&i| declared.order[i].1.clone())
    }

    /// What the modules that were run by [`Scope::run`] did, inner ones before those around them.
    pub fn visits(&self) -> Vec<Visit> {
        self.tree.declared.borrow().visits.clone()
    }

    /// New contents of buffers, as the modules gave them.
    pub fn updates(&self) -> Vec<(String, Tensor)> {
        self.tree.declared.borrow().updates.clone()
    }

    /// Results of the modules that were run by name ([`Scope::run`]), with their paths, in the order of the computation.
    pub fn results(&self) -> Vec<(String, Tensor)> {
        self.tree.declared.borrow().results.clone()
    }

    /// Declares the new contents of buffers as outputs of the graph. (An optimizer step does it itself, guarded.)
    #[track_caller]
    pub fn emit_updates(&self) {
        for (name, new) in self.updates() {
            self.tree.builder.output(name, OutputKind::State, &new);
        }
    }

    /// First contents of all that was declared, drawn on the host: a function of `seed` and the names alone.
    pub fn init(&self, seed: u64) -> Result<Vec<(String, HostTensor)>> {
        init(&self.specs(), seed)
    }
}

/// First contents for these specs, drawn on the host: a function of `seed` and the names alone.
pub fn init(specs: &[ParamSpec], seed: u64) -> Result<Vec<(String, HostTensor)>> {
    specs.iter().map(|s| Ok((s.name.clone(), s.init.draw(&s.name, &s.ty, seed)?))).collect()
}

impl Scope {
    /// The place below this one. A number names an element of a list, as in torch.
    pub fn child(&self, name: impl std::fmt::Display) -> Scope {
        Scope { path: self.full(&name.to_string()), ..self.clone() }
    }

    /// Runs `module` on `x` in the child scope `name`.
    #[track_caller]
    pub fn run(&self, name: impl std::fmt::Display, module: &(impl Module + ?Sized), x: &Tensor) -> Tensor {
        self.visit(name, |child| module.forward(child, x))
    }

    /// Runs `f` in the child scope `name` and keeps what it did for [`Params::visits`].
    #[track_caller]
    pub fn visit(&self, name: impl std::fmt::Display, f: impl FnOnce(&Scope) -> Tensor) -> Tensor {
        let (child, builder) = (self.child(name), self.builder());
        let (first, was_ok) = (builder.len(), builder.is_ok());
        let y = f(&child);
        let failed = was_ok && !builder.is_ok();
        let visit = Visit { path: child.path, nodes: first..builder.len(), output: y.ty().clone(), failed };
        let mut declared = self.tree.declared.borrow_mut();
        declared.results.push((visit.path.clone(), y.clone()));
        declared.visits.push(visit);
        drop(declared);
        y
    }

    /// Names of the scopes on the way here, joined by dots; empty at the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The graph.
    pub fn builder(&self) -> &Builder {
        &self.tree.builder
    }

    /// True if the graph is built for training.
    pub fn training(&self) -> bool {
        self.tree.mode == Mode::Train
    }

    /// True if running statistics are to become plain averages, whatever their momentum ([`Params::averaging`]).
    pub fn averages(&self) -> bool {
        self.tree.averages
    }

    /// 1 for each row of the batch and 0 for rows that only pad it, if the batch may be padded.
    pub fn row_weight(&self) -> Option<&Tensor> {
        self.tree.row_weight.as_ref()
    }

    /// A trained parameter (f32). The same name gives the same tensor; with another shape it is an error.
    #[track_caller]
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Tensor {
        let shape = shape.into();
        let start = self.hooks.iter().rev().find_map(|hook| match hook {
            Hook::Matrices(start) if shape.len() > 1 => Some(start.clone()),
            Hook::Matrices(_) | Hook::Replace(..) => None,
        });
        self.declare(name, Type::new(DType::F32, shape), start.unwrap_or(init), true, Location::caller())
    }

    /// The same place, where the parameter or buffer `name` (of this scope or, with a path, of one below) is not declared but
    /// computed by `make`, from the parameters that it declares in the scope it is given: weight norm, pruning, sharing.
    pub fn replacing(&self, name: &str, make: impl Fn(&Scope, &Shape, Init) -> Tensor + 'static) -> Scope {
        self.hooked(Hook::Replace(self.full(name), Rc::new(make)))
    }

    /// The same place, where all parameters of more than one dimension start with this distribution.
    pub fn matrices_from(&self, init: Init) -> Scope {
        self.hooked(Hook::Matrices(init))
    }

    fn hooked(&self, hook: Hook) -> Scope {
        let mut scope = self.clone();
        scope.hooks.push(hook);
        scope
    }

    /// A state that is not trained (f32).
    #[track_caller]
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Tensor {
        self.declare(name, Type::new(DType::F32, shape), init, false, Location::caller())
    }

    /// A state of any element type that is not trained.
    #[track_caller]
    pub fn buffer_of(&self, name: &str, ty: Type, init: Init) -> Tensor {
        self.declare(name, ty, init, false, Location::caller())
    }

    /// What a buffer of this scope holds after the run; of two updates the later one stays. A replaced buffer has no state.
    #[track_caller]
    pub fn update(&self, name: &str, new: &Tensor) {
        let full = self.full(name);
        if self.replacement(&full).is_some() {
            return;
        }
        let mut declared = self.tree.declared.borrow_mut();
        if !declared.index.contains_key(&full) {
            drop(declared);
            new.fail("update", format!("there is no buffer named {full:?}"), Location::caller());
            return;
        }
        match declared.updates.iter_mut().find(|(n, _)| *n == full) {
            Some(entry) => entry.1 = new.clone(),
            None => declared.updates.push((full, new.clone())),
        }
    }

    /// Random bits (u32) of this scope's stream `name`: a function of seed, step, microbatch, path and position. Each
    /// further use of one stream in a graph is a stream of its own, so that a shared module draws anew at each call.
    #[track_caller]
    pub fn random_bits(&self, name: &str, shape: impl Into<Shape>) -> Tensor {
        let (shape, full) = (shape.into(), self.full(name));
        let Some(counter) = &self.tree.counter else {
            let hint = Type::new(DType::U32, shape);
            let detail = format!("{full} needs random numbers, but this parameter tree was made without a counter");
            return self.builder().fail("random", detail, Location::caller(), &hint);
        };
        let use_count = {
            let mut declared = self.tree.declared.borrow_mut();
            let n = declared.streams.entry(full.clone()).or_insert(0);
            *n += 1;
            *n
        };
        let stream =
            if use_count == 1 { rng::stream_id(&full) } else { rng::stream_id(&format!("{full}#{use_count}")) };
        self.builder().apply(Prim::Random { stream, shape }, &[counter])
    }

    /// True with probability `1 - p`, independently at each place (see [`Scope::random_bits`]).
    #[track_caller]
    pub fn keep_mask(&self, name: &str, shape: impl Into<Shape>, p: f64) -> Tensor {
        let bits = self.random_bits(name, shape);
        // P(bits >= p * 2^32) = 1 - p, to 2^-32.
        let threshold = (p * 4_294_967_296.0).round().clamp(0.0, u32::MAX as f64) as u32;
        let threshold = self.builder().constant(Scalar::U32(threshold)).broadcast_to(bits.shape());
        threshold.le(&bits)
    }

    /// The innermost hook that replaces the parameter or buffer of this full name, and its position.
    fn replacement(&self, full: &str) -> Option<(usize, &Rc<Replacement>)> {
        self.hooks.iter().enumerate().rev().find_map(|(i, hook)| match hook {
            Hook::Replace(target, make) if target == full => Some((i, make)),
            Hook::Replace(..) | Hook::Matrices(_) => None,
        })
    }

    fn full(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", n) => n.to_string(),
            (p, "") => p.to_string(),
            (p, n) => format!("{p}.{n}"),
        }
    }

    fn declare(&self, name: &str, ty: Type, init: Init, trainable: bool, loc: Loc) -> Tensor {
        let name = self.full(name);
        let builder = self.builder();
        if let Some((i, make)) = self.replacement(&name) {
            let outside = Scope { hooks: self.hooks[..i].to_vec(), ..self.clone() };
            let made = make(&outside, &ty.shape, init);
            if *made.ty() == ty {
                return made;
            }
            return made.fail("param", format!("{name:?} must be {ty}, but is replaced by {}", made.ty()), loc);
        }
        let known = {
            let declared = self.tree.declared.borrow();
            declared.index.get(&name).map(|&i| declared.order[i].clone())
        };
        if let Some((spec, tensor)) = known {
            if spec.ty == ty && spec.trainable == trainable {
                return tensor;
            }
            let kind = |t: bool| if t { "parameter" } else { "buffer" };
            let detail = format!(
                "{name:?} is declared as {} {ty}, but was declared as {} {} before",
                kind(trainable),
                kind(spec.trainable),
                spec.ty
            );
            return builder.fail("param", detail, loc, &ty);
        }
        let tensor = builder.state(name.clone(), ty.dtype, ty.shape.clone());
        let mut declared = self.tree.declared.borrow_mut();
        let index = declared.order.len();
        declared.index.insert(name.clone(), index);
        declared.order.push((ParamSpec { name, ty, init, trainable }, tensor.clone()));
        tensor
    }
}
