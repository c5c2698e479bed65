//! Recurrent networks with torch's parameters, options and results: [`Rnn`], [`Lstm`], [`Gru`]. Layers and directions are
//! put together here; the recurrence itself is a composite of [`crate::ops::rnn`].

use crate::ir::Tensor;
use crate::nn::linear::{affine, place};
use crate::nn::{Dropout, Init, Module, Scope};
use crate::ops::rnn::{Cell, Recurrence};
use std::panic::Location;

/// What [`Rnn`], [`Lstm`] and [`Gru`] have in common. Inputs are (T, B, I), with `batch_first` (B, T, I), or (T, I)
/// without a batch. Parameters of layer k: `weight_ih_lk` (G*H, I), `weight_hh_lk` (G*H, H), `bias_ih_lk`, `bias_hh_lk`
/// (G*H), G the number of gates; those of the backward direction end in `_reverse`. All start uniform within 1/sqrt(H).
/// States are (layers * directions, B, H): layer 0 forward, layer 0 backward, layer 1 forward, ..
#[derive(Debug, Clone, PartialEq)]
pub struct RnnConfig {
    /// I, the width of the inputs.
    pub input_size: usize,
    /// H, the width of the state.
    pub hidden_size: usize,
    /// Layers, each running over the results of the one before.
    pub num_layers: usize,
    /// Whether there are biases.
    pub bias: bool,
    /// (B, T, I) instead of torch's default (T, B, I). States stay as they are.
    pub batch_first: bool,
    /// Runs over the sequence in both directions and joins the results along the last dimension, forward first.
    pub bidirectional: bool,
    /// Probability with which a result of a layer, not the last, is dropped in training.
    pub dropout: f64,
}

impl RnnConfig {
    /// One layer with biases, forward, sequence first.
    pub fn new(input_size: usize, hidden_size: usize) -> RnnConfig {
        RnnConfig {
            input_size,
            hidden_size,
            num_layers: 1,
            bias: true,
            batch_first: false,
            bidirectional: false,
            dropout: 0.0,
        }
    }
    /// The same with this many layers.
    pub fn layers(mut self, num_layers: usize) -> RnnConfig {
        self.num_layers = num_layers;
        self
    }
    /// The same for inputs (B, T, I).
    pub fn batch_first(mut self) -> RnnConfig {
        self.batch_first = true;
        self
    }
    /// The same in both directions.
    pub fn bidirectional(mut self) -> RnnConfig {
        self.bidirectional = true;
        self
    }
}

/// `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or with relu.
#[derive(Debug, Clone, PartialEq)]
pub struct Rnn {
    /// Sizes and options.
    pub config: RnnConfig,
    /// relu instead of tanh.
    pub relu: bool,
}

/// Gates i, f, g, o: `c' = f c + i g`, `h' = o tanh(c')`. With `proj_size` P > 0 the state `h` is `W_hr h'`, of width P,
/// with the further parameter `weight_hr_lk` (P, H), and `weight_hh_lk` is (4H, P).
#[derive(Debug, Clone, PartialEq)]
pub struct Lstm {
    /// Sizes and options.
    pub config: RnnConfig,
    /// Width to which the state is projected; 0: not at all.
    pub proj_size: usize,
}

/// Gates r, z, n: `n = tanh(W_in x + b_in + r (W_hn h + b_hn))`, `h' = (1 - z) n + z h`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gru {
    /// Sizes and options.
    pub config: RnnConfig,
}

impl Rnn {
    /// With tanh.
    pub fn new(config: RnnConfig) -> Rnn {
        Rnn { config, relu: false }
    }
    /// With relu.
    pub fn relu(config: RnnConfig) -> Rnn {
        Rnn { config, relu: true }
    }
    /// All results and the last states, starting from `h_0` (zeros if absent).
    #[track_caller]
    pub fn run(&self, scope: &Scope, x: &Tensor, h_0: Option<&Tensor>) -> (Tensor, Tensor) {
        let cell = if self.relu { Cell::Relu } else { Cell::Tanh };
        let (out, h_n, _) = run(&self.config, cell, 0, scope, x, h_0, None);
        (out, h_n)
    }
}

impl Lstm {
    /// Without projection.
    pub fn new(config: RnnConfig) -> Lstm {
        Lstm { config, proj_size: 0 }
    }
    /// All results and the last states `h_n`, `c_n`, starting from `h_0` and `c_0` (zeros if absent).
    #[track_caller]
    pub fn run(
        &self,
        scope: &Scope,
        x: &Tensor,
        h_0: Option<&Tensor>,
        c_0: Option<&Tensor>,
    ) -> (Tensor, Tensor, Tensor) {
        run(&self.config, Cell::Lstm, self.proj_size, scope, x, h_0, c_0)
    }
}

impl Gru {
    /// A GRU.
    pub fn new(config: RnnConfig) -> Gru {
        Gru { config }
    }
    /// All results and the last states, starting from `h_0` (zeros if absent).
    #[track_caller]
    pub fn run(&self, scope: &Scope, x: &Tensor, h_0: Option<&Tensor>) -> (Tensor, Tensor) {
        let (out, h_n, _) = run(&self.config, Cell::Gru, 0, scope, x, h_0, None);
        (out, h_n)
    }
}

/// From zero states; the results of all steps.
impl Module for Rnn {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.run(scope, x, None).0
    }
}

/// From zero states; the results of all steps.
impl Module for Lstm {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.run(scope, x, None, None).0
    }
}

/// From zero states; the results of all steps.
impl Module for Gru {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.run(scope, x, None).0
    }
}

/// Results, last states, last cells (of an LSTM; else a copy of the states).
#[track_caller]
fn run(
    config: &RnnConfig,
    cell: Cell,
    proj_size: usize,
    scope: &Scope,
    x: &Tensor,
    h_0: Option<&Tensor>,
    c_0: Option<&Tensor>,
) -> (Tensor, Tensor, Tensor) {
    let loc = Location::caller();
    let op = match cell {
        Cell::Tanh | Cell::Relu => "rnn",
        Cell::Lstm => "lstm",
        Cell::Gru => "gru",
    };
    let fail = |detail: String| {
        let bad = x.fail(op, format!("{}: {detail}", place(scope)), loc);
        (bad.clone(), bad.clone(), bad)
    };
    let (i, h) = (config.input_size, config.hidden_size);
    let batched = x.rank() == 3;
    if !(batched || x.rank() == 2) || x.size(-1) != i {
        let expected = if config.batch_first { "(B, T, I)" } else { "(T, B, I)" };
        return fail(format!("expects {expected} or (T, I) with I = {i}, got {}", x.ty()));
    }
    if h == 0 || config.num_layers == 0 || proj_size >= h {
        let detail =
            format!("hidden_size {h}, num_layers {}, proj_size {proj_size} make no network", config.num_layers);
        return fail(format!("{detail}; the first two must be positive and the projection smaller than the state"));
    }
    // (T, B, I) from here on.
    let mut x = match (batched, config.batch_first) {
        (false, _) => x.unsqueeze(1),
        (true, true) => x.transpose(0, 1),
        (true, false) => x.clone(),
    };
    let (directions, b) = (if config.bidirectional { 2 } else { 1 }, x.size(1));
    let (states, p) = (config.num_layers * directions, if proj_size > 0 { proj_size } else { h });
    for (name, given, width) in [("h_0", h_0, p), ("c_0", c_0, h)] {
        let shape = if batched { vec![states, b, width] } else { vec![states, width] };
        if let Some(t) = given.filter(|t| t.shape()[..] != shape[..]) {
            return fail(format!("expects {name} of shape {shape:?}, got {}", t.ty()));
        }
    }
    let initial = |given: Option<&Tensor>, k: usize, width: usize| match given {
        Some(t) => t.narrow(0, k, 1).reshape([b, width]),
        None => x.builder().full([b, width], 0.0),
    };
    let first: Vec<[Tensor; 2]> = (0..states).map(|k| [initial(h_0, k, p), initial(c_0, k, h)]).collect();
    let (mut h_n, mut c_n) = (Vec::new(), Vec::new());
    for layer in 0..config.num_layers {
        let mut outs = Vec::new();
        for direction in 0..directions {
            let suffix = format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" });
            let own = Layer { config, cell, proj_size, suffix: &suffix, reverse: direction == 1 };
            let mut last = own.run(scope, &x, &first[layer * directions + direction]);
            outs.push(last.remove(0));
            // An LSTM has its cells after the states; the others' second entry is not used.
            c_n.push(last[usize::from(cell == Cell::Lstm)].clone());
            h_n.push(last.swap_remove(0));
        }
        x = Tensor::cat(&outs.iter().collect::<Vec<_>>(), -1);
        if layer + 1 < config.num_layers {
            x = Dropout::new(config.dropout).forward(&scope.child(format!("l{layer}")), &x);
        }
    }
    let joined = |t: Vec<Tensor>| {
        let refs: Vec<&Tensor> = t.iter().collect();
        if batched { Tensor::stack(&refs, 0) } else { Tensor::cat(&refs, 0) }
    };
    let out = match (batched, config.batch_first) {
        (false, _) => x.squeeze(1),
        (true, true) => x.transpose(0, 1),
        (true, false) => x,
    };
    (out, joined(h_n), joined(c_n))
}

/// One layer in one direction.
struct Layer<'a> {
    config: &'a RnnConfig,
    cell: Cell,
    proj_size: usize,
    suffix: &'a str,
    reverse: bool,
}

impl Layer<'_> {
    /// The results of the composite on the inputs `x[T,B,I]`.
    #[track_caller]
    fn run(&self, scope: &Scope, x: &Tensor, [h, c]: &[Tensor; 2]) -> Vec<Tensor> {
        let (rows, p) = (self.cell.gates() * self.config.hidden_size, h.size(1));
        let bound = 1.0 / (self.config.hidden_size as f64).sqrt();
        let declare = |name: &str, shape: Vec<usize>| {
            scope.param(&format!("{name}_{}", self.suffix), shape, Init::Uniform { bound })
        };
        let w_ih = declare("weight_ih", vec![rows, x.size(2)]);
        let w_hh = declare("weight_hh", vec![rows, p]);
        let biases = self.config.bias.then(|| (declare("bias_ih", vec![rows]), declare("bias_hh", vec![rows])));
        let w_hr = (self.proj_size > 0).then(|| declare("weight_hr", vec![p, self.config.hidden_size]));
        // The bias of a GRU's recurrent product is scaled by a gate; in the other cells it is one more summand.
        let bias = match (&biases, self.cell) {
            (Some((ih, _)), Cell::Gru) => Some(ih.clone()),
            (Some((ih, hh)), _) => Some(ih + hh),
            (None, _) => None,
        };
        let z = affine(x, &w_ih, bias.as_ref());
        let mut args = vec![z, w_hh, h.clone()];
        match self.cell {
            Cell::Tanh | Cell::Relu => {}
            Cell::Lstm => args.push(c.clone()),
            Cell::Gru => args.push(biases.map_or_else(|| x.builder().full([rows], 0.0), |(_, hh)| hh)),
        }
        args.extend(w_hr);
        let recurrence = Recurrence { cell: self.cell, reverse: self.reverse };
        x.builder().call(recurrence, &args.iter().collect::<Vec<_>>())
    }
}
