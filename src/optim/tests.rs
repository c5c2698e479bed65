//! Optimizers and schedules against literals worked out by hand and f64 formulas, the guard, groups, and averages.

use crate::backend::{Device, Program, Store};
use crate::dtype::DType;
use crate::ir::{Builder, OutputKind};
use crate::nn::{Init, Mode, Params};
use crate::optim::schedule::Plateau;
use crate::optim::step::{LAST_SKIPPED, SKIPPED};
use crate::optim::wrap::fits;
use crate::optim::*;
use crate::tensor::HostTensor;

/// Parameters `a` and `b` of these contents with given gradients, updated on the reference.
struct Rig {
    store: Store,
    program: Program,
    step: u32,
    lr: f64,
}

impl Rig {
    fn new(optimizer: &dyn Optimizer, lr: f64, clip: Option<Clip>, a: &[f32], b: &[f32]) -> Rig {
        let builder = Builder::new();
        let feed = StepFeed::declare(&builder);
        let params = Params::new(&builder, Mode::Train);
        let store = Store::new(&Device::open("reference").unwrap());
        let mut grads = Vec::new();
        for (name, value) in [("a", a), ("b", b)] {
            params.scope().param(name, [value.len()], Init::ZEROS);
            store.insert(name, &HostTensor::f32([value.len()], value.to_vec()).unwrap()).unwrap();
            grads.push(builder.feed(format!("g{name}"), DType::F32, [value.len()]));
        }
        let count = params.scope().buffer("seen", [1], Init::ZEROS);
        params.scope().update("seen", &(&count + 1.0));
        store.insert("seen", &HostTensor::zeros(DType::F32, [1])).unwrap();
        let applied = apply(&params, optimizer, &grads, &feed, clip);
        builder.output("norm", OutputKind::Fetch, &applied.grad_norm);
        for (name, value) in crate::nn::scope::init(&applied.states, 0).unwrap() {
            store.insert(name, &value).unwrap();
        }
        let program = Program::compile(&store, builder.build().unwrap()).unwrap();
        Rig { store, program, step: 0, lr }
    }

    /// One step; returns the norm of the gradients.
    fn step(&mut self, a: &[f32], b: &[f32]) -> f32 {
        let values = StepFeed::values(7, self.step, 0, self.lr).unwrap();
        let (a, b) = (HostTensor::f32([a.len()], a.to_vec()).unwrap(), HostTensor::f32([b.len()], b.to_vec()).unwrap());
        let mut feeds: Vec<(&str, &HostTensor)> = values.iter().map(|(n, t)| (*n, t)).collect();
        feeds.extend([("ga", &a), ("gb", &b)]);
        self.step += 1;
        self.program.run(&feeds).unwrap()[0].item().unwrap()
    }

    fn get(&self, name: &str) -> Vec<f64> {
        self.store.get(name).unwrap().to_f64()
    }
}

#[track_caller]
fn close(got: &[f64], want: &[f64], rel: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        let fits = (g - w).abs() <= rel * w.abs().max(1e-30);
        assert!(fits, "{got:?} instead of {want:?}");
    }
}

#[test]
fn sgd_by_hand() {
    let mut rig = Rig::new(&Sgd::new().momentum(0.5), 0.1, None, &[1.0, 2.0], &[3.0]);
    assert_eq!(rig.step(&[1.0, -2.0], &[2.0]), 3.0);
    // b = g; p -= 0.1 g
    close(&rig.get("a"), &[0.9, 2.2], 1e-6);
    close(&rig.get("b"), &[2.8], 1e-6);
    rig.step(&[1.0, 0.0], &[0.0]);
    // b = 0.5 b + g = [1.5, -1], [1]
    close(&rig.get("a"), &[0.75, 2.3], 1e-6);
    close(&rig.get("b"), &[2.7], 1e-6);
    close(&rig.get("optim.a.momentum_buffer"), &[1.5, -1.0], 1e-6);
    assert_eq!(rig.get("seen"), [2.0]);

    // Nesterov: b = 1, p -= 0.1 (1 + 0.5) = 0.85; dampening 0.5: b = g first, then 0.5 + 0.5 = 1.
    let mut rig = Rig::new(&Sgd::new().momentum(0.5).nesterov(), 0.1, None, &[1.0], &[1.0]);
    rig.step(&[1.0], &[0.0]);
    close(&rig.get("a"), &[0.85], 1e-6);
    let damped = Sgd { dampening: 0.5, ..Sgd::new().momentum(0.5) };
    let mut rig = Rig::new(&damped, 0.1, None, &[1.0], &[1.0]);
    rig.step(&[1.0], &[0.0]);
    rig.step(&[1.0], &[0.0]);
    close(&rig.get("optim.a.momentum_buffer"), &[1.0], 1e-6);
    close(&rig.get("a"), &[0.8], 1e-6);
}

#[test]
fn adam_follows_f64_for_a_hundred_steps() {
    // The gradient of a quadratic with curvatures 1, 10, 0.1, recomputed from the present parameters.
    let (curvature, start) = ([1.0, 10.0, 0.1], [1.0f32, -2.0, 3.0]);
    for (amsgrad, decay) in [(false, 0.0), (true, 0.1)] {
        let rule = AdamW { amsgrad, weight_decay: decay, ..AdamW::new() };
        let mut rig = Rig::new(&rule, 0.01, None, &start, &[0.0]);
        let (mut p, mut m, mut v, mut top) = (start.map(f64::from), [0.0; 3], [0.0; 3], [0.0f64; 3]);
        for t in 1..=100 {
            let given: Vec<f32> = (0..3).map(|i| (rig.get("a")[i] * curvature[i]) as f32).collect();
            for i in 0..3 {
                let g = p[i] * curvature[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                top[i] = top[i].max(v[i]);
                let w = if amsgrad { top[i] } else { v[i] };
                let step = m[i] / (1.0 - 0.9f64.powi(t)) / ((w / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
                p[i] = p[i] * (1.0 - 0.01 * decay) - 0.01 * step;
            }
            rig.step(&given, &[0.0]);
        }
        close(&rig.get("a"), &p, 1e-5);
    }
}

#[test]
fn bias_corrections_keep_their_digits() {
    let builder = Builder::new();
    let t = builder.feed("t", DType::F32, crate::Shape::default());
    let cx = UpdateCx::new(&builder, &t, &t);
    let bases = [0.9, 0.99, 0.999, 0.9999];
    for (i, &b) in bases.iter().enumerate() {
        builder.output(format!("{i}"), OutputKind::Fetch, &cx.one_minus_pow(b));
        builder.output(format!("r{i}"), OutputKind::Fetch, &adam_family::rectified_length(&cx, b));
    }
    let store = Store::new(&Device::open("reference").unwrap());
    let mut program = Program::compile(&store, builder.build().unwrap()).unwrap();
    for t in [1, 2, 3, 5, 6, 10, 99, 100, 101, 700, 1000, 1386, 5000, 100_000] {
        let outs = program.run(&[("t", &HostTensor::scalar(t as f32))]).unwrap();
        for (pair, b) in outs.chunks(2).zip(bases) {
            let exact = -(t as f64 * b.ln()).exp_m1();
            // One rounding each of ln b, the product and expm1, and the exponent's condition (at most 1).
            close(&pair[0].to_f64(), &[exact], 4.0 * f64::from(f32::EPSILON));
            let inf = 2.0 / (1.0 - b) - 1.0;
            let r = inf - 2.0 * t as f64 * b.powi(t) / exact;
            // 2e-6: some ten roundings of the two formulas; a plain f32 evaluation is off by 1e-4 and more.
            close(&pair[1].to_f64(), &[r], 2e-6);
        }
    }
}

#[test]
fn an_update_that_is_not_finite_leaves_everything_as_it_was() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut rig = Rig::new(&Adam::new(), 0.1, Some(Clip::Norm(1.0)), &[1.0, 2.0], &[3.0]);
        let mut calm = Rig::new(&Adam::new(), 0.1, Some(Clip::Norm(1.0)), &[1.0, 2.0], &[3.0]);
        rig.step(&[0.5, 0.25], &[-1.0]);
        calm.step(&[0.5, 0.25], &[-1.0]);
        assert!(!rig.step(&[0.5, bad], &[0.5]).is_finite());
        for name in calm.store.names().iter().filter(|n| !n.starts_with("status.")) {
            assert_eq!(rig.get(name), calm.get(name), "{name}");
        }
        assert_eq!((rig.get(SKIPPED), rig.get(LAST_SKIPPED)), (vec![1.0], vec![2.0]));
        // As if the step had not been.
        rig.step(&[0.1, 0.2], &[0.3]);
        calm.step(&[0.1, 0.2], &[0.3]);
        for name in calm.store.names().iter().filter(|n| !n.starts_with("status.")) {
            assert_eq!(rig.get(name), calm.get(name), "{name}");
        }
        assert_eq!((rig.get(SKIPPED), rig.get(LAST_SKIPPED)), (vec![1.0], vec![2.0]));
        assert_eq!(calm.get(SKIPPED), [0.0]);
    }
}

#[test]
fn clipping() {
    // The norm is 5: everything is scaled by 2 / 5 (and the 1e-6 of the formula).
    let mut rig = Rig::new(&Sgd::new(), 1.0, Some(Clip::Norm(2.0)), &[0.0, 0.0], &[0.0]);
    assert_eq!(rig.step(&[3.0, 0.0], &[4.0]), 5.0);
    close(&rig.get("a"), &[-1.2, 0.0], 1e-6);
    close(&rig.get("b"), &[-1.6], 1e-6);
    // Below the limit nothing changes.
    let mut rig = Rig::new(&Sgd::new(), 1.0, Some(Clip::Norm(9.0)), &[0.0, 0.0], &[0.0]);
    rig.step(&[3.0, 0.0], &[4.0]);
    close(&rig.get("b"), &[-4.0], 0.0);
    let mut rig = Rig::new(&Sgd::new(), 1.0, Some(Clip::Value(0.5)), &[0.0, 0.0], &[0.0]);
    rig.step(&[3.0, -0.25], &[-4.0]);
    close(&rig.get("a"), &[-0.5, 0.25], 0.0);
    close(&rig.get("b"), &[0.5], 0.0);
}

#[test]
fn groups_freeze_and_scale() {
    assert!(fits("*.bias", "h.0.ln.bias") && fits("h.*.w*", "h.12.weight") && fits("a", "a") && fits("*", ""));
    assert!(!fits("*.bias", "bias") && !fits("a", "ab") && !fits("h.*.w", "h.0.b"));
    let group = |pattern: &str, lr_scale, optimizer| Group { pattern: pattern.into(), lr_scale, optimizer };
    let rule = Groups {
        groups: vec![group("a", 1.0, None), group("*", 0.5, Some(Box::new(Sgd::new()) as Box<dyn Optimizer>))],
        rest: Box::new(Adam::new()),
    };
    let mut rig = Rig::new(&rule, 0.1, None, &[1.0], &[1.0]);
    rig.step(&[1.0], &[1.0]);
    assert_eq!(rig.get("a"), [1.0]);
    close(&rig.get("b"), &[0.95], 1e-6);
}

#[test]
fn averages_of_weights() {
    let mut rig = Rig::new(&Ema { inner: Box::new(Sgd::new()), decay: 0.75 }, 1.0, None, &[1.0], &[0.0]);
    rig.step(&[-4.0], &[0.0]);
    // w = 5; e = 0.75 * 1 + 0.25 * 5 = 2
    close(&rig.get(&Ema::state_name("a")), &[2.0], 1e-6);
    rig.step(&[-1.0], &[0.0]);
    // w = 6; e = 0.75 * 2 + 0.25 * 6 = 3
    close(&rig.get(&Ema::state_name("a")), &[3.0], 1e-6);
}

#[test]
fn schedules_by_hand() {
    let at = |s: &Schedule, ts: &[u64]| ts.iter().map(|&t| s.lr(1.0, t)).collect::<Vec<_>>();
    let tight = |got: Vec<f64>, want: &[f64]| close(&got, want, 1e-12);
    assert_eq!(at(&Schedule::Constant, &[0, 9]), [1.0, 1.0]);
    tight(at(&Schedule::Step { step_size: 2, gamma: 0.5 }, &[0, 1, 2, 3, 4]), &[1.0, 1.0, 0.5, 0.5, 0.25]);
    tight(at(&Schedule::MultiStep { milestones: vec![1, 3], gamma: 0.1 }, &[0, 1, 2, 3]), &[1.0, 0.1, 0.1, 0.01]);
    tight(at(&Schedule::Cosine { t_max: 4, eta_min: 0.2 }, &[0, 2, 4, 8]), &[1.0, 0.6, 0.2, 1.0]);
    let s = Schedule::WarmupCosine { warmup: 4, total: 8, min_lr: 0.0 };
    tight(at(&s, &[0, 1, 3, 4, 6]), &[0.25, 0.5, 1.0, 1.0, 0.5]);
    assert!(at(&s, &[8, 100]).iter().all(|x| x.abs() < 1e-12));
    let s = Schedule::CosineRestarts { t_0: 2, t_mult: 2, eta_min: 0.0 };
    tight(at(&s, &[0, 1, 2, 4, 6]), &[1.0, 0.5, 1.0, 0.5, 1.0]);
    // Beyond the first restart of a very long run, without a loop over its periods.
    tight(at(&Schedule::CosineRestarts { t_0: 2, t_mult: 1, eta_min: 0.0 }, &[u64::MAX]), &[0.5]);
    tight(at(&Schedule::Noam { d_model: 4, warmup: 4 }, &[0, 3, 15]), &[0.0625, 0.25, 0.125]);
    let text = serde_json::to_string(&s).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), s);
    let parsed: Schedule = serde_json::from_str(r#"{"kind": "step", "step_size": 3}"#).unwrap();
    assert_eq!(parsed, Schedule::Step { step_size: 3, gamma: 0.1 });
    assert!(serde_json::from_str::<Schedule>(r#"{"kind": "step", "step_size": 3, "gama": 1}"#).is_err());
}

#[test]
fn a_plateau_continues_from_its_saved_state() {
    let schedule = Schedule::Plateau(Plateau { factor: 0.5, patience: 1, cooldown: 1, ..Plateau::default() });
    let mut s = Scheduler::new(1.0, schedule);
    let mut rates = Vec::new();
    for (i, metric) in [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, f64::NAN].into_iter().enumerate() {
        if i == 4 {
            s = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
        }
        s.observe(metric);
        rates.push(s.lr(0));
    }
    // 1 best; 2 bad; 3 cut; 4 cools down; 5 bad; 6 cut; 7 cools down; 8 (NaN is not better) bad.
    assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]);
}

#[test]
fn swats_turns_from_adam_into_sgd() {
    // A tolerance that the second step meets: gradients that stay the same make every Adam step lr sign(g), up to eps.
    let rule = Swats { tolerance: 1e-4, eps: 0.0, ..Swats::default() };
    let mut rig = Rig::new(&rule, 0.1, None, &[1.0, 2.0], &[3.0]);
    let g = ([1.0, -2.0], [2.0]);
    rig.step(&g.0, &g.1);
    // The first step never switches. d = -0.1 sign(g): r = 0.03 / 0.5 = 0.06 at every step, and so is its average.
    assert_eq!(rig.get("optim.sgd_ratio"), [0.0]);
    close(&rig.get("a"), &[0.9, 2.1], 1e-5);
    rig.step(&g.0, &g.1);
    close(&rig.get("optim.sgd_ratio"), &[0.6], 1e-4);
    close(&rig.get("a"), &[0.8, 2.2], 1e-5);
    rig.step(&g.0, &g.1);
    // u = g, p -= 0.1 * 0.06 u; then u = 1.9 g.
    close(&rig.get("a"), &[0.794, 2.212], 1e-5);
    close(&rig.get("b"), &[2.788], 1e-5);
    rig.step(&g.0, &g.1);
    close(&rig.get("a"), &[0.7826, 2.2348], 1e-5);
    close(&rig.get("optim.sgd_ratio"), &[0.6], 1e-4);
}

/// Within f32's roundings of a few operations on numbers near 1.
#[track_caller]
fn tight(got: Vec<f64>, want: &[f64]) {
    close(&got, want, 1e-6);
}

/// By hand, from p = 1 with gradients 1 and 2, lr 0.1 then 0.05, momentum 0.5.
#[test]
fn three_forms_of_momentum() {
    let two_steps = |sgd: Sgd| {
        let mut rig = Rig::new(&sgd, 0.1, None, &[1.0], &[0.0]);
        rig.step(&[1.0], &[0.0]);
        rig.lr = 0.05;
        rig.step(&[2.0], &[0.0]);
        rig.get("a")
    };
    let sgd = || Sgd::new().momentum(0.5);
    // torch: b = 1, p = 0.9; b = 2.5, p = 0.9 - 0.125.
    tight(two_steps(sgd()), &[0.775]);
    // m = -0.1, p = 0.9; m = -0.05 - 0.1, p = 0.75.
    tight(two_steps(sgd().form(MomentumForm::Velocity)), &[0.75]);
    // m = -0.1, p += -0.05 - 0.1 = 0.85; m = -0.15, p += -0.075 - 0.1.
    tight(two_steps(sgd().form(MomentumForm::Velocity).nesterov()), &[0.675]);
    // v = 0.5, p = 0.95; v = 0.25 + 1, p = 0.95 - 0.0625.
    tight(two_steps(sgd().form(MomentumForm::Average)), &[0.8875]);
}

/// The momentum is an input of one program: two steps with 0.5 and 0.25 through the same graph.
#[test]
fn a_schedule_moves_the_momentum() {
    let moved = |optimizer: &dyn Optimizer| {
        let builder = Builder::new();
        let feed = StepFeed::with(&builder, true);
        let params = Params::new(&builder, Mode::Train);
        params.scope().param("a", [1], Init::ONES);
        let g = builder.feed("g", DType::F32, [1]);
        let applied = apply(&params, optimizer, &[g], &feed, None);
        let store = Store::new(&Device::open("reference").unwrap());
        let states = crate::nn::scope::init(&applied.states, 0).unwrap();
        for (name, value) in params.init(0).unwrap().into_iter().chain(states) {
            store.insert(name, &value).unwrap();
        }
        let mut program = Program::compile(&store, builder.build().unwrap()).unwrap();
        for (step, (gradient, momentum)) in [(1.0, 0.5), (2.0, 0.25)].into_iter().enumerate() {
            let g = HostTensor::f32([1], vec![gradient]).unwrap();
            let values = StepFeed::values_with(7, step as u32, 0, 0.1, Some(momentum)).unwrap();
            let mut feeds: Vec<(&str, &HostTensor)> = values.iter().map(|(n, t)| (*n, t)).collect();
            feeds.push(("g", &g));
            program.run(&feeds).unwrap();
        }
        store.get("a").unwrap().to_f64()
    };
    // b = 1, p = 0.9; b = 0.25 + 2, p = 0.9 - 0.225. Also where the optimizer's own momentum is 0.
    tight(moved(&Sgd::new().momentum(0.9)), &[0.675]);
    tight(moved(&Sgd::new()), &[0.675]);
    // m = 0.5, v = 0.001: step 0.1 (0.5/0.5) / sqrt(0.001/0.001) = 0.1; then m = 0.125 + 1.5 over 1 - 0.25^2, v = 0.000999 +
    // 0.004 over 1 - 0.999^2.
    let second = 0.1 * (1.625 / 0.9375) / (0.004999f64 / (1.0 - 0.999f64.powi(2))).sqrt();
    tight(moved(&Adam { eps: 0.0, ..Adam::new() }), &[0.9 - second]);
    let cycle = Schedule::OneCycle {
        max_lr: 1.0,
        total_steps: 10,
        pct_start: 0.5,
        anneal: schedule::Anneal::Linear,
        div_factor: 25.0,
        final_div_factor: 1e4,
        three_phase: false,
        momentum: Some((0.85, 0.95)),
    };
    tight([0, 4, 9].map(|t| cycle.momentum(t).unwrap()).to_vec(), &[0.95, 0.85, 0.95]);
}

#[test]
fn warm_up_before_any_schedule() {
    let after = |then: Schedule| Schedule::Warmup { steps: 4, start_factor: 0.2, then: Box::new(then) };
    let cosine = after(Schedule::Cosine { t_max: 4, eta_min: 0.0 });
    let rates = |s: &Schedule| [0, 1, 3, 4, 6, 8].map(|t| s.lr(2.0, t)).to_vec();
    // torch: SequentialLR([LinearLR(0.2, total_iters=4), CosineAnnealingLR(4)], milestones=[4]) at lr 2.
    let got = rates(&cosine);
    tight(got[..5].to_vec(), &[0.4, 0.8, 1.6, 2.0, 1.0]);
    assert!(got[5].abs() < 1e-12);
    let mut plateau = Scheduler::new(1.0, after(Schedule::Plateau(Plateau { patience: 0, ..Plateau::default() })));
    tight(vec![plateau.lr(2), plateau.lr(9)], &[0.6, 1.0]);
    plateau.observe(1.0);
    plateau.observe(1.0);
    tight(vec![plateau.lr(9)], &[0.1]);
    let text = serde_json::to_string(&cosine).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), cosine);
}
