//! Data of the kind `npy`: two arrays, inputs and targets.

use super::{By, data, divide, divided, given};
use crate::data::{Arrays, file, npy};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::RunConfig;
use crate::train::config::{LayerConfig, ModelConfig};
use crate::train::task::{Output, Reader, Task};
use std::path::Path;
use std::sync::Arc;

/// The arrays of a file, all of whose numbers must be finite.
fn read(path: &Path) -> Result<HostTensor> {
    let name = path.display().to_string();
    let array = npy::parse(&file::bytes(path)?, &name)?;
    match array.as_f32()?.iter().position(|v| !v.is_finite()) {
        None => Ok(array),
        Some(at) => {
            let (value, example) = (array.as_f32()?[at], at / array.shape[1..].iter().product::<usize>().max(1));
            Err(Error::input(name, format!("example {example} holds {value}; remove such examples, or fill the gaps")))
        }
    }
}

pub(in crate::train) fn open(config: &RunConfig, d: &data::Npy) -> Result<Task> {
    let x = read(given(&d.path, "an .npy file [n, ..]")?)?;
    if d.targets.is_empty() {
        return Err(Error::input("data.targets", "is missing: the .npy file with the targets"));
    }
    let y = read(Path::new(&d.targets))?;
    let rows = |t: &HostTensor| t.shape.first().copied();
    if x.shape.len() < 2 || rows(&x) != rows(&y) {
        let detail = format!("inputs are {}, targets {}; they need the same number of rows", x.shape, y.shape);
        return Err(Error::input(&d.path, detail));
    }
    if x.is_empty() {
        return Err(Error::input(&d.path, format!("holds no examples: its shape is {}", x.shape)));
    }
    let n = x.shape[0];
    let (labels, y, output) = if d.classes > 0 {
        let labels = whole(&y, d.classes, "no class", &d.targets)?;
        if labels.len() != n {
            return Err(Error::input(&d.targets, format!("classes must be one per row, their shape is {}", y.shape)));
        }
        let names = (0..d.classes).map(|c| c.to_string()).collect();
        (Some(labels.clone()), HostTensor::i32([n], labels)?, Output::Label { names })
    } else {
        // A vector of numbers is a column: the model's output has two dimensions.
        let width = y.len() / n;
        let y = if y.shape.len() == 1 { HostTensor::f32([n, 1], y.as_f32()?.to_vec())? } else { y };
        let names = (0..width).map(|i| format!("y{i}")).collect();
        (None, y, Output::Value { names, mean: vec![0.0; width], std: vec![1.0; width] })
    };
    let tokens = match embedding(config) {
        None => None,
        // As many as the file needs, where the layer does not say it.
        Some(num) => Some(num.unwrap_or(x.as_f32()?.iter().fold(0.0, |a: f32, &b| a.max(b)) as usize + 1)),
    };
    let x = match tokens {
        None => x,
        Some(tokens) => HostTensor::i32(x.shape.clone(), whole(&x, tokens, "no token", &d.path)?)?,
    };
    let by = By { labels: labels.as_deref(), groups: None };
    let split = divide(config, n, d.split, d.test, d.validation, by)?;
    let inputs = x.shape[1..].to_vec();
    let task = divided(Arc::new(Arrays::new(vec![("x", x), ("y", y)])?), split, output, labels.as_deref());
    Ok(Task { reader: Some(Box::new(ArrayReader { path: d.path.clone(), tokens, inputs })), tokens, ..task })
}

/// Whether the model begins with an embedding, and with how many rows, if it says so: then the inputs are tokens.
fn embedding(config: &RunConfig) -> Option<Option<usize>> {
    let ModelConfig::Layers(list) = &config.model else { return None };
    match list.layers.first().map(|l| &l.layer) {
        Some(LayerConfig::Embedding { num, .. }) => Some(*num),
        _ => None,
    }
}

/// The numbers as whole ones from 0 to `count - 1`.
fn whole(t: &HostTensor, count: usize, what: &str, name: &str) -> Result<Vec<i32>> {
    let number = |(i, &v): (usize, &f32)| match v >= 0.0 && v < count as f32 && v.fract() == 0.0 {
        true => Ok(v as i32),
        false => Err(Error::input(name, format!("element {i} is {v}, {what} from 0 to {}", count.saturating_sub(1)))),
    };
    t.as_f32()?.iter().enumerate().map(number).collect()
}

struct ArrayReader {
    /// Where the inputs of the run came from.
    path: String,
    tokens: Option<usize>,
    /// Shape of an input.
    inputs: Vec<usize>,
}

impl Reader for ArrayReader {
    fn read(&self, path: &Path) -> Result<Vec<HostTensor>> {
        let (x, name) = (read(path)?, path.display().to_string());
        if x.shape.get(1..) != Some(&self.inputs[..]) {
            let (wanted, from) = (&self.inputs, &self.path);
            return Err(Error::input(
                name,
                format!("is {}, the model takes [n, ..] with {wanted:?}, as {from}", x.shape),
            ));
        }
        Ok(vec![match self.tokens {
            None => x,
            Some(tokens) => HostTensor::i32(x.shape.clone(), whole(&x, tokens, "no token", &name)?)?,
        }])
    }
}
