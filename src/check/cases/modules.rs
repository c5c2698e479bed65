//! Modules of `nn` that are more than one operation: forward, and derivatives of both orders by their inputs and all their
//! parameters, which are inputs of the case. Not here: networks with comparisons deep inside (the whole transformer, the
//! spatial transformer), which bounds cannot decide; `tests/device/modules.rs` compares those with PyTorch and by differences.

use crate::check::case::{Case, Gen};
use crate::ir::{Builder, Tensor};
use crate::nn::*;
use std::sync::Arc;

/// A module on its scope and its inputs.
type Forward = Arc<dyn Fn(&Scope, &[Tensor]) -> Tensor + Send + Sync>;

/// A case with inputs of these shapes, and the parameters that the module then declares. Training mode; buffers are 1.
fn module(
    name: &str,
    shapes: &[&[usize]],
    forward: impl Fn(&Scope, &[Tensor]) -> Tensor + Send + Sync + 'static,
) -> Case {
    let (forward, inputs): (Forward, usize) = (Arc::new(forward), shapes.len());
    let b = Builder::new();
    let feeds: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, s)| b.feed(format!("{i}"), crate::DType::F32, *s)).collect();
    let params = Params::new(&b, Mode::Train);
    forward(&params.scope(), &feeds);
    let specs = params.specs();
    let build = {
        let specs = specs.clone();
        move |b: &Builder, t: &[Tensor]| {
            let mut scope = Params::new(b, Mode::Train).scope();
            let mut parameters = t[inputs..].iter();
            for spec in &specs {
                let value = match spec.trainable {
                    true => parameters.next().cloned(),
                    false => None,
                };
                let ty = spec.ty.clone();
                let value = value.unwrap_or_else(|| b.full(ty.shape.clone(), 1.0).cast(ty.dtype));
                scope = scope.replacing(&spec.name, move |_, _, _| value.clone());
            }
            vec![forward(&scope, &t[..inputs])]
        }
    };
    let shapes = shapes.iter().map(|s| crate::Shape::from(*s));
    let all = shapes.chain(specs.into_iter().filter(|s| s.trainable).map(|s| s.ty.shape));
    all.fold(Case::new(format!("module/{name}"), build), |case, shape| case.f32(shape, Gen::Normal(0.0, 0.6))).grad()
}

fn one(name: &str, shape: &[usize], m: impl Module + Send + Sync + 'static) -> Case {
    module(name, &[shape], move |s, t| m.forward(s, &t[0]))
}

/// The edges of a small graph, one of them twice and the last two padding: i32 (2, 7) and bool (7).
fn edges(b: &Builder) -> (Tensor, Tensor) {
    let row = |nodes: [f64; 7]| {
        let parts: Vec<Tensor> = nodes.iter().map(|&n| b.full([1, 1], n)).collect();
        Tensor::cat(&parts.iter().collect::<Vec<_>>(), 1).cast(crate::DType::I32)
    };
    let (from, to) = (row([0.0, 1.0, 2.0, 1.0, 3.0, 0.0, 0.0]), row([0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0]));
    (Tensor::cat(&[&from, &to], 0), b.iota(7).lt(&b.iota(7).like(5.0)))
}

pub(super) fn cases() -> Vec<Case> {
    let heads = |form| SelfAttention::new(6, 2, form);
    vec![
        one("conv1d", &[2, 4, 9], Conv1d::new(4, 6, 3).stride(2).padding(1).groups(2)),
        one("conv_transpose2d", &[2, 4, 3, 5], ConvTranspose2d::new(4, 6, 3).stride(2).padding(1).groups(2)),
        one("instance_norm1d", &[2, 3, 5], InstanceNorm1d::new(3).affine()),
        one("rms_norm", &[5, 7], RmsNorm::new([7])),
        // The paper takes r and d for constants: the differences of finite steps see them move.
        Case { grad: false, ..one("batch_renorm", &[6, 3], BatchRenorm::new(3).limits(1.5, 0.5)) },
        one("weight_norm", &[4, 5], WeightNorm::new(Linear::new(5, 3))),
        one("glu", &[3, 8], Glu::default()),
        one("attention/windowed", &[2, 7, 6], heads(Form::Windowed { window: 2, is_causal: false })),
        one("attention/linear", &[2, 7, 6], heads(Form::Linear { is_causal: true })),
        one("attention/linear, by pieces", &[1, 140, 2], SelfAttention::new(2, 1, Form::Linear { is_causal: true })),
        one(
            "attention/distance_decay",
            &[2, 6, 6],
            heads(Form::DistanceDecay { decay: 0.3, grid_width: Some(3), learned: true }),
        ),
        one("attention/additive", &[2, 5, 4], AdditiveAttention { query_dim: 4, key_dim: 4, hidden: 3 }),
        one(
            "attention/rotary",
            &[5, 2, 8],
            MultiheadAttention {
                rotary: Some(Rotary { max_len: 9, ..Rotary::new(4) }),
                ..MultiheadAttention::new(8, 2)
            },
        ),
        module("attention/relative", &[&[5, 2, 8]], |s, t| {
            let bias = RelativeBias { heads: 2, max_distance: 3 }.bias(&s.child("bias"), 5, 5);
            let bias = bias + Alibi::new(2).bias(s.builder(), 5, 5);
            let options = MultiheadOptions { attn_mask: Some(&bias), ..Default::default() };
            MultiheadAttention::new(8, 2).attend(s, &t[0], &t[0], &t[0], &options).0
        }),
        one("conformer", &[5, 2, 6], ConformerLayer::new(6, 7, 2, 3)),
        one("sagan_attention", &[2, 9, 3, 2], SaganAttention::new(9)),
        module("graph_attention/mask", &[&[4, 3]], |s, t| {
            let i = s.builder().iota(4);
            let mask = i.unsqueeze(1).le(&(i.unsqueeze(0) + 1.0));
            GraphAttention::new(3, 2, 2).attend(s, &t[0], Edges::Mask(&mask))
        }),
        module("graph_attention/edges", &[&[4, 3]], |s, t| {
            let (index, valid) = edges(s.builder());
            let layer = GraphAttention { concat: false, ..GraphAttention::new(3, 2, 2) };
            layer.attend(s, &t[0], Edges::List { index: &index, valid: Some(&valid) })
        }),
    ]
}
