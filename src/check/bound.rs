//! The f64 reference of a graph together with, for each element, a bound on the error that a correct f32 evaluation
//! may have: the class of each primitive (`tolerance.rs`), propagated to first order through all nodes after it.
//!
//! A bound of infinity says that an element cannot be checked, because a comparison or rounding before it lies within
//! the error of its operands. The comparison counts such elements, so that a case cannot pass by checking nothing.

use super::bound_rules as rules;
use crate::backend::reference::{Array, Values, apply};
use crate::error::Result;
use crate::ir::{Graph, Node, Prim};
use std::rc::Rc;

/// A value in f64 with the error bound of each element.
#[derive(Debug, Clone)]
pub struct Approx {
    /// The reference, computed in f64 without rounding.
    pub value: Array,
    /// At most so far may an f32 evaluation be off. 0 where integers and booleans are certain, infinity where not.
    pub error: Vec<f64>,
}

impl Approx {
    /// An exact value.
    pub fn exact(value: Array) -> Approx {
        let error = vec![0.0; value.data.len()];
        Approx { value, error }
    }
    /// The errors as an array of the value's shape.
    pub(super) fn errors(&self) -> Array {
        Array::floats(self.value.shape.clone(), self.error.clone())
    }
}

/// Reference and bounds of all outputs of `graph`. The inputs count as exact.
pub fn evaluate(graph: &Graph, inputs: &[Array]) -> Result<Vec<Approx>> {
    let inputs = inputs.iter().map(|a| Rc::new(Approx::exact(a.clone()))).collect();
    Ok(run(graph, inputs)?.iter().map(|a| (**a).clone()).collect())
}

fn run(graph: &Graph, inputs: Vec<Rc<Approx>>) -> Result<Vec<Rc<Approx>>> {
    let mut values: Vec<Vec<Rc<Approx>>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let args: Vec<Rc<Approx>> =
            node.args.iter().map(|v| values[v.node.0 as usize][v.out as usize].clone()).collect();
        values.push(match &node.prim {
            Prim::Input { index } => vec![inputs[*index].clone()],
            Prim::Call(call) => run(&call.body, args)?,
            _ => {
                let args: Vec<&Approx> = args.iter().map(|a| &**a).collect();
                step(node, &args)?.into_iter().map(Rc::new).collect()
            }
        });
    }
    Ok(graph.outputs.iter().map(|o| values[o.value.node.0 as usize][o.value.out as usize].clone()).collect())
}

/// One node: its value by the reference, its error by the rule of the primitive.
fn step(node: &Node, args: &[&Approx]) -> Result<Vec<Approx>> {
    let plain: Vec<&Array> = args.iter().map(|a| &a.value).collect();
    let mut outs = apply(node, &plain)?;
    for out in &mut outs {
        overflow_as_f32(out);
    }
    let errors = rules::errors(node, args, &outs)?;
    let settle = |(value, error): (Array, Vec<f64>)| {
        let error = error.into_iter().map(|e| if e.is_nan() { f64::INFINITY } else { e }).collect();
        Approx { value, error }
    };
    Ok(outs.into_iter().zip(errors).map(settle).collect())
}

/// What is infinite in f32 is infinite in the reference.
fn overflow_as_f32(a: &mut Array) {
    if let Values::F(v) = &mut a.data {
        for x in v.iter_mut().filter(|x| (**x as f32).is_infinite()) {
            *x = f64::from(*x as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::reference::{Precision, eval};
    use crate::dtype::DType;
    use crate::ir::{Builder, OutputKind, Tensor};
    use crate::rng::Rng;

    fn bounds(n: usize, f: impl Fn(&Tensor) -> Tensor, data: &[f64]) -> (Vec<Approx>, Vec<f64>) {
        let b = Builder::new();
        let x = b.feed("x", DType::F32, [n]);
        b.output("y", OutputKind::Fetch, &f(&x));
        let g = b.build().unwrap();
        let data = data.iter().map(|&x| f64::from(x as f32)).collect();
        let inputs = [Array::floats([n], data)];
        (evaluate(&g, &inputs).unwrap(), eval(&g, &inputs, Precision::F32).unwrap()[0].to_f64())
    }

    #[test]
    fn f32_evaluation_stays_inside_and_the_bound_is_not_idle() {
        let mut rng = Rng::named(1, "bound");
        let data: Vec<f64> = (0..65).map(|_| rng.normal()).collect();
        let f = |x: &Tensor| {
            let e = (x - x.amax(&[], true)).exp();
            let p = &e / e.sum(&[], true);
            (&p * x).tanh() + p.sqrt().log1p()
        };
        let (approx, rounded) = bounds(65, f, &data);
        for (i, (&r, &y)) in approx[0].value.as_floats().iter().zip(&rounded).enumerate() {
            let e = approx[0].error[i];
            assert!((y - r).abs() <= e, "element {i}: {y} against {r}, bound {e}");
            assert!(e <= 1e-4 * (1.0 + r.abs()), "element {i}: the bound {e} of {r} is idle");
        }
    }

    #[test]
    fn undecided_comparisons_are_unchecked_and_infinities_certain() {
        let third = |x: &Tensor| {
            let y = x / 3.0;
            y.lt(&y.like(1.0 / 3.0 + 1e-9)).cast(DType::F32)
        };
        assert_eq!(bounds(2, third, &[1.0, 2.0]).0[0].error, [f64::INFINITY, 0.0]);
        let (log, _) = bounds(2, |x| x.log(), &[0.0, 1.0]);
        assert_eq!(log[0].value.as_floats()[0], f64::NEG_INFINITY);
        assert_eq!(log[0].error[0], 0.0);
        let (masked, _) = bounds(2, |x| (x.log() - 1.0 / 3.0).exp(), &[0.0, 1.0]);
        assert!(masked[0].error[0] < 1e-30);
        let (wide, _) = bounds(1, |x| x.exp(), &[100.0]);
        assert_eq!((wide[0].value.as_floats()[0], wide[0].error[0]), (f64::INFINITY, 0.0));
    }
}
