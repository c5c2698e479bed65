//! Fits a function of two variables with a multilayer perceptron, and draws both as text.
//!
//! `cargo run --release --example fit_function [DEVICE]`, DEVICE as for `kiln train --device` (default: auto).

use kiln::data::Arrays;
use kiln::nn::{Linear, Sequential, Tanh};
use kiln::optim::{AdamW, Clip, Schedule};
use kiln::rng::Rng;
use kiln::train::{Loss, Trainer};
use kiln::{Device, HostTensor, Result};

/// What is to be learnt, on [-1, 1]^2.
fn target(x: f32, y: f32) -> f32 {
    (4.0 * x).sin() * (3.0 * y).cos()
}

const EXAMPLES: usize = 2048;
const BATCH: usize = 128;
const EPOCHS: u64 = 180;

fn main() -> Result<()> {
    let device = Device::open(&std::env::args().nth(1).unwrap_or_else(|| "auto".into()))?;
    println!("device: {} ({})", device.info().name, device.reason());

    // Examples at random places; the model is judged on a grid that it never saw.
    let mut rng = Rng::named(0, "examples");
    let points: Vec<f32> = (0..2 * EXAMPLES).map(|_| rng.range(-1.0, 1.0) as f32).collect();
    let values: Vec<f32> = points.chunks(2).map(|p| target(p[0], p[1])).collect();
    let data = Arrays::new(vec![
        ("point", HostTensor::f32([EXAMPLES, 2], points)?),
        ("value", HostTensor::f32([EXAMPLES, 1], values)?),
    ])?;

    let model =
        Sequential::new().add(Linear::new(2, 64)).add(Tanh).add(Linear::new(64, 64)).add(Tanh).add(Linear::new(64, 1));
    let steps = EPOCHS * EXAMPLES.div_ceil(BATCH) as u64;
    let mut trainer = Trainer::new(&device, model, Loss::Mse, AdamW::new(), 1e-2)
        .schedule(Schedule::WarmupCosine { warmup: 20, total: steps, min_lr: 0.0 })
        .clip(Some(Clip::Norm(1.0)))
        .seed(1);
    for epochs in 1..=6 {
        let measures = trainer.fit(&data, BATCH, EPOCHS / 6)?;
        println!("epoch {:>3}: loss {:.6}", epochs * EPOCHS / 6, measures.loss());
    }

    let (rows, columns) = (12, 32);
    let at = |i: usize, n: usize| (i as f32 + 0.5) / n as f32 * 2.0 - 1.0;
    let grid: Vec<f32> = (0..rows * columns).flat_map(|k| [at(k % columns, columns), at(k / columns, rows)]).collect();
    let fitted = trainer.predict(&HostTensor::f32([rows * columns, 2], grid.clone())?)?;
    let fitted = fitted.as_f32()?;
    let shade = |v: f32| [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'][((v + 1.0) * 5.0).clamp(0.0, 9.0) as usize];
    println!("{:<columns$}  {:<columns$}", "target", "fitted");
    for row in 0..rows {
        let line = |f: &dyn Fn(usize) -> f32| (0..columns).map(|c| shade(f(row * columns + c))).collect::<String>();
        println!("{}  {}", line(&|k| target(grid[2 * k], grid[2 * k + 1])), line(&|k| fitted[k]));
    }
    let squares = (0..rows * columns).map(|k| f64::from(fitted[k] - target(grid[2 * k], grid[2 * k + 1])).powi(2));
    let error = (squares.sum::<f64>() / (rows * columns) as f64).sqrt();
    println!("root mean square error on the grid: {error:.4}");
    if !(error < 0.05) {
        return Err(kiln::Error::runtime("fit_function", format!("the fit ended at an error of {error}")));
    }
    Ok(())
}
