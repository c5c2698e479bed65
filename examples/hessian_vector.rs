//! A Hessian-vector product by differentiating twice, next to a finite difference of gradients.
//!
//! `cargo run --release --example hessian_vector [DEVICE]`, DEVICE as for `kiln train --device` (default: auto).

use kiln::backend::{Device, Program, Store};
use kiln::grad::{grad, hvp};
use kiln::ir::{Builder, OutputKind, Tensor};
use kiln::nn::{Linear, Mode, Module, Params, Sequential, Tanh};
use kiln::rng::Rng;
use kiln::{DType, HostTensor, Result};

fn main() -> Result<()> {
    let device = Device::open(&std::env::args().nth(1).unwrap_or_else(|| "auto".into()))?;
    println!("device: {} ({})", device.info().name, device.reason());

    // The graph: the loss of a small network, its gradient g, and H v for a fed direction v.
    let model = Sequential::new().add(Linear::new(3, 16)).add(Tanh).add(Linear::new(16, 2));
    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let (x, y) = (b.feed("x", DType::F32, [32, 3]), b.feed("y", DType::F32, [32, 2]));
    let loss = (model.forward(&params.scope(), &x) - &y).square().mean(&[], false);
    let named = params.trainable();
    let weights: Vec<&Tensor> = named.iter().map(|(_, w)| w).collect();
    let direction: Vec<Tensor> = named.iter().map(|(n, w)| b.feed(format!("v.{n}"), DType::F32, w.shape())).collect();
    let gradient = grad(&loss, &weights);
    let product = hvp(&loss, &weights, &direction.iter().collect::<Vec<_>>());
    for (i, t) in gradient.iter().chain(&product).enumerate() {
        b.output(format!("{i}"), OutputKind::Fetch, t);
    }

    let store = Store::new(&device);
    let start = params.init(1)?;
    for (name, value) in &start {
        store.insert(name, value)?;
    }
    let mut program = Program::compile(&store, b.build()?)?;

    // Some data and a direction, drawn from a seed.
    let mut rng = Rng::named(1, "example");
    let mut draw = |shape: &[usize]| {
        let n = shape.iter().product();
        HostTensor::f32(shape, (0..n).map(|_| rng.normal() as f32).collect())
    };
    let mut feeds = vec![("x".to_string(), draw(&[32, 3])?), ("y".to_string(), draw(&[32, 2])?)];
    for (name, value) in &start {
        feeds.push((format!("v.{name}"), draw(&value.shape)?));
    }
    let feeds: Vec<(&str, &HostTensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let exact: Vec<f64> = program.run(&feeds)?[start.len()..].iter().flat_map(HostTensor::to_f64).collect();

    // (g(w + h v) - g(w - h v)) / 2h. Its error has a part that grows with h^2 and one, from f32, that grows with 1/h.
    println!("{:>8}  {:>22}", "h", "|finite - exact|/|exact|");
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut best = f64::INFINITY;
    for h in [1e-1f32, 1e-2, 1e-3, 1e-4] {
        let mut gradient_at = |h: f32| -> Result<Vec<f64>> {
            for ((name, w), (_, v)) in start.iter().zip(&feeds[2..]) {
                let moved = w.as_f32()?.iter().zip(v.as_f32()?).map(|(w, v)| w + h * v).collect();
                store.insert(name, &HostTensor::f32(&w.shape, moved)?)?;
            }
            Ok(program.run(&feeds)?[..start.len()].iter().flat_map(HostTensor::to_f64).collect())
        };
        let (above, below) = (gradient_at(h)?, gradient_at(-h)?);
        let off: Vec<f64> =
            above.iter().zip(&below).zip(&exact).map(|((a, b), e)| (a - b) / (2.0 * f64::from(h)) - e).collect();
        let error = norm(&off) / norm(&exact);
        best = best.min(error);
        println!("{h:>8.0e}  {error:>22.2e}");
    }
    println!("H v has {} entries; the closest finite difference agrees to {best:.1e}", exact.len());
    if !(best < 1e-3) {
        return Err(kiln::Error::runtime("hessian_vector", "H v and the finite difference of gradients disagree"));
    }
    Ok(())
}
