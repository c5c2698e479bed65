//! Running the graphs of conformance cases on a device: one graph with results and gradients for functions and
//! modules, a [`Session`] with state for what takes several steps.

use crate::backend::{Device, Program, Store};
use crate::check::conformance::file::{Case, unsupported};
use crate::error::{Error, Result};
use crate::grad;
use crate::ir::{Builder, Graph, InputKind, OutputKind, Tensor};
use crate::plan::Note;
use crate::tensor::HostTensor;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Results by name, and which steps ran on the CPU although the device is another.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Results, under the names that the file uses.
    pub results: BTreeMap<String, HostTensor>,
    /// Steps that fell back to the CPU: operation and reason.
    pub fallbacks: Vec<String>,
}

/// The tensors of a case as inputs of a graph. It remembers which were asked for: an input that nobody asks for is an
/// argument that the runner does not support.
pub struct Inputs<'a> {
    /// The case.
    pub case: &'a Case,
    /// The graph.
    pub builder: Builder,
    args: Vec<(String, Tensor)>,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Inputs<'a> {
    /// Declares a feed for each positional input of the case.
    pub fn new(case: &'a Case) -> Result<Inputs<'a>> {
        let builder = Builder::new();
        let mut args = Vec::new();
        for full in &case.args {
            let host = case.tensor(full)?;
            let short = full.strip_prefix("in.").unwrap_or(full).to_string();
            args.push((short, builder.feed(full.clone(), host.dtype(), host.shape.clone())));
        }
        Ok(Inputs { case, builder, args, used: RefCell::default() })
    }
    /// An optional input, by torch's name of the argument.
    pub fn opt(&self, name: &str) -> Option<Tensor> {
        self.used.borrow_mut().insert(name.to_string());
        self.args.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone())
    }
    /// A required input.
    pub fn arg(&self, name: &str) -> Result<Tensor> {
        self.opt(name).ok_or_else(|| Error::input(&self.case.file, format!("has no input {name:?}")))
    }
    /// All inputs in order.
    pub fn all(&self) -> Vec<Tensor> {
        self.args
            .iter()
            .map(|(n, t)| {
                self.used.borrow_mut().insert(n.clone());
                t.clone()
            })
            .collect()
    }
    /// Inputs by name, whether asked for or not.
    pub fn leaves(&self) -> Vec<(String, Tensor)> {
        self.args.clone()
    }
    /// Errors if an attribute or an input was not asked for.
    pub fn finish(&self) -> Result<()> {
        let attrs = [self.case.attrs.unused(), self.case.call.unused()].concat();
        if !attrs.is_empty() {
            return Err(unsupported(format!("attribute {} of {}", attrs.join(", "), self.case.name)));
        }
        let used = self.used.borrow();
        match self.args.iter().find(|(n, _)| !used.contains(n)) {
            Some((n, _)) => Err(unsupported(format!("argument {n} of {}", self.case.name))),
            None => Ok(()),
        }
    }
}

/// The graph of a case before its gradients are added.
#[derive(Debug, Default)]
pub struct Built {
    /// `out.0`, `out.1`, ..
    pub outs: Vec<Tensor>,
    /// Further results under their full names (`after.running_mean`, `buffer.running_var`).
    pub named: Vec<(String, Tensor)>,
    /// What can be differentiated by, under the names that follow `grad.` in the file.
    pub leaves: Vec<(String, Tensor)>,
}

/// Adds the gradients that the case asks for, compiles, runs once, and returns all results that the case has.
///
/// Inputs of the graph get the tensor of the case with their name, or `param.` or `buffer_in.` before it.
pub fn run_built(case: &Case, device: &Device, builder: &Builder, built: &Built) -> Result<Outcome> {
    let mut cotangents = Vec::new();
    for (k, out) in built.outs.iter().enumerate() {
        let name = format!("cot.{k}");
        cotangents.push(case.tensors.get(&name).map(|t| {
            let cot = builder.feed(name.clone(), t.dtype(), t.shape.clone());
            if cot.ty() != out.ty() {
                let loc = std::panic::Location::caller();
                cot.fail(&case.name, format!("result {k} is {}, its cotangent {}", out.ty(), cot.ty()), loc);
            }
            cot
        }));
    }
    let mut outputs: Vec<(String, Tensor)> =
        built.outs.iter().enumerate().map(|(k, t)| (format!("out.{k}"), t.clone())).collect();
    outputs.extend(built.named.iter().cloned());
    let wanted: Vec<&str> = case.results().filter_map(|(n, _)| n.strip_prefix("grad.")).collect();
    let mut wrt = Vec::new();
    for name in &wanted {
        let leaf = built.leaves.iter().find(|(n, _)| n == name);
        wrt.push(&leaf.ok_or_else(|| unsupported(format!("gradient by {name} of {}", case.name)))?.1);
    }
    if !wrt.is_empty() && builder.is_ok() {
        let grads = grad::vjp(&built.outs, &cotangents, &wrt);
        for ((name, leaf), g) in wanted.iter().zip(&wrt).zip(grads) {
            outputs.push((format!("grad.{name}"), g.unwrap_or_else(|| leaf.like(0.0))));
        }
    }
    for (name, t) in outputs.iter().filter(|(n, _)| case.tensors.contains_key(n)) {
        builder.output(name.clone(), OutputKind::Fetch, t);
    }
    run_graph(case, device, builder.build()?)
}

/// Compiles and runs a graph whose inputs are tensors of the case, as for [`run_built`].
pub fn run_graph(case: &Case, device: &Device, graph: Graph) -> Result<Outcome> {
    let mut values = BTreeMap::new();
    for spec in &graph.inputs {
        let names = [spec.name.clone(), format!("param.{}", spec.name), format!("buffer_in.{}", spec.name)];
        let found = names.iter().find_map(|n| case.tensors.get(n));
        let host = found.ok_or_else(|| Error::input(&case.file, format!("has no tensor for {:?}", spec.name)))?;
        values.insert(spec.name.clone(), host.clone());
    }
    let is_state = |name: &String| graph.inputs.iter().any(|s| s.name == *name && s.kind == InputKind::State);
    let (states, feeds) = values.into_iter().partition::<BTreeMap<_, _>, _>(|(name, _)| is_state(name));
    let mut session = Session::new(device, graph, states)?;
    let results = session.run(&feeds)?;
    Ok(Outcome { results, fallbacks: session.fallbacks() })
}

/// A compiled graph with its state, to be run several times.
pub struct Session {
    store: Store,
    program: Program,
}

impl Session {
    /// Compiles `graph` for `device`; `states` are the first contents of its state inputs.
    pub fn new(device: &Device, graph: Graph, states: BTreeMap<String, HostTensor>) -> Result<Session> {
        let store = Store::new(device);
        for (name, value) in &states {
            store.insert(name.clone(), value)?;
        }
        let program = Program::compile(&store, graph)?;
        Ok(Session { store, program })
    }

    /// Runs once with these feeds (those that the program does not need are left out); returns the fetched outputs.
    /// State outputs become the new states.
    pub fn run(&mut self, feeds: &BTreeMap<String, HostTensor>) -> Result<BTreeMap<String, HostTensor>> {
        let needed = self.program.feeds();
        let given: Vec<(&str, &HostTensor)> =
            needed.iter().filter_map(|(name, _)| Some((name.as_str(), feeds.get(name)?))).collect();
        let results = self.program.run(&given)?;
        Ok(self.program.fetches().into_iter().map(|(name, _)| name).zip(results).collect())
    }

    /// The content of a state after the runs so far.
    pub fn state(&self, name: &str) -> Result<HostTensor> {
        self.store.get(name)
    }

    /// Steps that run on the CPU although the device is another: operation and reason.
    pub fn fallbacks(&self) -> Vec<String> {
        let told = self.program.plan().notes.iter().filter_map(|note| match note {
            Note::Fallback { op, reason } => Some(format!("{op} ({reason})")),
            Note::Inlined { .. } => None,
        });
        let mut list: Vec<String> = told.collect();
        if list.is_empty() && self.program.stats().fallbacks > 0 {
            list.push("steps without a note".to_string());
        }
        list
    }
}
