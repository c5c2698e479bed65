//! What the planner makes of small graphs, as text.

use kiln::backend::reference::Reference;
use kiln::ir::OutputKind;
use kiln::plan::{Plan, PlanOptions, RegionKind, Step, plan};
use kiln::{Builder, DType, Graph};

fn planned(graph: &Graph) -> Plan {
    let plan = plan(graph, &Reference::new(), None, &PlanOptions::default()).unwrap();
    println!("{graph}\n{plan}\n{}", plan.summary());
    plan
}

fn kinds(plan: &Plan) -> Vec<RegionKind> {
    let run = |s: &Step| match s {
        Step::Run { region, .. } => Some(region.kind),
        Step::Copy { .. } => None,
    };
    plan.steps.iter().filter_map(run).collect()
}

#[test]
fn a_linear_layer_with_relu_is_one_region() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [8, 3, 4]);
    let w = b.state("w", DType::F32, [5, 4]);
    let bias = b.state("b", DType::F32, [5]);
    let y = (x.matmul(&w.t()) + &bias).maximum(&b.full([1], 0.0));
    b.output("y", OutputKind::Fetch, &y);
    let plan = planned(&b.build().unwrap());
    assert_eq!(kinds(&plan), [RegionKind::Dot]);
}

#[test]
fn an_optimizer_step_is_one_region_in_place() {
    let b = Builder::new();
    let g = b.feed("g", DType::F32, [7, 3]);
    let p = b.state("p", DType::F32, [7, 3]);
    let m = b.state("m", DType::F32, [7, 3]);
    let v = b.state("v", DType::F32, [7, 3]);
    let m1 = &m * 0.9 + &g * 0.1;
    let v1 = &v * 0.99 + g.square() * 0.01;
    let p1 = &p - &m1 / (v1.sqrt() + 1e-8) * 0.1;
    for (name, t) in [("p", &p1), ("m", &m1), ("v", &v1)] {
        b.output(name, OutputKind::State, t);
    }
    let plan = planned(&b.build().unwrap());
    assert_eq!(kinds(&plan), [RegionKind::Pointwise]);
    let Step::Run { region, .. } = &plan.steps[0] else { panic!() };
    assert!(region.in_place.iter().all(Option::is_some));
    assert_eq!(plan.summary().transient_bytes, 0);
}

#[test]
fn a_reduction_takes_what_it_alone_reads() {
    let b = Builder::new();
    let x = b.feed("x", DType::F32, [8, 4]);
    let y = b.feed("y", DType::F32, [8, 4]);
    let loss = (&x - &y).square().mean(&[], false);
    b.output("loss", OutputKind::Fetch, &loss);
    let plan = planned(&b.build().unwrap());
    assert_eq!(kinds(&plan), [RegionKind::Reduce, RegionKind::Pointwise]);
}
