//! Checks derivatives in f64 on the reference: against central differences along random directions, at orders 1 and 2,
//! and a composite's own `vjp` against the derivative of its body. f32 is no place for finite differences.
//!
//! The operation under test sits in the middle of a graph: its operands are twice what is fed, its results are
//! multiplied by random cotangents, so that a dropped factor or a wrong operand shows.

use super::case::{Case, arrays};
use crate::backend::reference::{Array, Precision, Values, eval};
use crate::error::{Error, Result};
use crate::grad::grad;
use crate::ir::{Builder, Graph, OutputKind, Prim, Tensor};
use crate::rng::Rng;

/// Step of the differences. With two steps extrapolated, truncation is of order STEP^4 = 1e-20 and rounding, 2^-53 / STEP,
/// about 1e-11 of the function's size. Small, so that few cases step over a kink.
const STEP: f64 = 1e-5;
/// Largest accepted error of a directional derivative, relative to the sizes of function and derivative: four orders
/// above the rounding of the differences, for functions whose fifth derivatives are large.
const DIFFERENCES: f64 = 1e-7;
/// Largest accepted difference of two exact derivatives, relative to the largest element: 2^-53 with room for
/// cancellation.
const IDENTITY: f64 = 1e-9;

/// The derivatives of a graph, as a problem with inputs `x` (floats), further operands, and cotangents.
struct Problem<'a> {
    graph: &'a Graph,
    /// Whether composites are replaced by their bodies before anything is differentiated.
    inlined: bool,
    /// Which outputs have a cotangent.
    outputs: &'a [usize],
}

/// What is computed: sum of output * cotangent; its gradient and `<gradient, u>`; the gradient of that.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Value,
    First,
    Second,
}

/// Appends `graph` with every composite replaced by its body.
pub fn inline_all(b: &Builder, graph: &Graph, args: &[Tensor]) -> Vec<Tensor> {
    let mut map: Vec<Vec<Tensor>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let operands: Vec<Tensor> = node.args.iter().map(|v| map[v.node.0 as usize][v.out as usize].clone()).collect();
        map.push(match &node.prim {
            Prim::Input { index } => vec![args[*index].clone()],
            Prim::Call(call) => inline_all(b, &call.body, &operands),
            prim => b.apply_at(prim.clone(), &operands.iter().collect::<Vec<_>>(), node.loc),
        });
    }
    graph.outputs.iter().map(|o| map[o.value.node.0 as usize][o.value.out as usize].clone()).collect()
}

impl Problem<'_> {
    /// Inputs: those of the graph, one cotangent per chosen output, one direction `u` per float input. Outputs: for
    /// `Value` the sum; for `First` `<gradient, u>` and the gradients; for `Second` the gradients of that by the float
    /// inputs and by the cotangents.
    fn build(&self, order: Order) -> Result<Graph> {
        let b = Builder::new();
        let fed: Vec<Tensor> = self
            .graph
            .inputs
            .iter()
            .map(|i| b.feed(i.name.clone(), self.graph.ty(i.value).dtype, self.graph.shape(i.value)))
            .collect();
        let operands: Vec<Tensor> =
            fed.iter().map(|t| if t.dtype().is_float() { t * 2.0 } else { t.clone() }).collect();
        let outs = if self.inlined { inline_all(&b, self.graph, &operands) } else { b.inline(self.graph, &operands) };
        let mut value = b.full([], 0.0);
        let mut cots = Vec::new();
        for &k in self.outputs {
            let c = b.feed(format!("c{k}"), outs[k].dtype(), outs[k].shape());
            // A row without any key has -inf as its log of sums: a constant, which must not swallow the rest.
            let finite = outs[k].is_finite().select(&outs[k], &outs[k].like(0.0));
            value = value + (finite * &c).sum(&[], false) * 2.0;
            cots.push(c);
        }
        let xs: Vec<&Tensor> = fed.iter().filter(|t| t.dtype().is_float()).collect();
        let us: Vec<Tensor> =
            xs.iter().enumerate().map(|(i, x)| b.feed(format!("u{i}"), x.dtype(), x.shape())).collect();
        let fetch = |name: &str, ts: &[Tensor]| {
            for (i, t) in ts.iter().enumerate() {
                b.output(format!("{name}{i}"), OutputKind::Fetch, t);
            }
        };
        if order == Order::Value {
            fetch("value", &[value]);
            return b.build();
        }
        let first = grad(&value, &xs);
        let along = first.iter().zip(&us).map(|(g, u)| (g * u).sum(&[], false));
        let slope = along.reduce(|a, b| a + b).unwrap_or_else(|| b.full([], 0.0));
        if order == Order::First {
            fetch("slope", &[slope]);
            fetch("first", &first);
            return b.build();
        }
        let all: Vec<&Tensor> = xs.into_iter().chain(&cots).collect();
        fetch("second", &grad(&slope, &all));
        b.build()
    }
}

/// Normal values of the shape of each type.
fn normals(rng: &mut Rng, shapes: &[&Array]) -> Vec<Array> {
    shapes.iter().map(|a| Array::floats(a.shape.clone(), (0..a.data.len()).map(|_| rng.normal()).collect())).collect()
}

fn dot(a: &[Array], b: &[Array]) -> f64 {
    a.iter().zip(b).flat_map(|(a, b)| a.as_floats().iter().zip(b.as_floats())).map(|(x, y)| x * y).sum()
}

/// `at + t * along`, over the arrays that are floats.
fn shifted(at: &[Array], along: &[Option<Array>], t: f64) -> Vec<Array> {
    let move_one = |(a, d): (&Array, &Option<Array>)| match d {
        Some(d) => {
            let sum = a.as_floats().iter().zip(d.as_floats()).map(|(x, v)| x + t * v).collect();
            Array::floats(a.shape.clone(), sum)
        }
        None => a.clone(),
    };
    at.iter().zip(along).map(move_one).collect()
}

/// The derivative of output 0 of `graph` at `inputs` along `along`: central differences, extrapolated (Richardson).
fn difference(graph: &Graph, inputs: &[Array], along: &[Option<Array>]) -> Result<f64> {
    let value = |t: f64| Ok::<f64, Error>(eval(graph, &shifted(inputs, along, t), Precision::F64)?[0].to_f64()[0]);
    let slope = |h: f64| Ok::<f64, Error>((value(h)? - value(-h)?) / (2.0 * h));
    Ok((4.0 * slope(STEP / 2.0)? - slope(STEP)?) / 3.0)
}

fn wrong(case: &str, what: &str, detail: String) -> Error {
    Error::runtime(format!("gradient of {case}"), format!("{what}: {detail}"))
}

fn agree(case: &str, what: &str, exact: f64, numeric: f64, scale: f64) -> Result<()> {
    let tolerance = DIFFERENCES * (1.0 + scale);
    if !((exact - numeric).abs() <= tolerance) {
        let detail = format!("{exact:e}, differences give {numeric:e} (tolerance {tolerance:e})");
        return Err(wrong(case, what, detail));
    }
    Ok(())
}

/// Checks a case at orders 1 and 2: every float output alone and all together, against differences, and (if it contains
/// composites) against the derivative of the bodies.
pub fn gradcheck(case: &Case, seed: u64) -> Result<()> {
    let graph = case.graph()?;
    let floats: Vec<usize> =
        (0..graph.outputs.len()).filter(|&k| graph.ty(graph.outputs[k].value).dtype.is_float()).collect();
    let mut choices: Vec<Vec<usize>> = floats.iter().map(|&k| vec![k]).collect();
    if floats.len() > 1 {
        choices.push(floats);
    }
    let composite = graph.nodes.iter().any(|n| matches!(n.prim, Prim::Call(_)));
    for outputs in &choices {
        let problem = Problem { graph: &graph, inlined: false, outputs };
        let name = format!("{} (outputs {outputs:?})", case.name);
        against_differences(&name, &problem, case, seed)?;
        if composite {
            against_body(&name, &problem, case, seed)?;
        }
    }
    Ok(())
}

/// Inputs of a problem: half of the drawn values, cotangents, directions.
fn feed(problem: &Problem, case: &Case, seed: u64) -> Vec<Array> {
    let mut inputs = arrays(&case.draw(seed));
    for a in &mut inputs {
        if let Values::F(v) = &mut a.data {
            v.iter_mut().for_each(|x| *x *= 0.5);
        }
    }
    let mut rng = Rng::named(seed, &format!("gradcheck/{}", case.name));
    let outs: Vec<Array> =
        problem.outputs.iter().map(|&k| Array::zeros(problem.graph.ty(problem.graph.outputs[k].value))).collect();
    let cots = normals(&mut rng, &outs.iter().collect::<Vec<_>>());
    let xs: Vec<&Array> = inputs.iter().filter(|a| matches!(a.data, Values::F(_))).collect();
    let us = normals(&mut rng, &xs);
    inputs.into_iter().chain(cots).chain(us).collect()
}

fn against_differences(name: &str, problem: &Problem, case: &Case, seed: u64) -> Result<()> {
    let inputs = feed(problem, case, seed);
    let (count, cots) = (problem.graph.inputs.len(), problem.outputs.len());
    let is_float = |a: &Array| matches!(a.data, Values::F(_));
    let value = problem.build(Order::Value)?;
    let first = problem.build(Order::First)?;
    let second = problem.build(Order::Second)?;
    let mut rng = Rng::named(seed, &format!("directions/{name}"));
    for _ in 0..2 {
        // Order 1: along a direction of the operands.
        let v = normals(&mut rng, &inputs[..count].iter().collect::<Vec<_>>());
        let along = |moves: &dyn Fn(usize) -> bool, v: &[Array]| -> Vec<Option<Array>> {
            (0..inputs.len()).map(|i| (moves(i) && is_float(&inputs[i])).then(|| v[i].clone())).collect()
        };
        let outs = eval(&first, &inputs, Precision::F64)?;
        let v1: Vec<Array> = (0..count).filter(|&i| is_float(&inputs[i])).map(|i| v[i].clone()).collect();
        let exact = dot(&outs[1..], &v1);
        let size = eval(&value, &inputs, Precision::F64)?[0].to_f64()[0].abs();
        let scale: f64 = outs[1..].iter().zip(&v1).map(|(g, v)| dot(&[absolute(g)], &[absolute(v)])).sum();
        let numeric = difference(&value, &inputs, &along(&|i| i < count, &v))?;
        agree(name, "order 1", exact, numeric, size + scale)?;
        // Order 2: of <gradient, u>, along a direction of the operands and the cotangents.
        let v = normals(&mut rng, &inputs[..count + cots].iter().collect::<Vec<_>>());
        let seconds = eval(&second, &inputs, Precision::F64)?;
        let v2: Vec<Array> = (0..count + cots).filter(|&i| is_float(&inputs[i])).map(|i| v[i].clone()).collect();
        let exact = dot(&seconds, &v2);
        let scale: f64 = seconds.iter().zip(&v2).map(|(g, v)| dot(&[absolute(g)], &[absolute(v)])).sum();
        let numeric = difference(&first, &inputs, &along(&|i| i < count + cots, &v))?;
        agree(name, "order 2", exact, numeric, outs[0].to_f64()[0].abs() + scale)?;
    }
    Ok(())
}

fn absolute(a: &Array) -> Array {
    Array::floats(a.shape.clone(), a.as_floats().iter().map(|x| x.abs()).collect())
}

/// A composite's own vjp against the derivative of its body, element by element, at orders 1 and 2.
fn against_body(name: &str, problem: &Problem, case: &Case, seed: u64) -> Result<()> {
    let inputs = feed(problem, case, seed);
    let body = Problem { inlined: true, ..*problem };
    for (order, what) in [(Order::First, "own vjp, order 1"), (Order::Second, "own vjp, order 2")] {
        let own = eval(&problem.build(order)?, &inputs, Precision::F64)?;
        let expected = eval(&body.build(order)?, &inputs, Precision::F64)?;
        for (k, (a, b)) in own.iter().zip(&expected).enumerate() {
            let scale = b.as_floats().iter().fold(1.0f64, |m, x| m.max(x.abs()));
            for (i, (x, y)) in a.as_floats().iter().zip(b.as_floats()).enumerate() {
                if !((x - y).abs() <= IDENTITY * scale) {
                    let detail = format!("result {k} element {i} is {x:e}, the body's derivative {y:e}");
                    return Err(wrong(name, what, detail));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::case::{Gen, SEED};
    use super::*;

    #[test]
    fn every_case_at_orders_one_and_two() {
        let mut failed = Vec::new();
        let cases: Vec<Case> = super::super::cases::all().into_iter().filter(|c| c.grad).collect();
        assert!(cases.len() > 100, "only {} cases are differentiated", cases.len());
        for case in &cases {
            if let Err(e) = gradcheck(case, SEED) {
                failed.push(e.to_string());
            }
        }
        assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    }

    #[test]
    fn a_derivative_that_is_not_there_is_found() {
        let detached = Case::one("detached", |t| (&t[0] * t[0].detach()).sum(&[], false));
        let e = gradcheck(&detached.f32([3], Gen::Normal(0.0, 1.0)), SEED).unwrap_err().to_string();
        assert!(e.contains("detached") && e.contains("order 1"), "{e}");
    }
}
