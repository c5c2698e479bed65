//! What the planner makes of whole training steps: how many regions, and no copies. A change that raises a number here
//! says why.

use kiln::backend::reference::Reference;
use kiln::grad::grad;
use kiln::ir::{Call, OutputKind, Type};
use kiln::nn::{BatchNorm2d, Conv2d, Flatten, Gpt, Linear, MaxPool2d, Mode, Module, Params, Relu, Sequential};
use kiln::ops::cross_entropy::CrossEntropyOptions;
use kiln::optim::{self, AdamW, StepFeed};
use kiln::plan::{Caps, Limits, Plan, PlanOptions, Region, RegionKind, plan};
use kiln::{Builder, DType, Graph};

/// As a GPU of default limits with every kernel: views are read in place by loops, products and convolutions.
pub struct Ideal {
    /// Its kernels read and write f16.
    pub narrows: bool,
}

impl Caps for Ideal {
    fn limits(&self) -> Limits {
        Limits { max_operands: 15, max_slot_bytes: 128 << 20 }
    }
    fn kernel(&self, call: &Call, args: &[Type]) -> Result<(), String> {
        match call.body.nodes.iter().all(|n| n.prim.is_pointwise() || n.prim.is_view() || n.args.is_empty()) {
            true => Err(String::new()),
            false => Reference::new().kernel(call, args),
        }
    }
    fn supports(&self, _: &Region) -> Result<(), String> {
        Ok(())
    }
    fn reads_strided(&self, region: &Region, _: usize) -> bool {
        matches!(region.kind, RegionKind::Dot | RegionKind::Conv)
    }
    fn narrows(&self) -> bool {
        self.narrows
    }
}

fn step(model: &dyn Module, x: Type, target: Type) -> Graph {
    let b = Builder::new();
    let feed = StepFeed::declare(&b);
    let params = Params::with(&b, Mode::Train, Some(&feed.counter), None);
    let x = b.feed("x", x.dtype, x.shape);
    let target = b.feed("target", target.dtype, target.shape);
    let y = model.forward(&params.scope(), &x);
    let y = y.reshape([target.elems(), y.size(-1)]);
    let loss = y.cross_entropy(&target.reshape([target.elems()]), &CrossEntropyOptions::default());
    let trainable: Vec<_> = params.trainable().into_iter().map(|(_, t)| t).collect();
    let grads = grad(&loss, &trainable.iter().collect::<Vec<_>>());
    optim::apply(&params, &AdamW::new(), &grads, &feed, None);
    b.output("loss", OutputKind::Fetch, &loss);
    b.build().unwrap()
}

pub fn planned(graph: &Graph) -> Plan {
    let plan = plan(graph, &Ideal { narrows: false }, None, &PlanOptions::default()).unwrap();
    println!("{plan}\n{}", plan.summary());
    plan
}

#[test]
fn a_small_cnn() {
    let model = Sequential::new()
        .add(Conv2d::new(1, 16, 3).padding(1))
        .add(BatchNorm2d::new(16))
        .add(Relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(16, 32, 3).padding(1))
        .add(Relu)
        .add(Flatten::new())
        .add(Linear::new(512, 10));
    let plan = planned(&step(&model, Type::new(DType::F32, [32, 1, 8, 8]), Type::new(DType::I32, [32])));
    let total = plan.summary().total() + plan.summary().copies;
    assert!(total <= 50, "{total} steps");
}

#[test]
fn a_small_gpt() {
    let model = Gpt { vocab: 65, context: 32, layers: 2, heads: 4, width: 64, dropout: 0.0, checkpoint: false };
    let plan = planned(&step(&model, Type::new(DType::I32, [4, 32]), Type::new(DType::I32, [4, 32])));
    let total = plan.summary().total() + plan.summary().copies;
    assert!(total <= 154, "{total} steps");
}
