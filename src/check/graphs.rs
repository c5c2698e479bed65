//! Compares what a device makes of a graph with the exact result, within propagated error bounds, and shrinks a graph
//! that fails to a minimal one. Where the graphs come from is not its business.

use crate::backend::reference::{Array, Precision, eval};
use crate::backend::{Device, Program, Store};
use crate::check::bounds::{bounds, inlined, is_unbounded};
use crate::error::Result;
use crate::ir::{Builder, Graph, InputKind, OutputKind, Prim, Tensor, Value};
use crate::passes::dce::dce;
use crate::plan::PlanOptions;
use crate::tensor::HostTensor;
use std::fmt::Write;

/// Bounds are for the graph's own operations; kernels of composites use other formulas for the same function.
const SLACK: f64 = 4.0;

/// A graph with data for its inputs, in their order.
#[derive(Debug, Clone)]
pub struct Case {
    /// The graph.
    pub graph: Graph,
    /// One tensor per input.
    pub inputs: Vec<HostTensor>,
}

/// The exact results of a case, with the distance that an f32 implementation may keep from them.
#[derive(Debug, Clone)]
pub struct Expected {
    /// For each output: values and bounds.
    pub outputs: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Case {
    /// Evaluates the case on the reference in f64, with bounds.
    pub fn expected(&self) -> Result<Expected> {
        let graph = bounds(&inlined(&self.graph))?;
        let inputs: Vec<Array> = self.inputs.iter().map(Array::from).collect();
        let all = eval(&graph, &inputs, Precision::F64)?;
        let outputs = all.chunks(2).map(|pair| (pair[0].to_f64(), pair[1].to_f64())).collect();
        Ok(Expected { outputs })
    }

    /// Runs the case on a device and compares. `Err` is a failure of the run, `Ok(Some(..))` one of the results.
    pub fn run(&self, expected: &Expected, device: &Device, options: PlanOptions) -> Result<Option<String>> {
        let outputs = self.outputs(device, options)?;
        let mut report = String::new();
        for ((spec, got), (want, bound)) in self.graph.outputs.iter().zip(&outputs).zip(&expected.outputs) {
            if let Some(text) = compare(&got.to_f64(), want, bound) {
                let _ = writeln!(report, "output {:?} : {}: {text}", spec.name, self.graph.ty(spec.value));
            }
        }
        Ok(if report.is_empty() { None } else { Some(report) })
    }

    /// All outputs, in order, as a device computes them.
    pub fn outputs(&self, device: &Device, options: PlanOptions) -> Result<Vec<HostTensor>> {
        let store = Store::new(device);
        let mut feeds: Vec<(&str, &HostTensor)> = Vec::new();
        for (spec, value) in self.graph.inputs.iter().zip(&self.inputs) {
            match spec.kind {
                InputKind::Feed => feeds.push((&spec.name, value)),
                InputKind::State => store.insert(&spec.name, value)?,
            }
        }
        let mut program = Program::compile_with(&store, self.graph.clone(), options)?;
        let mut fetched = program.run(&feeds)?.into_iter();
        let mut out = Vec::new();
        for spec in &self.graph.outputs {
            out.extend(match spec.kind {
                OutputKind::Fetch => fetched.next(),
                OutputKind::State => Some(store.get(&spec.name)?),
            });
        }
        Ok(out)
    }

    /// A smaller case for which `fails` still holds: outputs dropped, and values replaced by inputs that hold them.
    pub fn shrink(&self, fails: &dyn Fn(&Case) -> bool) -> Case {
        let mut best = self.clone();
        // A budget of tries keeps the shrinking of a slow failure bearable.
        let mut tries = 200;
        'again: loop {
            let mut candidates: Vec<Case> =
                (0..best.graph.outputs.len()).filter_map(|k| best.without_output(k)).collect();
            candidates.extend(best.cuts());
            for candidate in candidates {
                if tries == 0 {
                    return best;
                }
                tries -= 1;
                if fails(&candidate) {
                    best = candidate;
                    continue 'again;
                }
            }
            return best;
        }
    }

    fn without_output(&self, k: usize) -> Option<Case> {
        if self.graph.outputs.len() < 2 {
            return None;
        }
        let mut graph = self.graph.clone();
        graph.outputs.remove(k);
        Some(Case { graph: dce(&graph), inputs: self.inputs.clone() }.without_unused_inputs())
    }

    /// Cases in which one value of the graph is an input. Late values first: they cut off most.
    fn cuts(&self) -> Vec<Case> {
        let mut all = self.graph.clone();
        all.outputs.clear();
        let mut values: Vec<Value> = Vec::new();
        for (id, node) in self.graph.iter() {
            if !matches!(node.prim, Prim::Input { .. } | Prim::Const(_)) {
                values.extend((0..node.types.len() as u32).map(|out| Value { node: id, out }));
            }
        }
        for v in &values {
            let spec = crate::ir::OutputSpec { name: format!("{v}"), kind: OutputKind::Fetch, value: *v };
            all.outputs.push(spec);
        }
        let inputs: Vec<Array> = self.inputs.iter().map(Array::from).collect();
        let Ok(data) = eval(&all, &inputs, Precision::F32) else { return Vec::new() };
        let is_output = |v: &Value| self.graph.outputs.iter().any(|o| o.value == *v);
        let picked = values.iter().zip(&data).rev().filter(|(v, _)| !is_output(v));
        picked.filter_map(|(v, a)| self.cut(*v, a)).collect()
    }

    fn cut(&self, at: Value, data: &Array) -> Option<Case> {
        let b = Builder::new();
        let mut inputs = self.inputs.clone();
        let declare =
            |spec: &crate::ir::InputSpec| b.input(&spec.name, spec.kind.clone(), self.graph.ty(spec.value).clone());
        let given: Vec<Tensor> = self.graph.inputs.iter().map(declare).collect();
        let name = (0..).map(|k| format!("cut{k}")).find(|n| self.graph.inputs.iter().all(|i| i.name != *n))?;
        let cut = b.input(name, InputKind::Feed, self.graph.ty(at).clone());
        inputs.push(HostTensor::from(data));
        let mut map: Vec<Vec<Tensor>> = Vec::new();
        for (id, node) in self.graph.iter() {
            let mut outs = match node.prim {
                Prim::Input { index } => vec![given[index].clone()],
                _ => {
                    let args = node.args.iter().map(|v| map[v.node.0 as usize][v.out as usize].value()).collect();
                    b.append(node.prim.clone(), args, node.types.clone(), node.loc)
                }
            };
            if id == at.node {
                outs[at.out as usize] = cut.clone();
            }
            map.push(outs);
        }
        for o in &self.graph.outputs {
            b.output(&o.name, o.kind.clone(), &map[o.value.node.0 as usize][o.value.out as usize]);
        }
        let graph = dce(&b.build().ok()?);
        (graph.nodes.len() < self.graph.nodes.len() + 1).then(|| Case { graph, inputs }.without_unused_inputs())
    }

    fn without_unused_inputs(self) -> Case {
        let used = self.graph.use_counts();
        let b = Builder::new();
        let mut inputs = Vec::new();
        let mut map: Vec<Vec<Tensor>> = Vec::new();
        for (id, node) in self.graph.iter() {
            match node.prim {
                Prim::Input { index } => {
                    let spec = &self.graph.inputs[index];
                    let written = self.graph.outputs.iter().any(|o| o.kind == OutputKind::State && o.name == spec.name);
                    if used[id.0 as usize] > 0 || written {
                        inputs.push(self.inputs[index].clone());
                        map.push(vec![b.input(&spec.name, spec.kind.clone(), node.types[0].clone())]);
                    } else {
                        map.push(Vec::new());
                    }
                }
                _ => {
                    let args = node.args.iter().map(|v| map[v.node.0 as usize][v.out as usize].value()).collect();
                    map.push(b.append(node.prim.clone(), args, node.types.clone(), node.loc));
                }
            }
        }
        for o in &self.graph.outputs {
            b.output(&o.name, o.kind.clone(), &map[o.value.node.0 as usize][o.value.out as usize]);
        }
        match b.build() {
            Ok(graph) => Case { graph, inputs },
            Err(_) => self,
        }
    }
}

/// Says where `got` leaves the bounds, if it does. Elements without a finite expectation or bound do not count.
pub fn compare(got: &[f64], want: &[f64], bound: &[f64]) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} elements where {} are expected", got.len(), want.len()));
    }
    let mut worst: Option<(usize, f64)> = None;
    let mut count = 0;
    for i in 0..got.len() {
        if !want[i].is_finite() || is_unbounded(bound[i]) {
            continue;
        }
        let (err, tol) = ((got[i] - want[i]).abs(), SLACK * bound[i]);
        if !(err <= tol) {
            count += 1;
            let excess = if err.is_nan() { f64::INFINITY } else { err / tol.max(f64::MIN_POSITIVE) };
            if worst.is_none_or(|(_, w)| excess > w) {
                worst = Some((i, excess));
            }
        }
    }
    worst.map(|(i, _)| {
        let n = got.len();
        format!("{count} of {n} differ, worst at {i}: got {}, expected {} +- {:.3e}", got[i], want[i], SLACK * bound[i])
    })
}
