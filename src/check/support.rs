//! The support table: what each operation of the case registry is made of on each backend, and how exact it is there.
//! Nothing is listed by hand: a new operation shows up with its first case.
//!
//! What a plan says (kernels, bodies, loops, fallbacks) is the same on every machine with such a device; the committed
//! table holds only that. Errors are measured, and printed beside it.

use super::case::{self, Case};
use super::{DeviceRunner, SEED, cases, measure_graph};
use crate::backend::{BackendKind, Device};
use crate::error::Result;
use crate::grad::vjp_graph;
use crate::ir::Graph;
use crate::plan::{self, Note, Plan, PlanOptions, RegionKind, Step};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The columns of the committed table.
pub const COMMITTED: [&str; 3] = ["reference", "cpu", "software adapter"];

/// What an operation is made of on one backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// `kernel`: a hand-written one; `body`: a composite that runs as its primitives; `loop`: a loop that is made from the
    /// expression; `view`: no work at all, its readers read other strides; `definition`: the reference itself. Several if it
    /// depends on the case.
    pub made_of: BTreeSet<&'static str>,
    /// What runs on the CPU for want of support, with the reason.
    pub fallbacks: BTreeSet<String>,
    /// The largest error of any element of any case, as a fraction of its bound; nothing if it was not measured.
    pub error: Option<f64>,
    /// The same of second derivatives.
    pub second: Option<f64>,
    /// Cases that failed, with what is wrong.
    pub failures: Vec<String>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The family that its cases belong to.
    pub family: &'static str,
    /// Its name.
    pub op: String,
    /// Number of cases.
    pub cases: usize,
    /// Of them, differentiated: gradients and second derivatives are checked in f64 and on every backend.
    pub differentiated: usize,
    /// One entry per backend.
    pub cells: Vec<Cell>,
}

/// The table of these devices. With `measured` every case runs on every device: forward, gradient, second derivative.
pub fn table(devices: &[Device], measured: bool, mut each: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for (family, cases) in cases::families() {
        let mut names: Vec<String> = Vec::new();
        for case in &cases {
            let name = op_of(case);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for op in names {
            let own: Vec<&Case> = cases.iter().filter(|c| op_of(c) == op).collect();
            let cell = |d: &Device| own.iter().try_fold(Cell::default(), |cell, case| look(cell, case, d, measured));
            let cells = devices.iter().map(cell).collect::<Result<Vec<Cell>>>()?;
            let differentiated = own.iter().filter(|c| c.grad).count();
            let row = Row { family, op, cases: own.len(), differentiated, cells };
            each(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The operation of a case: what its name starts with.
fn op_of(case: &Case) -> String {
    case.name.split('/').next().unwrap_or_default().to_string()
}

/// Adds what one case tells about a device.
fn look(mut cell: Cell, case: &Case, device: &Device, measured: bool) -> Result<Cell> {
    let graph = case.graph()?;
    let options = PlanOptions::default();
    let forward = plan::plan(&graph, device.caps(), device.host_caps(), &options)?;
    let definition = device.info().kind == BackendKind::Reference;
    cell.made_of.insert(if definition { "definition" } else { made_of(&forward) });
    let mut graphs = vec![graph.clone()];
    if case.grad {
        let wrt = case.differentiable();
        let wrt: Vec<&str> = wrt.iter().map(String::as_str).collect();
        graphs.push(vjp_graph(&graph, &wrt)?);
    }
    for graph in &graphs {
        let plan = plan::plan(graph, device.caps(), device.host_caps(), &options)?;
        for note in &plan.notes {
            if let Note::Fallback { op, reason } = note {
                cell.fallbacks.insert(format!("{op}: {reason}"));
            }
        }
    }
    if !measured {
        return Ok(cell);
    }
    let mut runner = DeviceRunner::new(device);
    let first = [case.draw(SEED), case::cotangents(&graph, SEED)].concat();
    for (order, graph) in graphs.iter().enumerate() {
        let inputs = if order == 0 { case.draw(SEED) } else { first.clone() };
        match measure_graph("output", graph, &inputs, &mut runner) {
            Ok(error) => cell.error = Some(cell.error.unwrap_or(0.0).max(error)),
            Err(e) => cell.failures.push(format!("{}, order {order}: {e}", case.name)),
        }
    }
    if case.grad {
        match second(case, &graph, &mut runner) {
            Ok(error) => cell.second = Some(cell.second.unwrap_or(0.0).max(error)),
            Err(e) => cell.failures.push(format!("{}, order 2: {e}", case.name)),
        }
    }
    Ok(cell)
}

/// The largest error of the second derivative, as a fraction of its bound: the derivative, by inputs and cotangents, of
/// the gradients along random directions.
pub fn second(case: &Case, graph: &Graph, runner: &mut DeviceRunner) -> Result<f64, String> {
    let text = |e: crate::error::Error| e.to_string();
    let wrt = case.differentiable();
    let wrt: Vec<&str> = wrt.iter().map(String::as_str).collect();
    let gradient = vjp_graph(graph, &wrt).map_err(text)?;
    let mut gradient_only = gradient.clone();
    gradient_only.outputs.retain(|o| o.name.starts_with("grad."));
    // The second derivatives get names of their own.
    for o in &mut gradient_only.outputs {
        o.name = o.name.replacen("grad.", "first.", 1);
    }
    let inputs = [case.draw(SEED), case::cotangents(graph, SEED)].concat();
    let by: Vec<String> = gradient_only
        .inputs
        .iter()
        .filter(|i| gradient_only.ty(i.value).dtype.is_float())
        .map(|i| i.name.clone())
        .collect();
    let by: Vec<&str> = by.iter().map(String::as_str).collect();
    let second = vjp_graph(&gradient_only, &by).map_err(text)?;
    let inputs = [inputs, case::cotangents(&gradient_only, SEED)].concat();
    measure_graph("output", &second, &inputs, runner)
}

fn made_of(plan: &Plan) -> &'static str {
    let kinds: Vec<RegionKind> = plan
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::Run { region, .. } => Some(region.kind),
            Step::Copy { .. } => None,
        })
        .collect();
    if plan.notes.iter().any(|n| matches!(n, Note::Inlined { .. })) {
        return "body";
    }
    if kinds.iter().any(|k| !matches!(k, RegionKind::Pointwise | RegionKind::Reduce)) {
        return "kernel";
    }
    // A copy makes a fetched result of a view.
    let works = |s: &Step| matches!(s, Step::Run { region, .. } if region.body.nodes.iter().any(|n| n.prim.is_pointwise()) || region.kind == RegionKind::Reduce);
    if plan.steps.iter().any(works) { "loop" } else { "view" }
}

/// A largest error as text: a fraction of the bound, or `-`.
fn fraction(error: Option<f64>) -> String {
    error.map_or("-".to_string(), |e| format!("{e:.2}"))
}

/// A row for people: with the measured errors (values and gradients; second derivatives), fallbacks and failures.
pub fn line(row: &Row) -> String {
    let mut text = format!("{:<24} {:>3} cases {:>3} differentiated", row.op, row.cases, row.differentiated);
    for cell in &row.cells {
        let made = cell.made_of.iter().copied().collect::<Vec<_>>().join("/");
        let _ = write!(text, " | {made:<12} {:>5} {:>5}", fraction(cell.error), fraction(cell.second));
    }
    for cell in &row.cells {
        for f in &cell.fallbacks {
            let _ = write!(text, "\n    on the CPU: {f}");
        }
        for f in &cell.failures {
            let _ = write!(text, "\n    FAIL {f}");
        }
    }
    text
}

/// The whole table in Markdown, without what changes from machine to machine.
pub fn markdown(rows: &[Row], devices: &[&str]) -> String {
    let mut text = String::from(
        "# What each operation is made of\n\nMade by `kiln check --support --markdown`; a test fails when it is stale. \
         Gradient: first and second derivatives, checked in f64 against differences and against the bodies of composites; \
         both on every backend, within the bounds of each element. `kernel`: hand-written; `loop`: made from the \
         expression, fused with its neighbours; `body`: a composite that runs as its primitives; `view`: no work.\n\n",
    );
    text.push_str(&summary(rows, devices));
    text.push('\n');
    let _ = writeln!(text, "| family | operation | cases | gradient | {} | on the CPU |", devices.join(" | "));
    let _ = writeln!(text, "|---|---|---|---|{}---|", "---|".repeat(devices.len()));
    for row in rows {
        let gradient = match row.differentiated {
            0 => "-",
            _ => "1st, 2nd",
        };
        let made: Vec<String> =
            row.cells.iter().map(|c| c.made_of.iter().copied().collect::<Vec<_>>().join(", ")).collect();
        let fallbacks: BTreeSet<&String> = row.cells.iter().flat_map(|c| &c.fallbacks).collect();
        let fallbacks: Vec<&str> = fallbacks.into_iter().map(String::as_str).collect();
        let fallbacks = if fallbacks.is_empty() { "never".to_string() } else { fallbacks.join("; ") };
        let (family, op, cases) = (row.family, &row.op, row.cases);
        let _ = writeln!(text, "| {family} | {op} | {cases} | {gradient} | {} | {fallbacks} |", made.join(" | "));
    }
    text
}

/// Counts per family in Markdown: operations, those with derivatives, and for each device those that have a kernel.
pub fn summary(rows: &[Row], devices: &[&str]) -> String {
    let mut text = format!("| family | operations | with gradients | {} | fall back |\n", devices.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}---|", "---|".repeat(devices.len()));
    let mut families: Vec<&str> = rows.iter().map(|r| r.family).collect();
    families.dedup();
    for family in families {
        let own: Vec<&Row> = rows.iter().filter(|r| r.family == family).collect();
        let differentiated = own.iter().filter(|r| r.differentiated > 0).count();
        let with = |d: usize, what: &str| own.iter().filter(|r| r.cells[d].made_of.contains(what)).count();
        let cell = |d: usize| {
            let parts = ["kernel", "loop", "view", "body", "definition"].map(|what| (with(d, what), what));
            let told: Vec<String> =
                parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
            told.join(", ")
        };
        let cells: Vec<String> = (0..devices.len()).map(cell).collect();
        let fallbacks = own.iter().filter(|r| r.cells.iter().any(|c| !c.fallbacks.is_empty())).count();
        let _ = writeln!(text, "| {family} | {} | {differentiated} | {} | {fallbacks} |", own.len(), cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(file: &str) -> String {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default()
    }

    #[test]
    fn the_committed_tables_are_current() {
        // The gate has an adapter; elsewhere there may be none, and then nothing can be said about it.
        let Ok(software) = Device::open("software") else { return };
        let devices = [Device::open("reference").unwrap(), Device::open("cpu").unwrap(), software];
        let rows = table(&devices, false, |_| ()).unwrap();
        assert!(
            rows.len() > 50 && rows.iter().all(|r| r.cells.iter().all(|c| !c.made_of.is_empty())),
            "{}",
            rows.len()
        );
        assert!(rows.iter().all(|r| r.cells.iter().all(|c| c.fallbacks.is_empty())), "something runs on the CPU");
        let document = markdown(&rows, &COMMITTED);
        let todo = "cargo run --release -- check --support --markdown > src/SUPPORT.md";
        assert!(document == committed("src/SUPPORT.md"), "src/SUPPORT.md is stale; {todo}\n{document}");
        let summary = summary(&rows, &COMMITTED);
        assert!(
            committed("README.md").contains(&summary),
            "README.md is stale; its table of families must be\n{summary}"
        );
    }
}
