//! Dynamic loss scaling for mixed precision, as `torch.amp.GradScaler`: gradients of a scaled loss do not vanish in f16. Scale
//! and counter live on the device; whether an update happens is decided there, too ([`super::apply`]), so that no step waits
//! for the host.

use crate::dtype::{DType, Scalar};
use crate::grad::vjp;
use crate::ir::{Builder, OutputKind, Tensor, Type};
use crate::nn::{Init, ParamSpec};
use crate::shape::Shape;

/// Name of the state (`f32[1]`) that holds the loss scale.
pub const LOSS_SCALE: &str = "status.loss_scale";
/// Name of the state (`u32[1]`) that counts updates since the scale was changed or a gradient was not finite.
pub const CLEAN_UPDATES: &str = "status.clean_updates";
/// The scale at the start.
pub const INITIAL: f64 = 65_536.0;
/// After so many updates in a row with finite gradients the scale is doubled.
pub const GROWTH_INTERVAL: u32 = 2000;
/// The smallest scale. A gradient that is not finite even so is no matter of scale.
pub const FLOOR: f64 = 1.0 / 16_384.0;

/// The loss scale of a training step.
#[derive(Clone)]
pub struct LossScaler {
    builder: Builder,
    scale: Tensor,
    clean: Tensor,
}

impl LossScaler {
    /// Declares the two states.
    #[track_caller]
    pub fn declare(builder: &Builder) -> LossScaler {
        let scalar = |name: &str, dtype: DType| builder.state(name, dtype, [1]).reshape(Shape::default());
        let (scale, clean) = (scalar(LOSS_SCALE, DType::F32), scalar(CLEAN_UPDATES, DType::U32));
        LossScaler { builder: builder.clone(), scale, clean }
    }

    /// The states: a store must hold them.
    pub fn specs() -> Vec<ParamSpec> {
        let spec = |name: &str, dtype: DType, init: Init| ParamSpec {
            name: name.into(),
            ty: Type::new(dtype, [1]),
            init,
            trainable: false,
        };
        vec![spec(LOSS_SCALE, DType::F32, Init::Constant(INITIAL)), spec(CLEAN_UPDATES, DType::U32, Init::ZEROS)]
    }

    /// The scale of this step, a scalar.
    pub fn scale(&self) -> &Tensor {
        &self.scale
    }

    /// Gradients of the scaled loss (a scalar): zeros where it does not depend on an entry.
    #[track_caller]
    pub fn scaled_grad(&self, loss: &Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
        let seed = self.scale.broadcast_to(loss.shape());
        let grads = vjp(std::slice::from_ref(loss), &[Some(seed)], wrt);
        grads.into_iter().zip(wrt).map(|(g, t)| g.unwrap_or_else(|| t.like(0.0))).collect()
    }

    /// Gradients of the loss from those of the scaled loss; infinity and NaN stay.
    #[track_caller]
    pub fn unscale(&self, grads: &[Tensor]) -> Vec<Tensor> {
        let inverse = 1.0 / &self.scale;
        grads.iter().map(|g| g * &inverse).collect()
    }

    /// Declares the new contents of the states: after [`GROWTH_INTERVAL`] updates with finite gradients (`ok`, a scalar bool)
    /// twice the scale, unless that is infinite; after one without, half of it, down to [`FLOOR`].
    #[track_caller]
    pub fn update(&self, ok: &Tensor) {
        let clean = &self.clean + self.clean.like(1.0);
        let due = clean.eq(&self.builder.constant(Scalar::U32(GROWTH_INTERVAL)));
        let twice = &self.scale * 2.0;
        let grown = due.and(&twice.is_finite()).select(&twice, &self.scale);
        let less = (&self.scale * 0.5).maximum(&self.scale.like(FLOOR));
        let scale = ok.select(&grown, &less);
        let clean = ok.and(&due.not()).select(&clean, &self.clean.like(0.0));
        self.builder.output(LOSS_SCALE, OutputKind::State, &scale.reshape([1]));
        self.builder.output(CLEAN_UPDATES, OutputKind::State, &clean.reshape([1]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Device, Program, Store};
    use crate::tensor::{Data, HostTensor};

    /// torch's rule: halved at once, doubled after 2000 clean updates, the counter starting anew at both.
    #[test]
    fn the_scale_follows_the_gradients() {
        let device = Device::open("reference").unwrap();
        let store = Store::new(&device);
        let b = Builder::new();
        let ok = b.feed("ok", DType::Bool, [1]).reshape(Shape::default());
        LossScaler::declare(&b).update(&ok);
        let step = |scale: f32, clean: u32, ok: bool| {
            store.insert(LOSS_SCALE, &HostTensor::f32([1], vec![scale]).unwrap()).unwrap();
            store.insert(CLEAN_UPDATES, &HostTensor::u32([1], vec![clean]).unwrap()).unwrap();
            let mut program = Program::compile(&store, b.with_graph(Clone::clone)).unwrap();
            program.run(&[("ok", &HostTensor::bool([1], vec![ok]).unwrap())]).unwrap();
            let Data::U32(clean) = store.get(CLEAN_UPDATES).unwrap().data else { panic!("a counter") };
            (store.get(LOSS_SCALE).unwrap().item().unwrap(), clean[0])
        };
        assert_eq!(step(65_536.0, 0, true), (65_536.0, 1));
        assert_eq!(step(65_536.0, 1998, true), (65_536.0, 1999));
        assert_eq!(step(65_536.0, 1999, true), (131_072.0, 0));
        assert_eq!(step(65_536.0, 1999, false), (32_768.0, 0));
        assert_eq!(step(2f32.powi(127), 1999, true), (2f32.powi(127), 0));
        assert_eq!(step(FLOOR as f32, 7, false), (FLOOR as f32, 0));
    }
}
