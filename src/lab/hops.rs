//! Attention on graphs: do neighbours and neighbours' neighbours need weights of their own?

use super::material::Run;
use super::{Experiment, Finding, Lab, Plot, Spread, Table};
use crate::data::graph::{Graph, GraphPart};
use crate::dtype::DType;
use crate::error::Result;
use crate::ir::Tensor;
use crate::nn::{Edges, GraphAttention, HopAttention, Linear, Module, Scope, hop_masks};
use crate::optim::AdamW;
use crate::rng::Rng;
use crate::tensor::HostTensor;
use crate::train::{Loss, Trainer};
use std::sync::Arc;

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hops",
    lecture: 11,
    question: "Graph attention: do layers over 1-hop and 2-hop neighbours with weights of their own help?",
    method: "Graphs of 160 nodes with 3 random edges each and 4 random features; a node is among its own neighbours. In one task a node's class says whether the mean of a feature over its neighbours is above the mean over the nodes two edges away, in the other whether \
             the mean over both together is positive. One hidden layer of graph attention (2 heads of 8) and a linear layer learn it from half of the nodes in 300 updates (AdamW, learning rate 0.01): over neighbours alone, over \
             both with shared weights (also with 4 heads, for as many parameters as with their own), over both with their own, and two layers over neighbours. Accuracy on the other nodes.",
    run,
};

const NODES: usize = 160;
const FEATURES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Near,
    /// With so many heads.
    Shared(usize),
    Own,
    Twice,
}

impl Module for Reach {
    #[track_caller]
    fn forward(&self, _: &Scope, x: &Tensor) -> Tensor {
        x.fail("hops", "needs the neighbours".to_string(), std::panic::Location::caller())
    }

    #[track_caller]
    fn forward_all(&self, scope: &Scope, inputs: &[Tensor]) -> Tensor {
        let [nodes, near] = inputs else { return self.forward(scope, &inputs[0]) };
        let x = nodes.reshape([NODES, FEATURES]);
        let near = near.reshape([NODES, NODES]);
        let near = near.cast(DType::F32);
        let hops = hop_masks(&near.gt(&near.like(0.0)), 2, true);
        let layer = |width: usize, heads: usize| GraphAttention::new(width, 8, heads);
        let over = |name: &str, x: &Tensor, mask: &Tensor, heads: usize| {
            layer(x.size(1), heads).attend(&scope.child(name), x, Edges::Mask(mask))
        };
        let y = match self {
            Reach::Near => over("near", &x, &hops[0], 2),
            Reach::Shared(heads) => over("both", &x, &hops[0].or(&hops[1]), *heads),
            Reach::Own => {
                let each = HopAttention { layer: layer(FEATURES, 2) };
                each.attend(scope, &x, &[Edges::Mask(&hops[0]), Edges::Mask(&hops[1])])
            }
            Reach::Twice => over("second", &over("first", &x, &hops[0], 2).relu(), &hops[0], 2),
        };
        scope.run("classes", &Linear::new(y.size(1), 2), &y.relu()).unsqueeze(0)
    }
}

/// A graph, and its nodes in two halves; `apart`: classes compare the two distances.
fn graph(seed: u64, apart: bool) -> Result<[GraphPart; 2]> {
    let mut rng = Rng::named(seed, "graph");
    let mut near = vec![0i32; NODES * NODES];
    for i in 0..NODES {
        near[i * NODES + i] = 1;
        for _ in 0..3 {
            let j = rng.below(NODES);
            (near[i * NODES + j], near[j * NODES + i]) = (1, 1);
        }
    }
    let features: Vec<f32> = (0..NODES * FEATURES).map(|_| rng.normal() as f32).collect();
    let neighbours = |i: usize| (0..NODES).filter(|&j| near[i * NODES + j] == 1).collect::<Vec<_>>();
    let mean = |of: &[usize]| of.iter().map(|&j| features[j * FEATURES]).sum::<f32>() / of.len().max(1) as f32;
    let label = |i: usize| {
        let first = neighbours(i);
        let mut second: Vec<usize> = first.iter().flat_map(|&j| neighbours(j)).filter(|j| !first.contains(j)).collect();
        second.sort_unstable();
        second.dedup();
        let both: Vec<usize> = first.iter().chain(&second).copied().collect();
        i32::from(if apart { mean(&first) > mean(&second) } else { mean(&both) > 0.0 })
    };
    let labels = (0..NODES).map(label).collect();
    let graph = Arc::new(Graph {
        features: HostTensor::f32([NODES, FEATURES], features.clone())?,
        neighbours: HostTensor::i32([NODES, NODES], near.clone())?,
        labels,
    });
    let half = |odd: usize| (0..NODES).filter(|i| i % 2 == odd).collect::<Vec<_>>();
    Ok([GraphPart::new(graph.clone(), &half(0)), GraphPart::new(graph, &half(1))])
}

fn run(lab: &Lab) -> Result<Finding> {
    let models = [
        (Reach::Near, "neighbours alone"),
        (Reach::Shared(2), "both, shared weights"),
        (Reach::Shared(4), "both, shared weights, 4 heads"),
        (Reach::Own, "both, weights of their own"),
        (Reach::Twice, "two layers over neighbours"),
    ];
    let columns = ["class says", "model", "training loss", "accuracy"];
    let mut table = Table::new("Accuracy on the other half of the nodes", &columns);
    let (mut plots, mut verdicts) = (Vec::new(), Vec::new());
    for (apart, task) in [(true, "near against far"), (false, "near and far together")] {
        let mut plot =
            Plot { title: format!("Training loss, {task}"), x: "updates / 10", logarithmic: true, ..Plot::default() };
        let mut ends = Vec::new();
        for (model, name) in models {
            let runs = lab.seeds(&format!("{task}, {name}"), |seed| {
                let [train, test] = graph(seed, apart)?;
                let mut trainer =
                    Trainer::new(lab.device(), model, Loss::cross_entropy(), AdamW::new(), 0.01).seed(seed);
                let losses =
                    (0..lab.epochs(30)).map(|_| Ok(trainer.fit(&train, 1, 10)?.loss())).collect::<Result<_>>()?;
                Ok(Run { curve: losses, held_out: trainer.evaluate(&test, &[0], 1)?.accuracy() })
            })?;
            ends.push(Run::enter(&runs, (&mut table, &mut plot), name, vec![task.into(), name.into()]).1);
        }
        let guess = Spread::of(lab.seeds("guessing", |seed| Ok(graph(seed, apart)?[1].most_frequent()))?);
        table.row(vec![task.into(), "the most frequent class".into(), "-".into(), guess.percent()]);
        let [near, shared, wide, own, twice] = ends[..] else { return Ok(Finding::default()) };
        verdicts.push(format!(
            "Where the class says {task}, weights of their own reach {}; shared ones {}, {}, with 4 heads {}, {}; neighbours alone {}, two layers over them {}, guessing {}",
            own.percent(),
            shared.percent(),
            shared.against(&own),
            wide.percent(),
            wide.against(&own),
            near.percent(),
            twice.percent(),
            guess.percent()
        ));
        plots.push(plot);
    }
    let answer = format!("It depends on what the class says. {}.", verdicts.join(". "));
    Ok(Finding { answer, tables: vec![table], plots, ..Finding::default() })
}
