//! The checking core: cases, the f64 reference with error bounds, comparison, gradient checks, known failures, and a
//! runner that puts every case through anything that can evaluate a graph. It names no backend but the reference.
//! `conformance` does the same for recorded cases of torch.

pub mod bound;
mod bound_rules;
pub mod bounds;
pub mod case;
pub mod cases;
pub mod compare;
pub mod conformance;
pub mod expect;
pub mod gradcheck;
pub mod graphs;
pub mod lint;
pub mod random;
pub mod support;
pub mod tolerance;

pub use case::{Case, Gen, SEED};
pub use compare::{Mismatch, compare};
pub use expect::Verdict;

use crate::backend::reference::{Array, Precision, eval};
use crate::backend::{Device, Program, Store};
use crate::error::Result;
use crate::grad::vjp_graph;
use crate::ir::{Graph, Prim};
use crate::plan::{Note, PlanOptions};
use crate::tensor::HostTensor;
use std::fmt;

/// Something that evaluates graphs: a backend behind the planner, or the reference.
pub trait Runner {
    /// Name and driver, which expectations are matched with.
    fn adapter(&self) -> String;
    /// The outputs of `graph` (inputs and outputs in its order; all inputs are fed, all outputs fetched).
    fn run(&mut self, graph: &Graph, inputs: &[HostTensor]) -> Result<Vec<HostTensor>>;
    /// Fallbacks and inlined composites of the last run.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The reference itself, in f32.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReferenceRunner;

impl Runner for ReferenceRunner {
    fn adapter(&self) -> String {
        "reference".into()
    }
    fn run(&mut self, graph: &Graph, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let outs = eval(graph, &case::arrays(inputs), Precision::F32)?;
        Ok(outs.iter().map(HostTensor::from).collect())
    }
}

/// A device behind the planner: each graph is planned, compiled and run once.
pub struct DeviceRunner {
    device: Device,
    options: PlanOptions,
    notes: Vec<String>,
}

impl DeviceRunner {
    /// Runs on `device` with the whole planner.
    pub fn new(device: &Device) -> DeviceRunner {
        DeviceRunner::with(device, PlanOptions::default())
    }
    /// Runs on `device` with parts of the planner switched off.
    pub fn with(device: &Device, options: PlanOptions) -> DeviceRunner {
        DeviceRunner { device: device.clone(), options, notes: Vec::new() }
    }
}

impl Runner for DeviceRunner {
    fn adapter(&self) -> String {
        let info = self.device.info();
        format!("{} {}", info.name, info.driver)
    }
    fn run(&mut self, graph: &Graph, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let mut program = Program::compile_with(&Store::new(&self.device), graph.clone(), self.options)?;
        let note = |n: &Note| match n {
            Note::Fallback { op, reason } => format!("{op} runs on the CPU: {reason}"),
            Note::Inlined { op, reason } => format!("{op} runs as its body: {reason}"),
        };
        self.notes = program.plan().notes.iter().map(note).collect();
        // A program takes only the inputs that it uses.
        let taken: Vec<String> = program.feeds().into_iter().map(|(name, _)| name).collect();
        let named = graph.inputs.iter().map(|i| i.name.as_str()).zip(inputs);
        let feeds: Vec<(&str, &HostTensor)> = named.filter(|(n, _)| taken.iter().any(|t| t == n)).collect();
        program.run(&feeds)
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its name.
    pub case: String,
    /// The seed of its inputs.
    pub seed: u64,
    /// Passed or not.
    pub verdict: Verdict,
    /// Fallbacks and inlined composites.
    pub notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, seed) = (&self.case, self.seed);
        match &self.verdict {
            Verdict::Passed => write!(f, "ok    {case}"),
            Verdict::Failed(e) => write!(f, "FAIL  {case} (seed {seed}): {e}"),
            Verdict::ExpectedFailure(reason) => write!(f, "known {case}: {reason}"),
            Verdict::UnexpectedPass(reason) => {
                write!(f, "FAIL  {case}: passes, although a failure is expected ({reason}); remove the expectation")
            }
        }?;
        self.notes.iter().try_for_each(|n| write!(f, "\n      {n}"))
    }
}

/// Counts of a set of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Cases that were run.
    pub run: usize,
    /// Of them, failed (also those that passed against expectation).
    pub failed: usize,
    /// Of them, failed as expected.
    pub expected: usize,
}

impl Summary {
    /// Counts `reports`.
    pub fn of(reports: &[Report]) -> Summary {
        let count = |p: &dyn Fn(&Verdict) -> bool| reports.iter().filter(|r| p(&r.verdict)).count();
        Summary {
            run: reports.len(),
            failed: count(&|v| !v.is_good()),
            expected: count(&|v| matches!(v, Verdict::ExpectedFailure(_))),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} run, {} failed, {} expected failures, 0 skipped", self.run, self.failed, self.expected)
    }
}

/// How much looser than its body's bound a composite may be: its kernel orders and rescales what the body does in other
/// steps (an online softmax, a reciprocal in place of a division), with about as many roundings again.
const COMPOSITE_SLACK: f64 = 4.0;

/// By how much the errors of a graph's results may exceed the bounds of its primitives.
pub(crate) fn slack(graph: &Graph) -> f64 {
    let composite = graph.nodes.iter().any(|n| matches!(n.prim, Prim::Call(_)));
    if composite { COMPOSITE_SLACK } else { 1.0 }
}

/// Runs one case forward and, if it is differentiated, backward: each result against the f64 reference of the same graph
/// from the same f32 inputs, within the bound of each element.
pub fn run_case(case: &Case, seed: u64, runner: &mut dyn Runner) -> Report {
    let mut notes = Vec::new();
    let outcome = check(case, seed, runner, &mut notes);
    notes.sort();
    notes.dedup();
    let verdict = expect::judge(expect::EXPECTATIONS, &runner.adapter(), &case.name, outcome);
    Report { case: case.name.clone(), seed, verdict, notes }
}

fn check(case: &Case, seed: u64, runner: &mut dyn Runner, notes: &mut Vec<String>) -> Result<(), String> {
    let text = |what: &str, e: &dyn fmt::Display| format!("{what}: {e}");
    let graph = case.graph().map_err(|e| text("build", &e))?;
    let inputs = case.draw(seed);
    check_graph("output", &graph, &inputs, runner).map_err(|e| text("forward", &e))?;
    notes.extend(runner.notes());
    if case.grad {
        let wrt = case.differentiable();
        let wrt: Vec<&str> = wrt.iter().map(String::as_str).collect();
        let backward = vjp_graph(&graph, &wrt).map_err(|e| text("differentiate", &e))?;
        let inputs = [inputs, case::cotangents(&graph, seed)].concat();
        check_graph("output", &backward, &inputs, runner).map_err(|e| text("backward", &e))?;
        notes.extend(runner.notes());
    }
    Ok(())
}

/// Runs one graph and compares all its outputs; the error is the first mismatch, in text.
pub fn check_graph(what: &str, graph: &Graph, inputs: &[HostTensor], runner: &mut dyn Runner) -> Result<(), String> {
    measure_graph(what, graph, inputs, runner).map(drop)
}

/// As [`check_graph`]; returns the largest error of any element as a fraction of what it may be.
pub fn measure_graph(what: &str, graph: &Graph, inputs: &[HostTensor], runner: &mut dyn Runner) -> Result<f64, String> {
    let expected = bound::evaluate(graph, &case::arrays(inputs)).map_err(|e| e.to_string())?;
    let actual = runner.run(graph, inputs).map_err(|e| e.to_string())?;
    if actual.len() != expected.len() {
        return Err(format!("{} results, expected {}", actual.len(), expected.len()));
    }
    let slack = slack(graph);
    let mut largest = 0.0f64;
    for ((spec, a), e) in graph.outputs.iter().zip(&actual).zip(&expected) {
        compare(a, e, slack).map_err(|m| format!("{what} {:?}: {m}", spec.name))?;
        largest = largest.max(compare::fraction(a, e, slack));
    }
    Ok(largest)
}

/// Runs every case whose name contains `filter` on `device`, at the default seed.
pub fn run(filter: &str, device: &Device, each: impl FnMut(&Report)) -> Vec<Report> {
    run_all(filter, SEED, &mut DeviceRunner::new(device), each)
}

/// Runs every case whose name contains `filter` through `runner`.
pub fn run_all(filter: &str, seed: u64, runner: &mut dyn Runner, mut each: impl FnMut(&Report)) -> Vec<Report> {
    let chosen = cases::all().into_iter().filter(|c| c.name.contains(filter));
    chosen
        .map(|case| {
            let report = run_case(&case, seed, runner);
            each(&report);
            report
        })
        .collect()
}

/// Inputs as arrays of the reference, for callers that evaluate graphs of their own.
pub fn reference(graph: &Graph, inputs: &[HostTensor]) -> Result<Vec<Array>> {
    eval(graph, &case::arrays(inputs), Precision::F64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_passes_its_own_cases() {
        let reports = run_all("", SEED, &mut ReferenceRunner, |_| ());
        let failed: Vec<String> = reports.iter().filter(|r| !r.verdict.is_good()).map(ToString::to_string).collect();
        assert!(reports.len() > 150, "only {} cases", reports.len());
        assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), reports.len(), failed.join("\n"));
    }

    #[test]
    fn every_primitive_and_composite_has_a_case() {
        let mut seen = std::collections::BTreeSet::new();
        for case in cases::all() {
            seen.extend(case.graph().unwrap().nodes.iter().map(|n| n.prim.name()));
        }
        let names = "input const iota random neg exp expm1 log log1p sqrt recip sin cos tanh erf floor round sign abs \
            isfinite not add sub mul div rem pow max min lt le eq and or select cast stop_grad reduce_sum reduce_max \
            reduce_prod argmax cumsum sort reshape broadcast permute slice pad reverse concat dot conv take scatter_add \
            take_along scatter_add_along softmax softmax_grad log_softmax log_softmax_grad cross_entropy \
            cross_entropy_grad attention attention_grad batch_norm batch_norm_grad layer_norm layer_norm_grad max_pool \
            max_pool_grad sum_pool sum_pool_grad rnn_tanh rnn_relu lstm gru";
        let missing: Vec<&str> = names.split_whitespace().filter(|n| !seen.contains(*n)).collect();
        assert!(missing.is_empty(), "no case has {missing:?}");
    }

    #[test]
    fn case_names_are_unique_and_rerunnable() {
        let mut names: Vec<String> = cases::all().into_iter().map(|c| c.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "case names repeat");
        assert_eq!(run_all("softmax/65x257", SEED, &mut ReferenceRunner, |_| ()).len(), 2);
    }
}
