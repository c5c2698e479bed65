//! A layer of one's own around a composite op of one's own: the activation "snake", x + sin(a x)^2 / a, with a learned
//! frequency a per feature (arXiv 2006.08195). The composite has a body, which is its meaning on every device, and a
//! derivative that is shorter than that of the body. A small network with it learns a periodic function.
//!
//! `cargo run --release --example custom_op [DEVICE]`, DEVICE as for `kiln train --device` (default: auto).

use kiln::backend::{Device, Program, Store};
use kiln::grad::grad;
use kiln::ir::{Builder, OutputKind, Tensor};
use kiln::nn::{Init, Linear, Mode, Module, Params, Scope, Sequential};
use kiln::ops::{Composite, VjpArgs};
use kiln::optim::{Adam, StepFeed, apply};
use kiln::{DType, HostTensor, Result};
use std::any::Any;

/// `x[n,f], a[f] -> x + sin(a x)^2 / a`
#[derive(Debug)]
struct Snake {
    /// Use the derivative below; else kiln differentiates the body.
    own_vjp: bool,
}

impl Composite for Snake {
    fn name(&self) -> &'static str {
        "snake"
    }
    fn attrs(&self) -> String {
        format!("own_vjp={}", self.own_vjp)
    }
    fn body(&self, _: &Builder, args: &[Tensor]) -> Vec<Tensor> {
        let (x, a) = (&args[0], &args[1]);
        vec![x + (x * a).sin().square() / a]
    }
    fn vjp(&self, v: &VjpArgs) -> Option<Vec<Option<Tensor>>> {
        if !self.own_vjp {
            return None;
        }
        let (x, a, g) = (&v.args[0], &v.args[1], v.cotangents[0].as_ref()?);
        // With s = sin(2 a x) = 2 sin(a x) cos(a x): dy/dx = 1 + s and dy/da = (x s - sin(a x)^2 / a) / a.
        let s = (x * a * 2.0).sin();
        let by_a = g * (x * &s - (x * a).sin().square() / a) / a;
        Some(vec![Some(g * (s + 1.0)), Some(by_a.sum(&[0], false))])
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The layer: its parameter `frequency` (features) starts at 1.
struct SnakeLayer {
    features: usize,
    own_vjp: bool,
}

impl Module for SnakeLayer {
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        let a = scope.param("frequency", [self.features], Init::ONES);
        x.builder().call(Snake { own_vjp: self.own_vjp }, &[x, &a]).remove(0)
    }
}

fn model(own_vjp: bool) -> Sequential {
    let snake = || SnakeLayer { features: 32, own_vjp };
    Sequential::new().add(Linear::new(1, 32)).add(snake()).add(Linear::new(32, 32)).add(snake()).add(Linear::new(32, 1))
}

const ROWS: usize = 64;

fn loss(model: &Sequential, params: &Params) -> Tensor {
    let b = params.builder();
    let (x, y) = (b.feed("x", DType::F32, [ROWS, 1]), b.feed("y", DType::F32, [ROWS, 1]));
    (model.forward(&params.scope(), &x) - y).square().mean(&[], false)
}

fn store_for(device: &Device, params: &Params) -> Result<Store> {
    let store = Store::new(device);
    for (name, value) in params.init(0)? {
        store.insert(name, &value)?;
    }
    Ok(store)
}

fn main() -> Result<()> {
    let device = Device::open(&std::env::args().nth(1).unwrap_or_else(|| "auto".into()))?;
    println!("device: {} ({})", device.info().name, device.reason());
    let xs: Vec<f32> = (0..ROWS).map(|i| i as f32 / ROWS as f32 * 8.0 - 4.0).collect();
    let ys: Vec<f32> = xs.iter().map(|x| (3.0 * x).sin() + 0.3 * x).collect();
    let (x, y) = (HostTensor::f32([ROWS, 1], xs)?, HostTensor::f32([ROWS, 1], ys)?);

    // Both derivatives of the composite, on the same weights.
    let mut gradients = Vec::new();
    for own_vjp in [true, false] {
        let b = Builder::new();
        let params = Params::new(&b, Mode::Train);
        let loss = loss(&model(own_vjp), &params);
        let named = params.trainable();
        for (i, g) in grad(&loss, &named.iter().map(|(_, t)| t).collect::<Vec<_>>()).iter().enumerate() {
            b.output(format!("{i}"), OutputKind::Fetch, g);
        }
        let mut program = Program::compile(&store_for(&device, &params)?, b.build()?)?;
        let outs = program.run(&[("x", &x), ("y", &y)])?;
        gradients.push(outs.iter().flat_map(HostTensor::to_f64).collect::<Vec<_>>());
    }
    let largest = gradients[1].iter().fold(0.0f64, |m, g| m.max(g.abs()));
    let apart = gradients[0].iter().zip(&gradients[1]).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    println!("own derivative and that of the body differ by {apart:.1e}; the largest entry is {largest:.1e}");
    if !(apart <= 1e-4 * largest) {
        return Err(kiln::Error::runtime("snake", "its vjp is not the derivative of its body"));
    }

    // A training step is a graph too: loss, gradients and the optimizer's update in one program.
    let b = Builder::new();
    let feed = StepFeed::declare(&b);
    let params = Params::with(&b, Mode::Train, Some(&feed.counter), None);
    let loss = loss(&model(true), &params);
    let named = params.trainable();
    let grads = grad(&loss, &named.iter().map(|(_, t)| t).collect::<Vec<_>>());
    let applied = apply(&params, &Adam::new(), &grads, &feed, None);
    b.output("loss", OutputKind::Fetch, &loss);
    let store = store_for(&device, &params)?;
    for (name, value) in kiln::nn::scope::init(&applied.states, 0)? {
        store.insert(name, &value)?;
    }
    let mut program = Program::compile(&store, b.build()?)?;
    let mut last = f32::NAN;
    for step in 0..=1000 {
        let values = StepFeed::values(0, step, 0, 3e-3)?;
        let feeds = [("x", &x), ("y", &y), (values[0].0, &values[0].1), (values[1].0, &values[1].1)];
        last = program.run(&feeds)?[0].item()?;
        if step % 200 == 0 {
            println!("step {step:>4}: loss {last:.6}");
        }
    }
    if !(last < 0.01) {
        return Err(kiln::Error::runtime("snake", format!("training ended at loss {last}")));
    }
    Ok(())
}
