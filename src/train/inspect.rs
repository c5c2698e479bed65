//! A model before it is compiled: the table of its layers with shapes, parameters and floating-point operations, and
//! errors that name the layer. Needs no device.

use crate::data::Field;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ir::{Builder, Graph, Node, Prim, Tensor, Type};
use crate::nn::{Mode, Module, Params, Visit};
use crate::optim::StepFeed;
use crate::train::config::{LayerConfig, ModelConfig, NamedLayer};
use crate::train::task::Output;
use crate::train::{RunConfig, Task, model};

/// A layer of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its scope: the beginning of its parameters' names.
    pub path: String,
    /// Its kind, where the configuration names it.
    pub kind: String,
    /// Element type and shape of its result.
    pub output: Type,
    /// Trained numbers in it.
    pub parameters: usize,
    /// Floating-point operations of products and convolutions for one batch, forward: two for a multiply and add.
    pub flops: u64,
}

/// A model and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The layers, in order. What is inside an element of a list of layers is part of that element.
    pub layers: Vec<Layer>,
    /// Trained numbers.
    pub parameters: usize,
    /// Floating-point operations of products and convolutions for one batch, forward.
    pub flops: u64,
    /// Examples of the batch.
    pub batch: usize,
}

/// Builds the model of a configuration for a batch of its data. Errors name the layer whose input does not fit, or say
/// that the output does not fit the data.
pub fn inspect(config: &RunConfig, task: &Task) -> Result<Inspection> {
    let shapes = task.shapes();
    let model = model::build(&config.model, &shapes)?;
    let fields = task.train.data.fields();
    let Some((_, inputs)) = fields.split_last() else {
        return Err(Error::input("data", "its examples have no fields"));
    };
    let batch = config.batch.min(task.train.indices.len()).max(1);
    let (graph, params, output) = build(config, &*model, inputs, batch)?;
    fits(&output, task, &shapes, batch)?;
    let visits = params.visits();
    let specs = params.specs();
    let of = |v: &Visit| {
        let inside = |name: &str| name.strip_prefix(&v.path).is_some_and(|rest| rest.starts_with('.'));
        Layer {
            path: v.path.clone(),
            kind: kind(config, &v.path).unwrap_or_default(),
            output: v.output.clone(),
            parameters: specs.iter().filter(|s| s.trainable && inside(&s.name)).map(|s| s.ty.shape.elems()).sum(),
            flops: graph.nodes[v.nodes.clone()].iter().map(|n| flops(&graph, n)).sum(),
        }
    };
    let is_number = |s: &str| s.parse::<usize>().is_ok();
    let visited = |path: &str| visits.iter().any(|v| v.path == path);
    let named: Vec<String> = match &config.model {
        ModelConfig::Layers(list) => list.layers.iter().enumerate().map(|(i, l)| l.scope(i)).collect(),
        _ => Vec::new(),
    };
    let last = |path: &str| path.rsplit('.').next().is_some_and(is_number) || named.iter().any(|n| n == path);
    let shown = |v: &&Visit| {
        // An element of a list stands for all in it, and a list is shown by its elements.
        let places = v.path.match_indices('.').map(|(i, _)| &v.path[..i]);
        let inside = places.into_iter().any(|outer| last(outer) && visited(outer));
        let is_list = visits
            .iter()
            .any(|o| o.path.strip_prefix(&v.path).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_number));
        !inside && (!is_list || last(&v.path))
    };
    Ok(Inspection {
        layers: visits.iter().filter(shown).map(of).collect(),
        parameters: specs.iter().filter(|s| s.trainable).map(|s| s.ty.shape.elems()).sum(),
        flops: graph.nodes.iter().map(|n| flops(&graph, n)).sum(),
        batch,
    })
}

/// The graph of the forward pass in training, its parameters, and the output's type.
fn build(config: &RunConfig, model: &dyn Module, inputs: &[Field], batch: usize) -> Result<(Graph, Params, Type)> {
    let builder = Builder::new();
    let feed = StepFeed::declare(&builder);
    let params = Params::with(&builder, Mode::Train, Some(&feed.counter), None);
    let feeds = |f: &Field| {
        let shape: Vec<usize> = std::iter::once(batch).chain(f.shape.iter().copied()).collect();
        builder.feed(f.name.clone(), f.dtype, shape)
    };
    let inputs: Vec<Tensor> = inputs.iter().map(feeds).collect();
    let output = model.forward_all(&params.scope(), &inputs);
    let graph = builder.build().map_err(|e| match params.visits().iter().find(|v| v.failed) {
        Some(v) => {
            let kind = kind(config, &v.path).map_or(String::new(), |k| format!(" ({k})"));
            Error::input(format!("model: layer {}{kind}", v.path), e.to_string())
        }
        None => e,
    })?;
    let ty = output.ty().clone();
    Ok((graph, params, ty))
}

/// Checks the output of a model against the targets of the data.
fn fits(output: &Type, task: &Task, shapes: &model::Shapes, batch: usize) -> Result<()> {
    let what = match &task.output {
        Output::Value { names, .. } => format!("{} numbers", names.len()),
        _ => format!("{} classes", shapes.outputs),
    };
    let fields = task.train.data.fields();
    let places = match fields.last() {
        Some(f) if f.dtype == DType::I32 => f.shape.elems(),
        _ => 1,
    };
    let width = output.shape.last().copied().unwrap_or(0);
    let single = shapes.outputs == 2 && width == 1;
    if output.shape.elems() == batch * places * width && (width == shapes.outputs || single) {
        return Ok(());
    }
    let wanted = if places > 1 {
        format!("[{batch}, {places}, {}]", shapes.outputs)
    } else {
        format!("[{batch}, {}]", shapes.outputs)
    };
    let detail = format!(
        "the last layer gives {output} for a batch of {batch}, but the data has {what}: it must give f32{wanted}; a layer \
         \"linear\" without out has the right width"
    );
    Err(Error::input("model", detail))
}

/// The kind of the layer with this path, if the configuration is a list of layers.
fn kind(config: &RunConfig, path: &str) -> Option<String> {
    let ModelConfig::Layers(list) = &config.model else { return None };
    layer_at(&list.layers, path).map(|l| l.kind().to_string())
}

/// The innermost layer of a list whose scope this path is, or is in.
fn layer_at<'a>(layers: &'a [NamedLayer], path: &str) -> Option<&'a LayerConfig> {
    let inside = |scope: &str| match path.strip_prefix(scope)? {
        "" => Some(""),
        rest => rest.strip_prefix('.'),
    };
    let scopes = layers.iter().enumerate().map(|(i, l)| (l, l.scope(i)));
    let found = scopes.filter_map(|(l, scope)| Some((l, scope.len(), inside(&scope)?.to_string())));
    // Of the names `a` and `a.b` the longer one has what is in `a.b`.
    let (layer, _, rest) = found.max_by_key(|(_, length, _)| *length)?;
    let LayerConfig::Residual { layers, shortcut } = &layer.layer else { return Some(layer) };
    let deeper = [("layers.", layers), ("shortcut.", shortcut)];
    let mut deeper = deeper.iter().filter_map(|(word, list)| layer_at(list, rest.strip_prefix(word)?));
    deeper.next().or(Some(layer))
}

/// Floating-point operations of one node: products and convolutions, also those inside of composites.
fn flops(graph: &Graph, node: &Node) -> u64 {
    let out = || node.types.first().map_or(0, |t| t.shape.elems()) as u64;
    let arg = |i: usize| node.args.get(i).map(|v| graph.shape(*v));
    match &node.prim {
        // Every result is a sum over the last dimension of the left operand.
        Prim::Dot => 2 * out() * arg(0).and_then(|s| s.last()).copied().unwrap_or(0) as u64,
        // Every result is a sum over the window and the channels of its group.
        Prim::Conv(_) => 2 * out() * arg(1).map_or(0, |s| s[1..].iter().product::<usize>()) as u64,
        Prim::Call(call) => call.body.nodes.iter().map(|n| flops(&call.body, n)).sum(),
        _ => 0,
    }
}
