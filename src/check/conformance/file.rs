//! Conformance case files: safetensors with metadata, read into a [`Case`]. Knows the format, not the operations.

use crate::error::{Error, Result};
use crate::tensor::{Data, HostTensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What sort of call a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A function of tensors.
    Function,
    /// A module with parameters.
    Module,
    /// A few steps of an optimizer.
    Optimizer,
    /// A learning-rate schedule.
    Schedule,
    /// A Hessian-vector product.
    Hvp,
}

impl Kind {
    /// The word in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Function => "function",
            Kind::Module => "module",
            Kind::Optimizer => "optimizer",
            Kind::Schedule => "schedule",
            Kind::Hvp => "hvp",
        }
    }
}

/// Absolute and relative tolerance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Allowed for a reference of 0.
    pub atol: f64,
    /// Allowed per unit of the reference.
    pub rtol: f64,
}

/// One case: a call with its inputs, expected results and tolerances.
#[derive(Debug)]
pub struct Case {
    /// File name without `.safetensors`.
    pub file: String,
    /// What sort of call.
    pub kind: Kind,
    /// What is called.
    pub name: String,
    /// Keyword arguments.
    pub attrs: Attrs,
    /// Keyword arguments of `forward` (modules).
    pub call: Attrs,
    /// All metadata, as text.
    pub metadata: BTreeMap<String, String>,
    /// Full names of the input tensors in positional order.
    pub args: Vec<String>,
    /// All tensors of the file.
    pub tensors: BTreeMap<String, HostTensor>,
    /// For results.
    pub out: Tolerance,
    /// For derivatives.
    pub grad: Tolerance,
}

/// An error that counts as "not supported", in the words of the report.
pub fn unsupported(what: impl std::fmt::Display) -> Error {
    Error::input("unsupported", what.to_string())
}

impl Case {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Case> {
        let file = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = std::fs::read(path).map_err(|e| Error::input(path.display(), format!("cannot be read: {e}")))?;
        Case::parse(&file, &bytes)
    }

    /// Reads the bytes of one file.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Case> {
        let bad = |detail: String| Error::input(file, detail);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(format!("is no safetensors file: {e}")))?;
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| bad(format!("is no safetensors file: {e}")))?;
        let metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let text = |key: &str| metadata.get(key).ok_or_else(|| bad(format!("lacks the metadata {key:?}")));
        let json = |key: &str, default: &str| -> Result<Value> {
            let text = metadata.get(key).map_or(default, String::as_str);
            serde_json::from_str(text).map_err(|e| bad(format!("metadata {key:?} is no JSON: {e}")))
        };
        if text("format")? != "1" {
            return Err(bad(format!("has format {:?}, this version reads format 1", text("format")?)));
        }
        let kind = match text("kind")?.as_str() {
            "function" => Kind::Function,
            "module" => Kind::Module,
            "optimizer" => Kind::Optimizer,
            "schedule" => Kind::Schedule,
            "hvp" => Kind::Hvp,
            other => return Err(unsupported(format!("kind {other:?}"))),
        };
        let (atol, rtol) = (json("atol", "{}")?, json("rtol", "{}")?);
        let tolerance = |group: &str| {
            let at = |v: &Value| v.get(group).and_then(Value::as_f64).unwrap_or(0.0);
            Tolerance { atol: at(&atol), rtol: at(&rtol) }
        };
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.iter() {
            let words = || view.data().chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]);
            let data = match view.dtype() {
                Dtype::F32 => Data::F32(words().map(f32::from_le_bytes).collect()),
                Dtype::I32 => Data::I32(words().map(i32::from_le_bytes).collect()),
                Dtype::U8 => Data::Bool(view.data().iter().map(|&b| u32::from(b != 0)).collect()),
                other => return Err(bad(format!("tensor {name:?} has type {other:?}"))),
            };
            tensors.insert(name.to_string(), HostTensor::new(view.shape(), data)?);
        }
        let args: Vec<String> = serde_json::from_value(json("args", "[]")?).map_err(|e| bad(format!("args: {e}")))?;
        Ok(Case {
            file: file.to_string(),
            kind,
            name: text("name")?.clone(),
            attrs: Attrs::new(json("attrs", "{}")?),
            call: Attrs::new(json("call", "{}")?),
            args,
            tensors,
            out: tolerance("out"),
            grad: tolerance("grad"),
            metadata,
        })
    }

    /// A tensor of the file.
    pub fn tensor(&self, name: &str) -> Result<&HostTensor> {
        self.tensors.get(name).ok_or_else(|| Error::input(&self.file, format!("has no tensor {name:?}")))
    }

    /// An integer of the metadata.
    pub fn count(&self, key: &str) -> Result<usize> {
        let text = self.metadata.get(key).map_or("", String::as_str);
        text.parse().map_err(|_| Error::input(&self.file, format!("metadata {key:?} is {text:?}, not a count")))
    }

    /// A float of the metadata.
    pub fn number(&self, key: &str) -> Result<f64> {
        let text = self.metadata.get(key).map_or("", String::as_str);
        text.parse().map_err(|_| Error::input(&self.file, format!("metadata {key:?} is {text:?}, not a number")))
    }

    /// True if this tensor is a result to compare (the others are given).
    pub fn is_result(&self, tensor: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|p| tensor.starts_with(p));
        match self.kind {
            Kind::Function => starts(&["out.", "after.", "grad."]),
            Kind::Module => starts(&["out.", "buffer.", "grad."]),
            Kind::Optimizer => starts(&["out."]),
            Kind::Schedule => tensor == "lr" || tensor == "momentum",
            Kind::Hvp => starts(&["out.", "grad.", "hvp."]) || tensor == "hessian" || tensor == "eigenvalues",
        }
    }

    /// The tolerance of a result.
    pub fn tolerance(&self, tensor: &str) -> Tolerance {
        let derivative = ["grad.", "hvp.", "hessian", "eigenvalues"].iter().any(|p| tensor.starts_with(p));
        if derivative { self.grad } else { self.out }
    }

    /// Names and values of the results to compare.
    pub fn results(&self) -> impl Iterator<Item = (&String, &HostTensor)> {
        self.tensors.iter().filter(|(name, _)| self.is_result(name))
    }
}

/// Keyword arguments. It remembers which were asked for: the rest is what the runner does not support.
#[derive(Debug, Default)]
pub struct Attrs {
    map: Map<String, Value>,
    used: RefCell<BTreeSet<String>>,
}

impl Attrs {
    fn new(value: Value) -> Attrs {
        match value {
            Value::Object(map) => Attrs { map, used: RefCell::default() },
            _ => Attrs::default(),
        }
    }

    /// The raw value; `None` also for null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.used.borrow_mut().insert(name.to_string());
        self.map.get(name).filter(|v| !v.is_null())
    }

    /// Whether the attribute is given, if only as null.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    fn with<T>(&self, name: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(name) {
            None => Ok(None),
            Some(v) => {
                read(v).map(Some).ok_or_else(|| unsupported(format!("attribute {name} = {v}, which is not {what}")))
            }
        }
    }

    /// A float, also one that is written as "inf", "-inf" or "nan".
    pub fn opt_float(&self, name: &str) -> Result<Option<f64>> {
        self.with(name, "a number", float)
    }
    /// A float with its default.
    pub fn float(&self, name: &str, default: f64) -> Result<f64> {
        Ok(self.opt_float(name)?.unwrap_or(default))
    }
    /// An integer.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        self.with(name, "an integer", Value::as_i64)
    }
    /// An integer with its default.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.opt_int(name)?.unwrap_or(default))
    }
    /// Asks for attributes that choose between implementations of the same result.
    pub fn same_result(&self, names: &[&str]) {
        for name in names {
            self.get(name);
        }
    }
    /// A count with its default.
    pub fn count(&self, name: &str, default: usize) -> Result<usize> {
        Ok(self.with(name, "a count", |v| v.as_u64().map(|n| n as usize))?.unwrap_or(default))
    }
    /// A boolean with its default.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.with(name, "a boolean", Value::as_bool)?.unwrap_or(default))
    }
    /// A word with its default.
    pub fn word(&self, name: &str, default: &str) -> Result<String> {
        Ok(self.with(name, "a word", |v| v.as_str().map(String::from))?.unwrap_or_else(|| default.to_string()))
    }
    /// Floats.
    pub fn floats(&self, name: &str, default: &[f64]) -> Result<Vec<f64>> {
        let list = self.with(name, "a list of numbers", |v| v.as_array()?.iter().map(float).collect())?;
        Ok(list.unwrap_or_else(|| default.to_vec()))
    }
    /// Integers: a list, or one for a list of one.
    pub fn opt_ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        self.with(name, "an integer or a list of them", |v| match v {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|n| vec![n]),
        })
    }
    /// Counts, one per spatial dimension: a list, or one for all.
    pub fn per_dim(&self, name: &str, dims: usize) -> Result<Option<Vec<usize>>> {
        let list = self.with(name, "a count or one per dimension", |v| match v {
            Value::Array(list) => list.iter().map(|v| v.as_u64().map(|n| n as usize)).collect(),
            one => one.as_u64().map(|n| vec![n as usize; dims]),
        })?;
        match list {
            Some(l) if l.len() == 1 => Ok(Some(vec![l[0]; dims])),
            Some(l) if l.len() != dims => Err(unsupported(format!("attribute {name} with {} entries", l.len()))),
            list => Ok(list),
        }
    }
    /// The attributes that nobody asked for.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        self.map.keys().filter(|k| !used.contains(*k)).cloned().collect()
    }
}

fn float(v: &Value) -> Option<f64> {
    match v.as_str() {
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        Some("nan") => Some(f64::NAN),
        _ => v.as_f64().or_else(|| v.as_bool().map(f64::from)),
    }
}
