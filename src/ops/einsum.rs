//! Einstein summation: any sum of products of tensors by index letters, as products of two operands from left to right.

use crate::error::{Error, Loc, Result};
use crate::ir::Tensor;
use std::panic::Location;

/// An index letter; the dimensions of `...` count from the right and get numbers that no letter has.
type Label = u32;

/// The first number of the dimensions of `...`.
const DOTS: Label = 1 << 24;

/// A tensor with a distinct label per dimension.
struct Operand {
    tensor: Tensor,
    labels: Vec<Label>,
}

impl Tensor {
    /// torch's `einsum`: `equation` as "ij,jk->ik", with `...`, repeated letters in an operand (diagonals), letters that
    /// only one operand has (sums), and without `->` the letters that occur once, in alphabetical order.
    #[track_caller]
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Tensor {
        let loc = Location::caller();
        match einsum(equation, operands, loc) {
            Ok(t) => t,
            Err(e) => operands[0].fail("einsum", format!("{equation:?}: {e}"), loc),
        }
    }
}

fn einsum(equation: &str, operands: &[&Tensor], loc: Loc) -> Result<Tensor> {
    let bad = |detail: String| Error::graph("einsum", detail, loc);
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != operands.len() {
        return Err(bad(format!("{} terms for {} operands", terms.len(), operands.len())));
    }
    let mut parsed = Vec::new();
    let mut dots = 0;
    for (term, tensor) in terms.iter().zip(operands) {
        let letters = term.chars().filter(|&c| c != '.').count();
        let extra = if term.contains("...") { tensor.rank().saturating_sub(letters) } else { 0 };
        dots = dots.max(extra);
        let labels = labels(term, extra);
        if labels.len() != tensor.rank() {
            return Err(bad(format!("term {term:?} does not fit {}", tensor.ty())));
        }
        parsed.push(diagonal(Operand { tensor: (*tensor).clone(), labels }));
    }
    let output = match right {
        Some(right) => labels(right, dots),
        None => {
            let mut once: Vec<char> =
                left.chars().filter(|&c| c.is_alphabetic() && left.matches(c).count() == 1).collect();
            once.sort_unstable();
            (0..dots).map(dot_label).rev().chain(once.into_iter().map(|c| c as Label)).collect()
        }
    };
    let mut rest = parsed.into_iter();
    let Some(mut acc) = rest.next() else { return Err(bad("no operand".into())) };
    let mut rest: Vec<Operand> = rest.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let needed = |l: &Label| output.contains(l) || rest.iter().any(|o| o.labels.contains(l));
        acc = product(acc, next, needed);
    }
    let acc = summed(acc, |l| output.contains(l));
    if let Some(l) = output.iter().find(|l| !acc.labels.contains(l)) {
        let name = char::from_u32(*l).map_or_else(|| "...".to_string(), String::from);
        return Err(bad(format!("the result names {name}, which no operand has")));
    }
    Ok(arranged(&acc, &output))
}

/// The label of the dimension of `...` that is `i`-th from the right.
fn dot_label(i: usize) -> Label {
    DOTS + i as Label
}

fn labels(term: &str, extra: usize) -> Vec<Label> {
    let mut out = Vec::new();
    let mut chars = term.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '.' {
            while chars.peek() == Some(&'.') {
                chars.next();
            }
            out.extend((0..extra).rev().map(dot_label));
        } else {
            out.push(c as Label);
        }
    }
    out
}

/// Takes the diagonal over each pair of dimensions with one label.
fn diagonal(mut o: Operand) -> Operand {
    while let Some((i, j)) = repeated(&o.labels) {
        let n = o.tensor.shape()[i];
        // Both dimensions last, merged: the diagonal is every (n+1)-th element.
        let mut order: Vec<isize> = (0..o.tensor.rank()).filter(|d| *d != i && *d != j).map(|d| d as isize).collect();
        let mut labels: Vec<Label> = order.iter().map(|&d| o.labels[d as usize]).collect();
        order.extend([i as isize, j as isize]);
        labels.push(o.labels[i]);
        let moved = o.tensor.permute(&order).flatten(-2, -1);
        o = Operand { tensor: moved.slice_axis(-1, 0, n, n + 1), labels };
    }
    o
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|j| labels[..j].iter().position(|l| *l == labels[j]).map(|i| (i, j)))
}

/// Sums over the dimensions that are not kept.
fn summed(o: Operand, keep: impl Fn(&Label) -> bool) -> Operand {
    let dims: Vec<isize> = (0..o.labels.len()).filter(|&d| !keep(&o.labels[d])).map(|d| d as isize).collect();
    if dims.is_empty() {
        return o;
    }
    Operand { tensor: o.tensor.sum(&dims, false), labels: o.labels.into_iter().filter(|l| keep(l)).collect() }
}

/// The dimensions in the order of `labels`, of size 1 where the operand has none.
fn arranged(o: &Operand, labels: &[Label]) -> Tensor {
    let at = |l: &Label| o.labels.iter().position(|m| m == l);
    let order: Vec<isize> = labels.iter().filter_map(|l| at(l).map(|d| d as isize)).collect();
    let shape: Vec<usize> = labels.iter().map(|l| at(l).map_or(1, |d| o.tensor.shape()[d])).collect();
    o.tensor.permute(&order).reshape(shape)
}

/// The product of two operands, summed over the labels of both that nothing else needs: one matrix product.
fn product(a: Operand, b: Operand, needed: impl Fn(&Label) -> bool) -> Operand {
    let a = summed(a, |l| needed(l) || b.labels.contains(l));
    let b = summed(b, |l| needed(l) || a.labels.contains(l));
    let both: Vec<Label> = a.labels.iter().filter(|l| b.labels.contains(l)).copied().collect();
    let (batch, inner): (Vec<Label>, Vec<Label>) = both.iter().partition(|l| needed(l));
    let rows: Vec<Label> = a.labels.iter().filter(|l| !both.contains(l)).copied().collect();
    let cols: Vec<Label> = b.labels.iter().filter(|l| !both.contains(l)).copied().collect();
    // Size of a label; where one operand has 1 it is repeated.
    let size = |l: &Label| {
        let of = |o: &Operand| o.labels.iter().position(|m| m == l).map_or(1, |d| o.tensor.shape()[d]);
        if of(&a) == 1 { of(&b) } else { of(&a) }
    };
    let sizes = |ls: &[Label]| ls.iter().map(size).collect::<Vec<usize>>();
    let total = |ls: &[Label]| ls.iter().map(size).product::<usize>();
    let matrix = |o: &Operand, first: &[Label], second: &[Label]| {
        let order = [&batch[..], first, second].concat();
        let flat = [sizes(&batch), vec![total(first), total(second)]].concat();
        arranged(o, &order).broadcast_to(sizes(&order)).reshape(flat)
    };
    let (m, n) = (matrix(&a, &rows, &inner), matrix(&b, &inner, &cols));
    let labels = [batch.clone(), rows.clone(), cols.clone()].concat();
    let tensor = if inner.is_empty() { m * n } else { m.matmul(&n) };
    Operand { tensor: tensor.reshape(sizes(&labels)), labels }
}
