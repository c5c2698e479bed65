//! One layer and direction of a recurrent network over the whole sequence, as a composite: the projection of the inputs
//! is given for all steps, each step is one product and one pointwise cell, and the derivative with respect to the
//! recurrent weight is one product over all steps together. There is no loop primitive; the steps are unrolled.
//!
//! There is no hand-written kernel for a cell either: the planner makes one pointwise region of it, with all its results
//! (an epilogue of the product, for plain cells), so that a step is one product and one cell, and the same again backward,
//! where the region writes the gradients of the gates side by side for the product. `tests/device/recurrence.rs` counts.

use crate::ir::{Builder, Tensor};
use crate::ops::{Composite, VjpArgs};
use std::any::Any;
use std::panic::Location;

/// What a step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// `h' = tanh(x + W h)`
    Tanh,
    /// `h' = relu(x + W h)`
    Relu,
    /// With i, f, g, o the quarters of `x + W h`: `c' = sigmoid(f) c + sigmoid(i) tanh(g)`, `h' = sigmoid(o) tanh(c')`.
    Lstm,
    /// With r, z, n the thirds of `x` and of `u = W h + b`: `r = sigmoid(x_r + u_r)`, `z = sigmoid(x_z + u_z)`,
    /// `n = tanh(x_n + r u_n)`, `h' = (1 - z) n + z h`.
    Gru,
}

impl Cell {
    /// Number of blocks of `H` rows in the weights.
    pub fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// A recurrence over `x[T,B,G*H]`, the projected inputs with their biases (T >= 1):
///
/// | cell | further arguments | results |
/// |---|---|---|
/// | tanh, relu | `w[H,H], h0[B,H]` | `out[T,B,H], h_n[B,H]` |
/// | lstm | `w[4H,P], h0[B,P], c0[B,H]`, optionally `proj[P,H]` | `out[T,B,P], h_n[B,P], c_n[B,H]`, and `c[T,B,H], z[T,B,4H]` |
/// | gru | `w[3H,H], h0[B,H], b[3H]` | `out[T,B,H], h_n[B,H]`, and `u[T,B,3H]` |
///
/// Without `proj` P is H; with it `h' = proj (sigmoid(o) tanh(c'))`. The results after "and" are kept for the derivative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    /// What a step computes.
    pub cell: Cell,
    /// From the last position to the first. Results stay in the order of the inputs.
    pub reverse: bool,
}

impl Composite for Recurrence {
    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Tanh => "rnn_tanh",
            Cell::Relu => "rnn_relu",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }
    fn attrs(&self) -> String {
        format!("reverse={}", self.reverse)
    }
    fn outputs(&self) -> usize {
        match self.cell {
            Cell::Tanh | Cell::Relu => 2,
            Cell::Lstm => 5,
            Cell::Gru => 3,
        }
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        if let Err(detail) = self.check(args) {
            let bad = args[0].fail(self.name(), detail, Location::caller());
            return vec![bad; self.outputs()];
        }
        match self.cell {
            Cell::Tanh | Cell::Relu => self.simple(args),
            Cell::Lstm => self.lstm(args),
            Cell::Gru => self.gru(args),
        }
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        // Residuals get cotangents in second derivatives only.
        let main = if self.cell == Cell::Lstm { 3 } else { 2 };
        if v.cotangents[main..].iter().any(Option::is_some) {
            return None;
        }
        Some(match self.cell {
            Cell::Tanh | Cell::Relu => self.simple_grad(v),
            Cell::Lstm => self.lstm_grad(v),
            Cell::Gru => self.gru_grad(v),
        })
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Recurrence {
    fn check(&self, args: &[Tensor]) -> Result<(), String> {
        let counts = match self.cell {
            Cell::Tanh | Cell::Relu => 3..=3,
            Cell::Lstm => 4..=5,
            Cell::Gru => 4..=4,
        };
        let types = || args.iter().map(|t| t.ty().to_string()).collect::<Vec<_>>().join(", ");
        if !counts.contains(&args.len()) || args[0].rank() != 3 || args[1].rank() != 2 {
            return Err(format!("needs {counts:?} operands, the first two of ranks 3 and 2, got {}", types()));
        }
        let (x, gates) = (&args[0], self.cell.gates());
        let (b, h, p) = (x.size(1), x.size(2) / gates, args[1].size(1));
        let mut expected = vec![vec![x.size(0), b, gates * h], vec![gates * h, p], vec![b, p]];
        match self.cell {
            Cell::Tanh | Cell::Relu => {}
            Cell::Lstm => expected.extend([vec![b, h], vec![p, h]].into_iter().take(args.len() - 3)),
            Cell::Gru => expected.push(vec![gates * h]),
        }
        let projected = self.cell == Cell::Lstm && args.len() == 5;
        let fits = args.iter().zip(&expected).all(|(t, shape)| t.shape()[..] == shape[..]);
        match (fits && (projected || p == h), x.size(0)) {
            (true, 1..) => Ok(()),
            (true, 0) => Err("needs a sequence of at least one step".into()),
            (false, _) => Err(format!("operands {} do not fit, expected shapes {expected:?}", types())),
        }
    }

    /// The positions in the order of the steps.
    fn order(&self, x: &Tensor) -> Vec<usize> {
        let steps = 0..x.size(0);
        if self.reverse { steps.rev().collect() } else { steps.collect() }
    }

    /// What the steps gave, in their order, as one tensor in the order of the positions.
    fn gather(&self, mut steps: Vec<Tensor>) -> Tensor {
        if self.reverse {
            steps.reverse();
        }
        Tensor::stack(&steps.iter().collect::<Vec<_>>(), 0)
    }

    /// For each position the state before its step, given those after the steps.
    fn before(&self, all: &Tensor, first: &Tensor) -> Tensor {
        let (first, kept) = (first.unsqueeze(0), all.size(0) - 1);
        match (kept, self.reverse) {
            (0, _) => first,
            (_, false) => Tensor::cat(&[&first, &all.narrow(0, 0, kept)], 0),
            (_, true) => Tensor::cat(&[&all.narrow(0, 1, kept), &first], 0),
        }
    }

    fn simple(&self, args: &[Tensor]) -> Vec<Tensor> {
        let (x, w, mut h) = (&args[0], args[1].t(), args[2].clone());
        let mut out = Vec::new();
        for t in self.order(x) {
            let z = at(x, t) + h.matmul(&w);
            h = if self.cell == Cell::Tanh { z.tanh() } else { z.relu() };
            out.push(h.clone());
        }
        vec![self.gather(out), h]
    }

    fn lstm(&self, args: &[Tensor]) -> Vec<Tensor> {
        let (x, w, proj) = (&args[0], args[1].t(), args.get(4).map(Tensor::t));
        let (mut h, mut c) = (args[2].clone(), args[3].clone());
        let (mut out, mut cells, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for t in self.order(x) {
            let z = at(x, t) + h.matmul(&w);
            let [i, f, g, o] = lstm_gates(&z);
            c = f * &c + i * g;
            h = o * c.tanh();
            if let Some(proj) = &proj {
                h = h.matmul(proj);
            }
            out.push(h.clone());
            cells.push(c.clone());
            sums.push(z);
        }
        vec![self.gather(out), h, c, self.gather(cells), self.gather(sums)]
    }

    fn gru(&self, args: &[Tensor]) -> Vec<Tensor> {
        let (x, w, mut h) = (&args[0], args[1].t(), args[2].clone());
        let (mut out, mut products) = (Vec::new(), Vec::new());
        for t in self.order(x) {
            let u = h.matmul(&w) + &args[3];
            let [_, z, n] = gru_gates(&at(x, t), &u);
            h = (1.0 - &z) * n + z * h;
            out.push(h.clone());
            products.push(u);
        }
        vec![self.gather(out), h, self.gather(products)]
    }

    /// With z = x + W h: dz = f'(z) dh', dx = dz, dh = W^T dz, dW = sum over steps and batch of dz h^T.
    fn simple_grad(&self, v: &VjpArgs) -> Vec<Option<Tensor>> {
        let (w, h0, out) = (&v.args[1], &v.args[2], &v.outs[0]);
        let mut dh = v.cotangents[1].clone();
        let mut dx = Vec::new();
        for t in self.order(out).into_iter().rev() {
            let (h, g) = (at(out, t), arriving(v, &dh, t));
            // The derivatives in terms of the result: 1 - tanh^2, and 1 where relu is positive.
            let dz = if self.cell == Cell::Tanh {
                g * (1.0 - h.square())
            } else {
                h.gt(&h.like(0.0)).select(&g, &g.like(0.0))
            };
            dh = Some(dz.matmul(w));
            dx.push(dz);
        }
        let dx = self.gather_back(dx);
        let dw = over_steps(&dx, &self.before(out, h0));
        vec![Some(dx), Some(dw), dh]
    }

    /// With s the logistic function, y its value: s' = y (1 - y), and tanh' = 1 - y^2. For h' = o tanh(c'):
    /// dc' += dh' o tanh'(c'), then di = dc' g, df = dc' c, dg = dc' i, do = dh' tanh(c'), dc = dc' f.
    fn lstm_grad(&self, v: &VjpArgs) -> Vec<Option<Tensor>> {
        let (w, h0, c0, proj) = (&v.args[1], &v.args[2], &v.args[3], v.args.get(4));
        let (out, cells, sums) = (&v.outs[0], &v.outs[3], &v.outs[4]);
        let (mut dh, mut dc) = (v.cotangents[1].clone(), v.cotangents[2].clone());
        let (mut dx, mut dhs) = (Vec::new(), Vec::new());
        let order = self.order(out);
        for (step, &t) in order.iter().enumerate().rev() {
            let [i, f, g, o] = lstm_gates(&at(sums, t));
            let before = step.checked_sub(1).map_or_else(|| c0.clone(), |s| at(cells, order[s]));
            let th = at(cells, t).tanh();
            let arrived = arriving(v, &dh, t);
            let dq = proj.map_or_else(|| arrived.clone(), |p| arrived.matmul(p));
            let through = &dq * &o * (1.0 - th.square());
            let dct = match &dc {
                Some(dc) => dc + through,
                None => through,
            };
            let logistic = |y: &Tensor| y * (1.0 - y);
            let dz = [
                &dct * &g * logistic(&i),
                &dct * before * logistic(&f),
                &dct * &i * (1.0 - g.square()),
                dq * th * logistic(&o),
            ];
            let dz = Tensor::cat(&dz.iter().collect::<Vec<_>>(), 1);
            dc = Some(dct * f);
            dh = Some(dz.matmul(w));
            dx.push(dz);
            dhs.push(arrived);
        }
        let dx = self.gather_back(dx);
        let dw = over_steps(&dx, &self.before(out, h0));
        let mut grads = vec![Some(dx), Some(dw), dh, dc];
        if proj.is_some() {
            let n = cells.size(2);
            let raw = sums.narrow(2, 3 * n, n).sigmoid() * cells.tanh();
            grads.push(Some(over_steps(&self.gather_back(dhs), &raw)));
        }
        grads
    }

    /// dn = dh' (1 - z) tanh'(n), dz = dh' (h - n) s'(z), dr = dn u_n s'(r); to u go dr, dz, dn r, and dh also gets dh' z.
    fn gru_grad(&self, v: &VjpArgs) -> Vec<Option<Tensor>> {
        let (x, w, h0) = (&v.args[0], &v.args[1], &v.args[2]);
        let (out, products) = (&v.outs[0], &v.outs[2]);
        let mut dh = v.cotangents[1].clone();
        let (mut dx, mut du) = (Vec::new(), Vec::new());
        let order = self.order(out);
        for (step, &t) in order.iter().enumerate().rev() {
            let u = at(products, t);
            let [r, z, n] = gru_gates(&at(x, t), &u);
            let before = step.checked_sub(1).map_or_else(|| h0.clone(), |s| at(out, order[s]));
            let g = arriving(v, &dh, t);
            let dn = &g * (1.0 - &z) * (1.0 - n.square());
            let dz = &g * (before - &n) * &z * (1.0 - &z);
            let dr = &dn * part(&u, 2, 3) * &r * (1.0 - &r);
            let dut = Tensor::cat(&[&dr, &dz, &(&dn * r)], 1);
            dx.push(Tensor::cat(&[&dr, &dz, &dn], 1));
            dh = Some(g * z + dut.matmul(w));
            du.push(dut);
        }
        let (dx, du) = (self.gather_back(dx), self.gather_back(du));
        let dw = over_steps(&du, &self.before(out, h0));
        vec![Some(dx), Some(dw), dh, Some(du.sum(&[0, 1], false))]
    }

    /// As [`Recurrence::gather`], of what the backward sweep gave: the last step first.
    fn gather_back(&self, mut steps: Vec<Tensor>) -> Tensor {
        steps.reverse();
        self.gather(steps)
    }
}

/// `[B, ..]` at position t of `[T, B, ..]`.
fn at(x: &Tensor, t: usize) -> Tensor {
    x.narrow(0, t, 1).reshape(x.shape()[1..].to_vec())
}

/// Block `i` of `of` equal ones in the columns of a matrix.
fn part(x: &Tensor, i: usize, of: usize) -> Tensor {
    let n = x.size(1) / of;
    x.narrow(1, i * n, n)
}

fn lstm_gates(z: &Tensor) -> [Tensor; 4] {
    [part(z, 0, 4).sigmoid(), part(z, 1, 4).sigmoid(), part(z, 2, 4).tanh(), part(z, 3, 4).sigmoid()]
}

fn gru_gates(x: &Tensor, u: &Tensor) -> [Tensor; 3] {
    let r = (part(x, 0, 3) + part(u, 0, 3)).sigmoid();
    let z = (part(x, 1, 3) + part(u, 1, 3)).sigmoid();
    let n = (part(x, 2, 3) + &r * part(u, 2, 3)).tanh();
    [r, z, n]
}

/// The cotangent of the state after position t: from the later steps and from the output there.
fn arriving(v: &VjpArgs, later: &Option<Tensor>, t: usize) -> Tensor {
    let here = v.cotangents[0].as_ref().map(|g| at(g, t));
    match (here, later) {
        (Some(g), Some(later)) => g + later,
        (Some(g), None) => g,
        (None, Some(later)) => later.clone(),
        // Only the last step of an LSTM of which nothing but c_n is used.
        (None, None) => v.outs[1].like(0.0),
    }
}

/// `sum over t, b of g[t,b,:] h[t,b,:]^T`: one product.
fn over_steps(g: &Tensor, h: &Tensor) -> Tensor {
    let rows = g.size(0) * g.size(1);
    g.reshape([rows, g.size(2)]).t().matmul(&h.reshape([rows, h.size(2)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::reference::{Array, Precision, eval};
    use crate::dtype::DType;
    use crate::grad::{grad, vjp};
    use crate::ir::OutputKind;

    const ALL: [Cell; 4] = [Cell::Tanh, Cell::Relu, Cell::Lstm, Cell::Gru];

    /// T = 3, B = 2, H = 3; P = 2 with a projection.
    fn shapes(cell: Cell, proj: bool) -> Vec<Vec<usize>> {
        let (rows, p) = (3 * cell.gates(), if proj { 2 } else { 3 });
        let mut shapes = vec![vec![3, 2, rows], vec![rows, p], vec![2, p]];
        match cell {
            Cell::Tanh | Cell::Relu => {}
            Cell::Lstm => shapes.extend([vec![2, 3], vec![p, 3]].into_iter().take(1 + usize::from(proj))),
            Cell::Gru => shapes.push(vec![rows]),
        }
        shapes
    }

    fn numbers(seed: usize, n: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 7 + seed * 13) as f64 * 0.61 + 0.2).sin() * 0.9).collect()
    }

    /// First derivatives, and those of their product with fixed numbers, by all arguments; `used`: which main results
    /// enter the loss.
    fn derivatives(r: &Recurrence, proj: bool, own: bool, used: &[bool]) -> Vec<Vec<f64>> {
        let b = Builder::new();
        let shapes = shapes(r.cell, proj);
        let args: Vec<Tensor> =
            shapes.iter().enumerate().map(|(i, s)| b.feed(format!("{i}"), DType::F32, s.clone())).collect();
        let refs: Vec<&Tensor> = args.iter().collect();
        let outs = if own { b.call(r.clone(), &refs) } else { r.body(&b, &args) };
        let mut arrays: Vec<Array> =
            shapes.iter().enumerate().map(|(i, s)| Array::floats(s.clone(), numbers(i, s.iter().product()))).collect();
        let mut feed = |name: String, t: &Tensor| {
            let n = arrays.len() + 3;
            arrays.push(Array::floats(t.shape().clone(), numbers(n, t.elems())));
            b.feed(name, DType::F32, t.shape().clone())
        };
        let cots: Vec<Option<Tensor>> = outs
            .iter()
            .enumerate()
            .map(|(i, t)| used.get(i).is_some_and(|&u| u).then(|| feed(format!("cot{i}"), t)))
            .collect();
        let first: Vec<Tensor> =
            vjp(&outs, &cots, &refs).into_iter().zip(&args).map(|(g, a)| g.unwrap_or_else(|| a.like(0.0))).collect();
        let slope = first.iter().enumerate().map(|(i, g)| (g * feed(format!("v{i}"), g)).sum(&[], false));
        let slope = slope.reduce(|a, b| a + b).unwrap();
        for (i, g) in outs.iter().chain(&first).chain(&grad(&slope, &refs)).enumerate() {
            b.output(format!("o{i}"), OutputKind::Fetch, g);
        }
        eval(&b.build().unwrap(), &arrays, Precision::F64).unwrap().iter().map(Array::to_f64).collect()
    }

    #[test]
    fn derivatives_are_those_of_the_body_at_orders_one_and_two() {
        for cell in ALL {
            for (reverse, proj) in [(false, false), (true, false), (false, true), (true, true)] {
                if proj && cell != Cell::Lstm {
                    continue;
                }
                let r = Recurrence { cell, reverse };
                let uses: &[&[bool]] = &[&[true, true, true], &[true], &[false, true], &[false, false, true]];
                for used in &uses[..if cell == Cell::Lstm { 4 } else { 3 }] {
                    // The third of the main results is the LSTM's alone.
                    let used = if cell == Cell::Lstm { used } else { &used[..used.len().min(2)] };
                    let (own, body) = (derivatives(&r, proj, true, used), derivatives(&r, proj, false, used));
                    assert_eq!(own.len(), body.len());
                    for (k, (a, b)) in own.iter().zip(&body).enumerate() {
                        for (x, y) in a.iter().zip(b) {
                            // Sums of some hundred terms of size 1 in f64.
                            assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{r:?} {used:?}: {k}: {x} and {y}");
                        }
                    }
                }
            }
        }
    }

    /// The recurrent weight gets its gradient from one product, not from one per step.
    #[test]
    fn the_weight_gradient_is_one_product() {
        for cell in ALL {
            let b = Builder::new();
            let shapes = shapes(cell, false);
            let args: Vec<Tensor> =
                shapes.iter().enumerate().map(|(i, s)| b.feed(format!("{i}"), DType::F32, s.clone())).collect();
            let outs = b.call(Recurrence { cell, reverse: false }, &args.iter().collect::<Vec<_>>());
            let before = b.len();
            grad(&outs[0].sum(&[], false), &[&args[1]]);
            let products = (before..b.len())
                .map(|n| b.node(crate::ir::NodeId(n as u32)))
                .filter(|node| matches!(node.prim, crate::ir::Prim::Dot))
                .count();
            // One per step to the state before it, and one for the weight.
            assert_eq!(products, 3 + 1, "{cell:?}");
        }
    }

    #[test]
    fn misfits_are_named() {
        let b = Builder::new();
        let (x, w, h) =
            (b.feed("x", DType::F32, [3, 2, 4]), b.feed("w", DType::F32, [4, 4]), b.feed("h", DType::F32, [2, 5]));
        b.call(Recurrence { cell: Cell::Tanh, reverse: false }, &[&x, &w, &h]);
        let e = b.build().unwrap_err().to_string();
        assert!(e.contains("rnn_tanh") && e.contains("f32[2, 5]") || e.contains("f32[2,5]"), "{e}");
    }
}
