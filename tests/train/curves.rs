//! Loss curves: reruns agree bit by bit, seeds matter, and devices agree within what different orders of summation do.

use crate::{config, losses, small_cnn, software};
use kiln::backend::Device;

/// Relative difference that is allowed between the losses of two devices after `step` updates of a small network.
///
/// One forward pass differs by a few hundred roundings of sums of up to a few hundred terms: 2^-24 * 2^8 = 1.5e-5 is a
/// generous bound for the first loss. An update moves that difference into weights, whose effect on the next loss grows
/// by at most a factor of about two a step at these learning rates (Adam divides by the root of the second moment, which
/// for gradients near zero turns a rounding into a step of full size, for a small share of the weights).
fn allowed(step: usize) -> f64 {
    1.5e-5 * f64::from(1 << step.min(10))
}

fn compare(name: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        let difference = (x - y).abs() / x.abs();
        // Written so that NaN fails.
        assert!(difference <= allowed(i), "{name}: losses {x} and {y} of update {} differ by {difference:.2e}", i + 1);
    }
}

#[test]
fn reruns_are_bit_equal_and_seeds_differ() {
    let device = Device::open("cpu").unwrap();
    let (a, first) = losses(small_cnn(5), &device, None);
    let (b, second) = losses(small_cnn(5), &device, None);
    assert_eq!(a, b);
    assert_eq!(first.test, second.test);
    assert_ne!(a, losses(small_cnn(6), &device, None).0);
}

#[test]
fn cpu_follows_the_reference() {
    let (cpu, reference) = (Device::open("cpu").unwrap(), Device::open("reference").unwrap());
    compare("cnn", &losses(small_cnn(2), &reference, Some(5)).0, &losses(small_cnn(2), &cpu, Some(5)).0);
    let mlp = || config("digits-mlp", &[]);
    compare("mlp", &losses(mlp(), &reference, Some(10)).0, &losses(mlp(), &cpu, Some(10)).0);
}

#[test]
fn the_software_adapter_follows_the_cpu_and_nothing_falls_back() {
    let Some(software) = software() else { return };
    let cpu = Device::open("cpu").unwrap();
    for preset in ["digits-cnn", "digits-mlp"] {
        let (on_gpu, summary) = losses(config(preset, &[]), &software, Some(10));
        compare(preset, &losses(config(preset, &[]), &cpu, Some(10)).0, &on_gpu);
        assert_eq!(summary.usage.steps_on_device, 10, "{preset}: {:?}", summary.usage.fallbacks);
        assert!(summary.usage.fallbacks.is_empty(), "{preset}: {:?}", summary.usage.fallbacks);
        let (again, _) = losses(config(preset, &[]), &software, Some(10));
        assert_eq!(on_gpu, again, "{preset}: a rerun differs");
    }
}

/// Whole training steps by the kernels that a discrete GPU would get.
#[test]
fn the_kernels_of_a_gpu_follow_the_cpu() {
    let Some(software) = software() else { return };
    let (gpu, cpu) = (software.as_gpu(), Device::open("cpu").unwrap());
    assert!(gpu.gpu().is_some_and(|g| !g.gpu_caps().software()));
    for (preset, updates, set) in
        [("digits-cnn", 10, &[][..]), ("digits-mlp", 10, &[]), ("chars-gpt", 3, &[("batch", "8")])]
    {
        let (on_gpu, summary) = losses(config(preset, set), &gpu, Some(updates));
        compare(preset, &losses(config(preset, set), &cpu, Some(updates)).0, &on_gpu);
        assert_eq!(summary.usage.steps_on_device, updates, "{preset}: {:?}", summary.usage.fallbacks);
        assert!(summary.usage.fallbacks.is_empty(), "{preset}: {:?}", summary.usage.fallbacks);
    }
}

#[test]
fn the_network_learns() {
    let (_, summary) = losses(config("digits-mlp", &[("epochs", "10")]), &Device::open("cpu").unwrap(), None);
    let accuracy = summary.test.unwrap().accuracy();
    assert!(accuracy > 0.9, "test accuracy {accuracy}");
}
