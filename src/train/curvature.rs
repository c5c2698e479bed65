//! The loss as a surface over all parameters: value, gradient, Hessian-vector products, the whole Hessian of small
//! models, the ends of its spectrum for large ones, what kind of critical point it is, and a step along an eigenvector.
//!
//! A [`Surface`] belongs to a [`Store`], so it sees the parameters as they are; any loss that a graph can express has
//! one, on any backend. [`Surface::of`] takes the loss that a [`Trainer`] minimizes, over a part of a data set, with
//! dropout off and batch norm on its running statistics: a surface must not move between two products.

use crate::backend::{Program, Store};
use crate::data::{Batches, Dataset};
use crate::error::{Error, Result};
use crate::grad::{grad, hvp};
use crate::ir::{Builder, OutputKind, Tensor, Type};
use crate::nn::{Mode, Params};
use crate::tensor::HostTensor;
use crate::train::Trainer;
use crate::train::lanczos::{self, Eigenpair, Lanczos, dot};
use crate::train::symmetric::{Eigen, eigen};
use crate::train::trainer::split_target;
use serde_json::{Value, json};
use std::fmt;

/// The largest number of parameters whose whole Hessian is computed: 128 MiB of f64.
pub const MOST_FOR_HESSIAN: usize = 4096;
/// An eigenvalue is told from zero if it is larger than this, relative to the largest of all: products in f32 carry
/// rounding errors of some 1e-6 of the largest.
const NOISE: f64 = 1e-5;

/// A batch as it is fed: tensors by name, and its weight in the mean.
struct Batch {
    feeds: Vec<(String, HostTensor)>,
    weight: f64,
    /// Which programs take it.
    programs: usize,
}

/// Programs for batches of one set of types.
struct Programs {
    types: Vec<Type>,
    /// The loss, then the gradient by each parameter.
    gradient: Program,
    /// The product with the Hessian, for each parameter.
    product: Program,
}

/// A loss as a function of the parameters in a store. Vectors have one element per parameter, in the order of
/// [`Surface::parameters`], each flattened.
pub struct Surface {
    store: Store,
    parameters: Vec<(String, Type)>,
    batches: Vec<Batch>,
    programs: Vec<Programs>,
}

/// Appends a loss (a scalar) of these inputs to a graph; returns it with the parameters by their names in the store.
pub type BuildLoss<'a> = dyn Fn(&Builder, &[Tensor]) -> Result<(Tensor, Vec<(String, Tensor)>)> + 'a;

impl Surface {
    /// The weighted mean of the loss over `batches` (named inputs and weight each). `build` gets the inputs in order; the
    /// parameters that it returns must be states of `store`. Errors without batches, without parameters, and as building
    /// and compiling do.
    pub fn new(store: &Store, batches: Vec<(Vec<(String, HostTensor)>, f64)>, build: &BuildLoss) -> Result<Surface> {
        let mut surface =
            Surface { store: store.clone(), parameters: Vec::new(), batches: Vec::new(), programs: Vec::new() };
        for (feeds, weight) in batches {
            let types: Vec<Type> = feeds.iter().map(|(_, t)| Type::new(t.dtype(), t.shape.clone())).collect();
            let known = surface.programs.iter().position(|p| p.types == types);
            let programs = match known {
                Some(i) => i,
                None => {
                    let programs = surface.compile(&feeds, types, build)?;
                    surface.programs.push(programs);
                    surface.programs.len() - 1
                }
            };
            surface.batches.push(Batch { feeds, weight, programs });
        }
        match surface.parameters.is_empty() {
            true => Err(Error::input("loss surface", "needs at least one batch and one trainable parameter")),
            false => Ok(surface),
        }
    }

    /// The loss that `trainer` minimizes, over `part` of the data in batches of `batch` examples.
    pub fn of(trainer: &mut Trainer, data: &dyn Dataset, part: &[usize], batch: usize) -> Result<Surface> {
        let fields = data.fields();
        let mut batches = Vec::new();
        for indices in Batches::ordered(part, batch).iter_from(0) {
            trainer.prepare_eval(&fields, indices.len())?;
            let tensors = data.batch(indices, None)?;
            let weight = tensors.last().map_or(0, |t| trainer.parts().1.count(t)) as f64;
            batches.push((fields.iter().map(|f| f.name.clone()).zip(tensors).collect(), weight));
        }
        let (model, loss) = trainer.parts();
        Surface::new(trainer.store(), batches, &|builder, inputs| {
            let (target, inputs) = split_target(inputs)?;
            let params = Params::new(builder, Mode::Eval);
            let output = model.forward_all(&params.scope(), inputs);
            // As in training, label smoothing included.
            Ok((loss.measure(&output, target, true).loss, params.trainable()))
        })
    }

    fn compile(&mut self, feeds: &[(String, HostTensor)], types: Vec<Type>, build: &BuildLoss) -> Result<Programs> {
        let graph = |product: bool| -> Result<(Program, Vec<(String, Type)>)> {
            let b = Builder::new();
            let inputs: Vec<Tensor> =
                feeds.iter().zip(&types).map(|((name, _), ty)| b.feed(name.clone(), ty.dtype, &ty.shape)).collect();
            let (loss, named) = build(&b, &inputs)?;
            let wrt: Vec<&Tensor> = named.iter().map(|(_, w)| w).collect();
            if product {
                let along = |(name, w): &(String, Tensor)| b.feed(direction(name), w.dtype(), w.shape());
                let v: Vec<Tensor> = named.iter().map(along).collect();
                for (i, hv) in hvp(&loss, &wrt, &v.iter().collect::<Vec<_>>()).iter().enumerate() {
                    b.output(format!("hvp.{i}"), OutputKind::Fetch, hv);
                }
            } else {
                b.output("loss", OutputKind::Fetch, &loss);
                for (i, g) in grad(&loss, &wrt).iter().enumerate() {
                    b.output(format!("grad.{i}"), OutputKind::Fetch, g);
                }
            }
            let types = named.iter().map(|(name, w)| (name.clone(), w.ty().clone())).collect();
            Ok((Program::compile(&self.store, b.build()?)?, types))
        };
        let (gradient, parameters) = graph(false)?;
        let (product, _) = graph(true)?;
        self.parameters = parameters;
        Ok(Programs { types, gradient, product })
    }

    /// Names and types of the parameters.
    pub fn parameters(&self) -> &[(String, Type)] {
        &self.parameters
    }

    /// Number of parameters, counted in elements.
    pub fn dimensions(&self) -> usize {
        self.parameters.iter().map(|(_, ty)| ty.shape.elems()).sum()
    }

    /// The loss and its gradient.
    pub fn gradient(&mut self) -> Result<(f64, Vec<f64>)> {
        let mut sum = self.mean(None)?;
        let loss = sum.remove(0);
        Ok((loss, sum))
    }

    /// H v. Errors unless `v` has one element per parameter.
    pub fn hvp(&mut self, v: &[f64]) -> Result<Vec<f64>> {
        let n = self.dimensions();
        if v.len() != n {
            let detail = format!("the direction has {} elements, the model {n} parameters", v.len());
            return Err(Error::input("Hessian-vector product", detail));
        }
        let parts = self.split(v)?;
        let named = self.parameters.iter().map(|(name, _)| direction(name));
        let directions: Vec<(String, HostTensor)> = named.zip(parts).collect();
        self.mean(Some(&directions))
    }

    /// The weighted mean over the batches of what a program fetches, as one vector.
    fn mean(&mut self, directions: Option<&[(String, HostTensor)]>) -> Result<Vec<f64>> {
        let total: f64 = self.batches.iter().map(|b| b.weight).sum();
        let mut sum: Vec<f64> = Vec::new();
        for batch in &self.batches {
            let programs = &mut self.programs[batch.programs];
            let program = if directions.is_some() { &mut programs.product } else { &mut programs.gradient };
            // A program takes only the inputs that it uses.
            let taken: Vec<String> = program.feeds().into_iter().map(|(name, _)| name).collect();
            let all = batch.feeds.iter().chain(directions.into_iter().flatten());
            let given: Vec<(&str, &HostTensor)> =
                all.filter(|(n, _)| taken.contains(n)).map(|(n, t)| (n.as_str(), t)).collect();
            let values: Vec<f64> = program.run(&given)?.iter().flat_map(HostTensor::to_f64).collect();
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(&values).for_each(|(s, x)| *s += batch.weight / total * x);
        }
        self.store.device().check_status()?;
        Ok(sum)
    }

    /// A vector as one tensor per parameter.
    fn split(&self, v: &[f64]) -> Result<Vec<HostTensor>> {
        let mut rest = v;
        let piece = |(_, ty): &(String, Type)| {
            let (head, tail) = rest.split_at(ty.shape.elems());
            rest = tail;
            HostTensor::f32(ty.shape.clone(), head.iter().map(|&x| x as f32).collect())
        };
        self.parameters.iter().map(piece).collect()
    }

    /// The whole Hessian, row-major, by one product per parameter. Errors beyond [`MOST_FOR_HESSIAN`] parameters.
    pub fn hessian(&mut self) -> Result<Vec<f64>> {
        let n = self.dimensions();
        if n > MOST_FOR_HESSIAN {
            let detail =
                format!("{n} parameters; beyond {MOST_FOR_HESSIAN} take the ends of its spectrum (`extremes`)");
            return Err(Error::input("Hessian", detail));
        }
        let mut h = Vec::with_capacity(n * n);
        let mut unit = vec![0.0; n];
        for i in 0..n {
            unit[i] = 1.0;
            h.extend(self.hvp(&unit)?);
            unit[i] = 0.0;
        }
        Ok(h)
    }

    /// The ends of the Hessian's spectrum by the Lanczos method.
    pub fn extremes(&mut self, options: &Lanczos) -> Result<lanczos::Spectrum> {
        lanczos::extremes(self.dimensions(), options, |v| self.hvp(v))
    }

    /// What kind of point the parameters are at. Models of at most `options.full` parameters are examined by their whole
    /// Hessian, larger ones by the Lanczos method. Errors if loss or gradient is not finite.
    pub fn examine(&mut self, options: &Examine) -> Result<Critical> {
        let (loss, gradient) = self.gradient()?;
        let grad_norm = dot(&gradient, &gradient).sqrt();
        if !(loss.is_finite() && grad_norm.is_finite()) {
            let detail = format!("loss {loss}, gradient norm {grad_norm}: nothing can be said about such a point");
            return Err(Error::runtime("critical point", detail));
        }
        let n = self.dimensions();
        let (smallest, largest, positive, exact) = if n <= options.full.min(MOST_FOR_HESSIAN) {
            let Eigen { values, vectors } = eigen(self.hessian()?, n);
            let noise = NOISE * values[0].abs().max(values[n - 1].abs());
            let positive = values.iter().filter(|&&v| v > noise).count() as f64 / n as f64;
            let mut pair = |k: usize| -> Result<Eigenpair> {
                let off: Vec<f64> =
                    self.hvp(&vectors[k])?.iter().zip(&vectors[k]).map(|(y, v)| y - values[k] * v).collect();
                Ok(Eigenpair { value: values[k], vector: vectors[k].clone(), residual: dot(&off, &off).sqrt() })
            };
            let count = options.lanczos.pairs.clamp(1, n);
            let smallest = (0..count).map(&mut pair).collect::<Result<Vec<_>>>()?;
            (smallest, (0..count).map(|k| pair(n - 1 - k)).collect::<Result<Vec<_>>>()?, positive, true)
        } else {
            let first = self.extremes(&options.lanczos)?;
            let scale = first.smallest[0].value.abs().max(first.largest[0].value.abs());
            let above = |d: &[(f64, f64)]| d.iter().filter(|(v, _)| *v > NOISE * scale).map(|(_, w)| w).sum::<f64>();
            let mut sum = above(&first.density);
            for probe in 1..options.probes {
                let seed = options.lanczos.seed.wrapping_add(probe as u64);
                sum += above(&self.extremes(&Lanczos { seed, pairs: 1, ..options.lanczos })?.density);
            }
            (first.smallest, first.largest, sum / options.probes.max(1) as f64, false)
        };
        let scale = smallest[0].value.abs().max(largest[0].value.abs());
        let (lo, hi) = (certain(&smallest[0], scale), certain(&largest[0], scale));
        let verdict = match (lo, hi) {
            _ if grad_norm > options.gradient => Verdict::Slope,
            (-1, 1) => Verdict::Saddle,
            (1, 1) => Verdict::Minimum,
            (-1, -1) => Verdict::Maximum,
            (-1, _) => Verdict::Saddle,
            _ => Verdict::Flat,
        };
        Ok(Critical { parameters: n, loss, grad_norm, smallest, largest, minimum_ratio: positive, exact, verdict })
    }

    /// Moves the parameters along `pair.vector` (downhill, if the gradient says which way that is), as far as lowers the
    /// loss most among lengths that double. If no length lowers it, the parameters stay and `length` is 0.
    pub fn escape(&mut self, pair: &Eigenpair) -> Result<Escape> {
        let (before, gradient) = self.gradient()?;
        if pair.vector.len() != gradient.len() {
            let detail =
                format!("the vector has {} elements, the model {} parameters", pair.vector.len(), gradient.len());
            return Err(Error::input("escape", detail));
        }
        let start: Vec<f64> = self.position()?;
        let downhill = if dot(&gradient, &pair.vector) > 0.0 { -1.0 } else { 1.0 };
        let mut best = (0.0, before);
        for side in [downhill, -downhill] {
            for power in -7..=4 {
                let length = side * f64::from(power).exp2();
                self.move_to(&start, &pair.vector, length)?;
                let loss = self.gradient()?.0;
                if loss < best.1 {
                    best = (length, loss);
                }
            }
        }
        self.move_to(&start, &pair.vector, best.0)?;
        Ok(Escape { before, after: best.1, length: best.0 })
    }

    /// All parameters as one vector.
    pub fn position(&self) -> Result<Vec<f64>> {
        let mut all = Vec::with_capacity(self.dimensions());
        for (name, _) in &self.parameters {
            all.extend(self.store.get(name)?.to_f64());
        }
        Ok(all)
    }

    /// Writes `start + length * along` to the store.
    fn move_to(&mut self, start: &[f64], along: &[f64], length: f64) -> Result<()> {
        let there: Vec<f64> = start.iter().zip(along).map(|(x, v)| x + length * v).collect();
        for ((name, _), value) in self.parameters.iter().zip(self.split(&there)?) {
            self.store.insert(name.clone(), &value)?;
        }
        Ok(())
    }
}

/// The sign of an eigenvalue, or 0 if its error or the noise of f32 products may have made it.
fn certain(pair: &Eigenpair, scale: f64) -> i32 {
    match pair.value.abs() > pair.residual + NOISE * scale {
        true => pair.value.signum() as i32,
        false => 0,
    }
}

fn direction(name: &str) -> String {
    format!("v.{name}")
}

/// How a point is examined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Examine {
    /// A gradient with a larger norm means that the point is not critical.
    pub gradient: f64,
    /// Models with at most this many parameters are examined by their whole Hessian.
    pub full: usize,
    /// How the ends of the spectrum of larger ones are found.
    pub lanczos: Lanczos,
    /// Start vectors over which the estimate of the minimum ratio is averaged.
    pub probes: usize,
}

impl Default for Examine {
    fn default() -> Examine {
        Examine { gradient: 1e-3, full: 200, lanczos: Lanczos::default(), probes: 3 }
    }
}

/// What kind of point it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The gradient is not small: not a critical point.
    Slope,
    /// All curvature is positive.
    Minimum,
    /// All curvature is negative.
    Maximum,
    /// Some curvature is negative, some is not.
    Saddle,
    /// No curvature is certainly negative, but some may be zero: a flat minimum, as far as second order can tell.
    Flat,
}

/// A point of the loss surface.
#[derive(Debug, Clone, PartialEq)]
pub struct Critical {
    /// Number of parameters.
    pub parameters: usize,
    /// The loss.
    pub loss: f64,
    /// Norm of its gradient.
    pub grad_norm: f64,
    /// The smallest eigenvalues of the Hessian, ascending.
    pub smallest: Vec<Eigenpair>,
    /// The largest, descending.
    pub largest: Vec<Eigenpair>,
    /// The share of eigenvalues that are positive: counted (`exact`) or estimated from the spectral density.
    pub minimum_ratio: f64,
    /// Whether the whole Hessian was computed.
    pub exact: bool,
    /// What follows from all this.
    pub verdict: Verdict,
}

impl Critical {
    /// As JSON, eigenvalues with residuals, without vectors.
    pub fn to_json(&self) -> Value {
        let values = |pairs: &[Eigenpair]| {
            pairs.iter().map(|p| json!({ "value": p.value, "residual": p.residual })).collect::<Vec<_>>()
        };
        json!({
            "parameters": self.parameters, "loss": self.loss, "grad_norm": self.grad_norm,
            "smallest": values(&self.smallest), "largest": values(&self.largest),
            "minimum_ratio": self.minimum_ratio, "exact": self.exact,
            "verdict": format!("{:?}", self.verdict).to_lowercase(),
        })
    }
}

impl fmt::Display for Critical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |pairs: &[Eigenpair]| {
            let text: Vec<String> = pairs.iter().map(|p| format!("{:.4e} (+-{:.0e})", p.value, p.residual)).collect();
            text.join(", ")
        };
        let verdict = match self.verdict {
            Verdict::Slope => "not a critical point: the gradient is not small",
            Verdict::Minimum => "a local minimum",
            Verdict::Maximum => "a local maximum",
            Verdict::Saddle => "a saddle point",
            Verdict::Flat => "no negative curvature beyond rounding: a flat minimum, as far as second order tells",
        };
        writeln!(f, "loss {:.6}, gradient norm {:.3e}, {} parameters", self.loss, self.grad_norm, self.parameters)?;
        writeln!(f, "smallest eigenvalues {}", list(&self.smallest))?;
        writeln!(f, "largest eigenvalues  {}", list(&self.largest))?;
        let how = if self.exact { "counted" } else { "estimated" };
        writeln!(f, "minimum ratio {:.3} ({how})", self.minimum_ratio)?;
        write!(f, "{verdict}")
    }
}

/// A step along an eigenvector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Escape {
    /// The loss before.
    pub before: f64,
    /// The loss after.
    pub after: f64,
    /// How far, against or along the vector; 0 if no step lowered the loss.
    pub length: f64,
}

/// Examines the point where `trainer` is, by the loss over `part` of the data. For [`Surface::escape`], make the surface
/// and keep it.
pub fn examine(
    trainer: &mut Trainer,
    data: &dyn Dataset,
    part: &[usize],
    batch: usize,
    options: &Examine,
) -> Result<Critical> {
    Surface::of(trainer, data, part, batch)?.examine(options)
}

#[cfg(test)]
#[path = "curvature_tests.rs"]
mod tests;
