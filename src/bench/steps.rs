//! Whole training steps: forward, backward and update of four small models at the sizes that other engines were measured
//! at. The batch stays the same and lies on the device, so that a step moves nothing but its own number.

use super::{Case, Prepared};
use crate::backend::{Device, Program, Store};
use crate::error::Result;
use crate::ir::{Builder, OutputKind, Tensor};
use crate::nn::scope::init;
use crate::nn::{Conv2d, Flatten, Gpt, Linear, MaxPool2d, Mode, Module, Params, Relu, Sequential};
use crate::optim::{Adam, AdamW, Optimizer, Sgd, StepFeed, apply};
use crate::rng::Rng;
use crate::tensor::{Data, HostTensor};

/// A model with its batch and optimizer, trained on classes.
pub struct TrainStep {
    name: &'static str,
    model: fn() -> Box<dyn Module>,
    /// Shape of the input: noise, or tokens if there are so many different ones.
    input: &'static [usize],
    tokens: Option<usize>,
    classes: usize,
    optimizer: fn() -> Box<dyn Optimizer>,
    lr: f64,
}

/// The steps, the smallest model first.
pub fn all() -> Vec<TrainStep> {
    let mlp = || -> Box<dyn Module> {
        let hidden = Sequential::new().add(Linear::new(784, 512)).add(Relu).add(Linear::new(512, 512)).add(Relu);
        Box::new(hidden.add(Linear::new(512, 10)))
    };
    let cnn = || -> Box<dyn Module> {
        let first = Sequential::new().add(Conv2d::new(1, 16, 3).padding(1)).add(Relu).add(MaxPool2d::new(2));
        let second = first.add(Conv2d::new(16, 32, 3).padding(1)).add(Relu).add(MaxPool2d::new(2));
        Box::new(second.add(Flatten::new()).add(Linear::new(1568, 128)).add(Relu).add(Linear::new(128, 10)))
    };
    let gpt = || -> Box<dyn Module> {
        Box::new(Gpt { vocab: 65, context: 128, layers: 4, heads: 4, width: 128, dropout: 0.0, checkpoint: false })
    };
    let digits = || -> Box<dyn Module> {
        Box::new(Sequential::new().add(Linear::new(64, 64)).add(Relu).add(Linear::new(64, 10)))
    };
    let adam = || -> Box<dyn Optimizer> { Box::new(Adam::new()) };
    let adamw = || -> Box<dyn Optimizer> { Box::new(AdamW::new()) };
    let sgd = || -> Box<dyn Optimizer> { Box::new(Sgd::new().momentum(0.9)) };
    let step =
        |name, model, input, optimizer, lr| TrainStep { name, model, input, tokens: None, classes: 10, optimizer, lr };
    vec![
        step("train_digits", digits, &[32, 64], adam, 1e-3),
        step("train_mlp", mlp, &[128, 784], adam, 1e-3),
        step("train_cnn", cnn, &[64, 1, 28, 28], sgd, 1e-2),
        TrainStep { tokens: Some(65), classes: 65, ..step("train_gpt", gpt, &[16, 128], adamw, 1e-3) },
    ]
}

impl TrainStep {
    fn batch(&self) -> Result<[HostTensor; 2]> {
        let mut rng = Rng::named(1, self.name);
        let elems = self.input.iter().product::<usize>();
        let targets = if self.tokens.is_some() { elems } else { self.input[0] };
        let mut classes = |count: usize, n: usize| (0..count).map(|_| rng.below(n) as i32).collect();
        let target = HostTensor::i32([targets], classes(targets, self.classes))?;
        let input = match self.tokens {
            Some(n) => HostTensor::i32(self.input, classes(elems, n))?,
            None => HostTensor::new(self.input, Data::F32((0..elems).map(|_| rng.normal() as f32).collect()))?,
        };
        Ok([input, target])
    }
}

impl Case for TrainStep {
    fn name(&self) -> &str {
        self.name
    }

    /// The loss of the second step depends on the gradient and the update of the first.
    fn runs_before_check(&self) -> usize {
        2
    }

    fn prepare(&self, device: &Device) -> Result<Prepared> {
        let store = Store::new(device);
        let b = Builder::new();
        let feed = StepFeed::declare(&b);
        let params = Params::with(&b, Mode::Train, Some(&feed.counter), None);
        let [input, target] = self.batch()?;
        let x = b.state("input", input.dtype(), &input.shape);
        let y = b.state("target", target.dtype(), &target.shape);
        let logits = (self.model)().forward(&params.scope(), &x);
        let loss = logits.reshape([target.shape.elems(), self.classes]).cross_entropy(&y, &Default::default());
        let trainable: Vec<Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
        let grads = crate::grad::grad(&loss, &trainable.iter().collect::<Vec<_>>());
        let applied = apply(&params, &*(self.optimizer)(), &grads, &feed, None);
        b.state("loss", loss.dtype(), loss.shape());
        b.output("loss", OutputKind::State, &loss);
        store.insert("loss", &HostTensor::zeros(loss.dtype(), loss.shape()))?;
        for (name, value) in params.init(1)?.into_iter().chain(init(&applied.states, 1)?) {
            store.insert(name, &value)?;
        }
        store.insert("input", &input)?;
        store.insert("target", &target)?;
        let program = Program::compile(&store, b.build()?)?;
        let (mut number, lr) = (0, self.lr);
        let feeds = move || {
            number += 1;
            let values = StepFeed::values(1, number - 1, 0, lr)?;
            Ok(values.into())
        };
        Ok(Prepared { store, program, outputs: vec!["loss".into()], feeds: Box::new(feeds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendKind;
    use crate::bench::{Effort, measure};
    use std::time::Duration;

    /// A step that forgets to update on the device that is measured.
    struct Idle(TrainStep);

    impl Case for Idle {
        fn name(&self) -> &str {
            self.0.name
        }
        fn runs_before_check(&self) -> usize {
            self.0.runs_before_check()
        }
        fn prepare(&self, device: &Device) -> Result<Prepared> {
            let lr = if device.info().kind == BackendKind::Cpu { 0.0 } else { self.0.lr };
            TrainStep { lr, ..self.0 }.prepare(device)
        }
    }

    #[test]
    fn a_step_is_timed_only_if_the_loss_after_an_update_is_right() {
        let device = Device::open("cpu").unwrap();
        let effort = Effort { samples: 1, sample_time: Duration::from_millis(1), check: true };
        let row = measure(&all().remove(0), &device, &effort).unwrap();
        assert!(row.ms > 0.0 && row.error.is_some_and(|e| e < 1e-5), "{row:?}");
        let e = measure(&Idle(all().remove(0)), &device, &effort).unwrap_err().to_string();
        assert!(e.contains("train_digits") && e.contains("loss"), "{e}");
    }
}
