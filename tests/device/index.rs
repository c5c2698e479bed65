//! An index out of range is an error that names the operation, the index and where it stands, on every device, whether
//! the index was given from outside or computed; an ignored target and padding are none.

use kiln::nn::{Edges, Embedding, GraphAttention, Mode, Module, Params};
use kiln::ops::cross_entropy::CrossEntropyOptions;
use kiln::{Builder, DType, Device, HostTensor, Program, Store, Tensor};

/// Appends an operation on a table of four entries (4, 3) by these indices (3).
type Op = fn(&Params, &Tensor, &Tensor) -> Tensor;

/// What it is, what the error calls it (or part of that; empty where several operations may be the first), the operation.
fn ops() -> Vec<(&'static str, &'static str, Op)> {
    vec![
        ("embedding", "take", |p, _, i| Embedding::new(4, 2).forward(&p.scope(), i)),
        ("take", "take", |_, x, i| x.take(i)),
        ("index_select", "take", |_, x, i| x.t().index_select(1, i)),
        ("gather", "take_along", |_, x, i| x.gather(0, &i.reshape([1, 3]))),
        ("scatter_add", "scatter_add_along", |_, x, i| x.scatter_add(0, &i.reshape([1, 3]), &x.narrow(0, 0, 1))),
        ("one_hot", "take", |_, _, i| i.one_hot(4)),
        // The reference runs its body, and names the lookup there.
        ("cross_entropy", "", |_, x, i| x.t().cross_entropy(i, &CrossEntropyOptions::default())),
        ("nll_loss", "take_along", |_, x, i| x.t().nll_loss(i, &CrossEntropyOptions::default())),
        ("weighted cross_entropy", "", |_, x, i| {
            let weight = x.narrow(1, 0, 1).reshape([4]);
            let o = CrossEntropyOptions { weight: Some(&weight), label_smoothing: 0.1, ..Default::default() };
            x.t().cross_entropy(i, &o)
        }),
        ("an edge's start", "take", |p, x, i| {
            let edges = Tensor::cat(&[&i.unsqueeze(0), &i.like(1.0).unsqueeze(0)], 0);
            GraphAttention::new(3, 2, 1).attend(&p.scope(), x, Edges::List { index: &edges, valid: None })
        }),
        ("an edge's end", "", |p, x, i| {
            let edges = Tensor::cat(&[&i.like(1.0).unsqueeze(0), &i.unsqueeze(0)], 0);
            GraphAttention::new(3, 2, 1).attend(&p.scope(), x, Edges::List { index: &edges, valid: None })
        }),
    ]
}

/// The result of an operation for these indices; `computed`: they are made on the device, from floats.
fn result(device: &Device, op: Op, indices: [i32; 3], computed: bool) -> kiln::Result<Vec<HostTensor>> {
    let b = Builder::new();
    let params = Params::new(&b, Mode::Train);
    let x = b.feed("x", DType::F32, [4, 3]);
    let (index, given) = if computed {
        let halves = indices.iter().map(|&i| i as f32 / 2.0).collect();
        ((b.feed("i", DType::F32, [3]) * 2.0).cast(DType::I32), HostTensor::f32([3], halves)?)
    } else {
        (b.feed("i", DType::I32, [3]), HostTensor::i32([3], indices.to_vec())?)
    };
    let y = op(&params, &x, &index);
    b.output("y", kiln::ir::OutputKind::Fetch, &y);
    let store = Store::new(device);
    for (name, value) in params.init(1)? {
        store.insert(name, &value)?;
    }
    let data = HostTensor::f32([4, 3], (0..12).map(|i| (i as f32).sin()).collect())?;
    Program::compile(&store, b.build()?)?.run(&[("x", &data), ("i", &given)])
}

fn names_the_index(device: &Device) {
    for (name, reported, op) in ops() {
        for computed in [false, true] {
            for bad in [4, -1, i32::MAX / 2] {
                // The conversion to floats and back is exact for halves of small numbers only.
                let bad = if computed && bad > 4 { 1 << 20 } else { bad };
                let text = match result(device, op, [2, bad, 0], computed) {
                    Err(e) => e.to_string(),
                    Ok(y) => panic!("{name} took index {bad}: {:?}", y[0]),
                };
                assert!(text.contains(reported) && text.contains(&bad.to_string()), "{name}: {text}");
                assert!(text.contains("out of range") || text.contains("is not in 0..4"), "{name}: {text}");
            }
            result(device, op, [2, 3, 0], computed).unwrap();
        }
    }
    let ignored = |_: &Params, x: &Tensor, i: &Tensor| x.t().cross_entropy(i, &CrossEntropyOptions::default());
    assert!(result(device, ignored, [2, -100, 0], false).unwrap()[0].to_f64()[0].is_finite());
    let text = result(device, ignored, [2, -100, 7], false).unwrap_err().to_string();
    assert!(text.contains('7'), "{text}");
}

#[test]
fn on_the_reference() {
    names_the_index(&Device::open("reference").unwrap());
}

#[test]
fn on_the_cpu() {
    names_the_index(&Device::open("cpu").unwrap());
}

/// On a machine without an adapter this says so and checks nothing, unless `KILN_REQUIRE_ADAPTER` is set.
#[test]
fn on_a_software_adapter() {
    match Device::open("software") {
        Ok(device) => names_the_index(&device),
        Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
        Err(e) => panic!("{e}"),
    }
}
