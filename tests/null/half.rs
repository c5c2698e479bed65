//! Mixed precision in plans: products and convolutions read f16, and the memory of a training step of the CNN presets halves.

use crate::training_steps::Ideal;
use kiln::grad::grad;
use kiln::ir::{InputKind, OutputKind, Prim, Type};
use kiln::nn::{Gpt, Mode, Module, Params};
use kiln::optim::{self, AdamW, LossScaler, StepFeed};
use kiln::plan::{Plan, PlanOptions, RegionKind, Step, plan};
use kiln::train::model::cnn;
use kiln::{Builder, DType, Graph};

fn step(model: &dyn Module, x: Type, targets: usize, half: bool) -> Graph {
    let b = Builder::new();
    let feed = StepFeed::declare(&b);
    let params = Params::with(&b, Mode::Train, Some(&feed.counter), None);
    let x = b.input("x", InputKind::Feed, x);
    let target = b.feed("target", DType::I32, [targets]);
    let y = b.autocast(half, || model.forward(&params.scope(), &x));
    let loss = y.reshape([targets, y.size(-1)]).cross_entropy(&target, &Default::default());
    let trainable: Vec<_> = params.trainable().into_iter().map(|(_, t)| t).collect();
    let wrt: Vec<_> = trainable.iter().collect();
    let scaler = half.then(|| LossScaler::declare(&b));
    let grads = match &scaler {
        Some(s) => s.unscale(&s.scaled_grad(&loss, &wrt)),
        None => grad(&loss, &wrt),
    };
    let applied = optim::apply(&params, &AdamW::new(), &grads, &feed, None);
    if let Some(s) = &scaler {
        s.update(&applied.ok);
    }
    b.output("loss", OutputKind::Fetch, &loss);
    b.build().unwrap()
}

fn planned(model: &dyn Module, x: Type, targets: usize, half: bool) -> Plan {
    let graph = step(model, x, targets, half);
    let plan = plan(&graph, &Ideal { narrows: half }, None, &PlanOptions::default()).unwrap();
    println!("{plan}\n{}", plan.summary());
    plan
}

/// How many product and convolution regions there are, and how many read f16 in both operands.
fn products(plan: &Plan) -> (usize, usize) {
    let mut found = (0, 0);
    for step in &plan.steps {
        if let Step::Run { region, .. } = step
            && matches!(region.kind, RegionKind::Dot | RegionKind::Conv)
        {
            found.0 += 1;
            found.1 += usize::from(region.args[..2].iter().all(|a| a.dtype == DType::F16));
        }
    }
    found
}

/// The presets digits-cnn and mnist-cnn, at their batch sizes.
#[test]
fn cnn_presets_take_at_most_six_tenths_of_the_memory() {
    for (size, stages, batch) in [(8, vec![vec![16, 32], vec![64]], 32), (28, vec![vec![16], vec![32]], 64)] {
        let model = cnn(1, [size, size], &stages, 10, 0.2).unwrap();
        let x = Type::new(DType::F32, [batch, 1, size, size]);
        let full = planned(&model, x.clone(), batch, false);
        let half = planned(&model, x, batch, true);
        let ratio = |f: fn(&Plan) -> usize| f(&half) as f64 / f(&full) as f64;
        let (peak, transient) = (ratio(|p| p.peak_live_bytes), ratio(|p| p.summary().transient_bytes));
        assert!(peak <= 0.6 && transient <= 0.6, "{size}: peak {peak:.3}, slots {transient:.3}");
        let (all, narrow) = products(&half);
        assert!(all > 0 && narrow == all, "{size}: {narrow} of {all} products read f16");
        assert_eq!(products(&full).1, 0);
        let more = half.summary().total() as f64 / full.summary().total() as f64;
        assert!(more <= 1.35, "{size}: {} regions instead of {}", half.summary().total(), full.summary().total());
    }
}

#[test]
fn most_products_of_a_gpt_read_f16() {
    let model = Gpt { vocab: 65, context: 32, layers: 2, heads: 4, width: 64, dropout: 0.0, checkpoint: false };
    let half = planned(&model, Type::new(DType::I32, [4, 32]), 128, true);
    let (all, narrow) = products(&half);
    assert!(all > 20 && narrow == all, "{narrow} of {all} products read f16");
    // Attention, too.
    let attends = |s: &&Step| match s {
        Step::Run { region, .. } => {
            region
                .body
                .nodes
                .iter()
                .any(|n| matches!(&n.prim, Prim::Call(c) if c.composite.name().starts_with("attention")))
                && region.args[..3].iter().all(|a| a.dtype == DType::F16)
        }
        Step::Copy { .. } => false,
    };
    assert_eq!(half.steps.iter().filter(attends).count(), 4);
}

/// Nothing is rounded twice, and what is f32 in memory is not there as f16, too, only to be kept.
#[test]
fn a_kept_value_is_stored_once() {
    let model = cnn(1, [8, 8], &[vec![16]], 10, 0.0).unwrap();
    let half = planned(&model, Type::new(DType::F32, [32, 1, 8, 8]), 32, true);
    let large = 32 * 16 * 8 * 8;
    let written = |dtype: DType| {
        let of = |s: &Step| match s {
            Step::Run { region, .. } => {
                region.outs.iter().filter(|o| o.ty.dtype == dtype && o.ty.shape.elems() == large).count()
            }
            Step::Copy { .. } => 0,
        };
        half.steps.iter().map(of).sum::<usize>()
    };
    // Of the size of the first layer: its convolution, norm, relu, and their gradients.
    assert_eq!(written(DType::F32), 0);
    assert!(written(DType::F16) <= 6, "{}", written(DType::F16));
}
