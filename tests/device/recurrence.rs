//! What one more step of a sequence costs a recurrent network, on plans for the CPU path and for software adapters: one
//! product and at most one pointwise region, which is the whole cell, forward and again backward (where that region also
//! writes the gradients of the gates as one matrix), one launch each, and no more products for the weights' gradients. This
//! is why cells have no hand-written kernel (see `ops::rnn`).

use kiln::grad::grad;
use kiln::ir::OutputKind;
use kiln::nn::{Gru, Lstm, Mode, Module, Params, Rnn, RnnConfig};
use kiln::plan::Step;
use kiln::{Builder, DType, Device, Program, Store};
use std::collections::BTreeMap;

/// How many regions of each kind (and copies) and how many kernel launches a program has for so many steps.
fn counts(device: &Device, net: &dyn Module, steps: usize, training: bool) -> (BTreeMap<String, i64>, i64) {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let x = b.feed("x", DType::F32, [steps, 8, 16]);
    let y = net.forward(&params.scope(), &x);
    b.output("y", OutputKind::Fetch, &y);
    if training {
        let loss = y.square().mean(&[], false);
        let trainable = params.trainable();
        let grads = grad(&loss, &trainable.iter().map(|(_, t)| t).collect::<Vec<_>>());
        for ((name, _), g) in trainable.iter().zip(&grads) {
            b.output(format!("{name}.grad"), OutputKind::Fetch, g);
        }
    }
    let store = Store::new(device);
    for (name, value) in params.init(1).unwrap() {
        store.insert(name, &value).unwrap();
    }
    let program = Program::compile(&store, b.build().unwrap()).unwrap();
    let mut kinds = BTreeMap::new();
    for step in &program.plan().steps {
        let kind = match step {
            Step::Run { region, .. } => format!("{:?}", region.kind),
            Step::Copy { .. } => "Copy".into(),
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    (kinds, program.stats().dispatches as i64)
}

/// For each network: the regions that one more step adds forward, and forward and backward together, each of them one launch.
type Expected = (&'static str, Box<dyn Module>, [&'static [(&'static str, i64)]; 2]);

fn expected() -> Vec<Expected> {
    let config = || RnnConfig::new(16, 32);
    let cell: &[(&str, i64)] = &[("Dot", 1), ("Pointwise", 1)];
    let both: &[(&str, i64)] = &[("Dot", 2), ("Pointwise", 2)];
    vec![
        // The cell is the epilogue of its product.
        ("rnn", Box::new(Rnn::new(config())), [&[("Dot", 1)], &[("Dot", 2)]]),
        ("lstm", Box::new(Lstm::new(config())), [cell, both]),
        ("gru", Box::new(Gru::new(config())), [cell, both]),
    ]
}

fn one_more_step(device: &Device) {
    for (name, net, expected) in expected() {
        for (training, regions) in [false, true].into_iter().zip(expected) {
            let (more, more_launches) = counts(device, &*net, 7, training);
            let (less, less_launches) = counts(device, &*net, 6, training);
            let added = more.iter().map(|(k, n)| (k.as_str(), n - less.get(k).unwrap_or(&0)));
            let added: BTreeMap<&str, i64> = added.filter(|(_, n)| *n != 0).collect();
            assert_eq!(added, regions.iter().copied().collect(), "{name} training {training}");
            let added = more_launches - less_launches;
            assert_eq!(added, regions.iter().map(|r| r.1).sum::<i64>(), "{name} training {training}: launches");
        }
    }
}

#[test]
fn on_the_cpu() {
    one_more_step(&Device::open("cpu").unwrap());
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn on_a_software_adapter() {
    match Device::open("software") {
        Ok(device) => one_more_step(&device),
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}
