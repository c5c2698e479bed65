//! Curvature on surfaces whose spectrum is known: a quadratic, a saddle, a small network against its whole Hessian.

use super::*;
use crate::backend::Device;
use crate::data::Arrays;
use crate::dtype::DType;
use crate::nn::{Linear, Sequential, Tanh};
use crate::optim::Sgd;
use crate::rng::Rng;

fn vector(v: &[f64]) -> HostTensor {
    HostTensor::f32([v.len()], v.iter().map(|&x| x as f32).collect()).unwrap()
}

/// 0.5 sum d w^2 - sum b w, at w, in two batches that share the work unevenly.
fn quadratic(d: &[f64], w: &[f64]) -> Surface {
    let store = Store::new(&Device::open("cpu").unwrap());
    store.insert("w", &vector(w)).unwrap();
    let batch = |scale: f64| vec![("d".to_string(), vector(&d.iter().map(|x| scale * x).collect::<Vec<_>>()))];
    let n = d.len();
    // (3 * 2 + 1 * -2) / 4 = 1.
    Surface::new(&store, vec![(batch(2.0), 3.0), (batch(-2.0), 1.0)], &move |b, inputs| {
        let w = b.state("w", DType::F32, [n]);
        Ok(((w.square() * &inputs[0]).sum(&[], false) * 0.5, vec![("w".to_string(), w)]))
    })
    .unwrap()
}

#[test]
fn a_quadratic_has_its_own_spectrum() {
    let n = 300;
    let mut d: Vec<f64> = (0..n).map(|i| 1.0 + i as f64 / n as f64).collect();
    (d[5], d[9], d[17]) = (-3.0, -1.0, 7.0);
    let mut surface = quadratic(&d, &vec![0.0; n]);
    assert_eq!((surface.dimensions(), surface.gradient().unwrap().0), (n, 0.0));
    let options = Lanczos { pairs: 2, tolerance: 1e-6, ..Lanczos::default() };
    let s = surface.extremes(&options).unwrap();
    for (pair, want, at) in [(&s.smallest[0], -3.0, 5), (&s.smallest[1], -1.0, 9), (&s.largest[0], 7.0, 17)] {
        assert!((pair.value - want).abs() <= 1e-4 && pair.residual <= 1e-3, "{} {want} {}", pair.value, pair.residual);
        assert!(pair.vector[at].abs() > 0.999, "{}", pair.vector[at]);
    }
    let seen = surface.examine(&Examine { probes: 8, ..Examine::default() }).unwrap();
    assert_eq!((seen.verdict, seen.exact), (Verdict::Saddle, false));
    assert!((seen.minimum_ratio - 298.0 / 300.0).abs() < 0.03, "{}", seen.minimum_ratio);
    assert!(seen.to_string().contains("a saddle point"), "{seen}");
}

#[test]
fn verdicts_follow_the_signs() {
    let verdict = |d: &[f64], w: f64| quadratic(d, &vec![w; d.len()]).examine(&Examine::default()).unwrap();
    assert_eq!(verdict(&[1.0, 2.0], 0.0).verdict, Verdict::Minimum);
    assert_eq!(verdict(&[-1.0, -2.0], 0.0).verdict, Verdict::Maximum);
    assert_eq!(verdict(&[-1.0, 2.0, 1.0, 0.0], 0.0).verdict, Verdict::Saddle);
    assert_eq!(verdict(&[-1.0, 2.0, 1.0, 0.0], 0.0).minimum_ratio, 0.5);
    assert_eq!(verdict(&[0.0, 2.0], 0.0).verdict, Verdict::Flat);
    assert_eq!(verdict(&[1.0, 2.0], 1.0).verdict, Verdict::Slope);
    let e = quadratic(&[f64::NAN], &[1.0]).examine(&Examine::default()).unwrap_err().to_string();
    assert!(e.contains("nothing can be said"), "{e}");
}

#[test]
fn a_step_along_a_negative_eigenvector_lowers_the_loss() {
    let mut surface = quadratic(&[-1.0, 2.0], &[0.25, 0.0]);
    let seen = surface.examine(&Examine::default()).unwrap();
    let step = surface.escape(&seen.smallest[0]).unwrap();
    // Downhill from 0.25 is on; 2^4 is the longest step.
    assert!((step.after - -0.5 * 16.25f64.powi(2)).abs() < 1e-3 && step.before > step.after, "{step:?}");
    assert!((surface.position().unwrap()[0].abs() - 16.25).abs() < 1e-5);
    assert!((surface.gradient().unwrap().0 - step.after).abs() < 1e-4);
    // At a minimum nothing lowers the loss, and nothing moves.
    let mut bowl = quadratic(&[1.0, 2.0], &[0.0, 0.0]);
    let up = Eigenpair { value: 1.0, vector: vec![1.0, 0.0], residual: 0.0 };
    assert_eq!(bowl.escape(&up).unwrap().length, 0.0);
    assert_eq!(bowl.position().unwrap(), [0.0, 0.0]);
    assert!(bowl.escape(&Eigenpair { value: 1.0, vector: vec![1.0], residual: 0.0 }).is_err());
}

fn network() -> (Trainer, Arrays) {
    let mut rng = Rng::named(3, "curvature");
    let xs: Vec<f32> = (0..48).map(|_| rng.normal() as f32).collect();
    // Targets that are exact and have mean 0.
    let ys: Vec<f32> = (0..16).map(|i| if i % 2 == 0 { 0.5 } else { -0.5 }).collect();
    let data =
        Arrays::new(vec![("x", HostTensor::f32([16, 3], xs).unwrap()), ("y", HostTensor::f32([16, 1], ys).unwrap())]);
    let model = Sequential::new().add(Linear::new(3, 6)).add(Tanh).add(Linear::new(6, 1));
    let device = Device::open("cpu").unwrap();
    (Trainer::new(&device, model, crate::train::Loss::Mse, Sgd::default(), 0.1), data.unwrap())
}

#[test]
fn lanczos_agrees_with_the_whole_hessian_of_a_network() {
    let (mut trainer, data) = network();
    let part: Vec<usize> = (0..16).collect();
    // Batches of 5: the last one is short.
    let mut surface = Surface::of(&mut trainer, &data, &part, 5).unwrap();
    let n = surface.dimensions();
    assert_eq!(n, 3 * 6 + 6 + 6 + 1);
    let whole = eigen(surface.hessian().unwrap(), n);
    let s = surface.extremes(&Lanczos { tolerance: 1e-6, ..Lanczos::default() }).unwrap();
    let scale = whole.values[n - 1].abs().max(whole.values[0].abs());
    for (pair, want) in [(&s.smallest[0], whole.values[0]), (&s.largest[0], whole.values[n - 1])] {
        assert!((pair.value - want).abs() <= 1e-4 * scale, "{} {want} (+-{})", pair.value, pair.residual);
    }
    // One batch of all examples is the same surface.
    let (loss, gradient) = surface.gradient().unwrap();
    let (loss_of_one, other) = Surface::of(&mut trainer, &data, &part, 16).unwrap().gradient().unwrap();
    assert!((loss - loss_of_one).abs() < 1e-6 && gradient.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6));
    let e = surface.hvp(&[1.0]).unwrap_err().to_string();
    assert!(e.contains("1 elements") && e.contains("31 parameters"), "{e}");
}

#[test]
fn a_network_of_zeros_is_a_saddle_and_can_be_left() {
    let (mut trainer, data) = network();
    let part: Vec<usize> = (0..16).collect();
    let mut surface = Surface::of(&mut trainer, &data, &part, 16).unwrap();
    for (name, ty) in surface.parameters().to_vec() {
        trainer.store().insert(name, &HostTensor::f32(ty.shape.clone(), vec![0.0; ty.shape.elems()]).unwrap()).unwrap();
    }
    let seen = surface.examine(&Examine::default()).unwrap();
    assert!(seen.grad_norm < 1e-6 && seen.exact, "{seen}");
    // Weights of both layers are zero, so the mixed second derivatives make pairs of eigenvalues of both signs.
    assert_eq!(seen.verdict, Verdict::Saddle, "{seen}");
    let step = surface.escape(&seen.smallest[0]).unwrap();
    assert!(step.after < step.before && step.length != 0.0, "{step:?}");
    let predicted = step.before + 0.5 * seen.smallest[0].value * (1.0f64 / 128.0).powi(2);
    assert!(step.after <= predicted, "{step:?} {predicted}");
}

#[test]
fn nothing_to_examine_is_an_error() {
    let (mut trainer, data) = network();
    assert!(Surface::of(&mut trainer, &data, &[], 4).is_err());
    let seen = examine(&mut trainer, &data, &[0, 1, 2], 2, &Examine::default()).unwrap();
    assert!(seen.loss.is_finite() && seen.parameters == 31);
}
