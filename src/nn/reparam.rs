//! Wrappers that give a module's weight other coordinates, with the names of torch's `parametrizations`.

use crate::dtype::DType;
use crate::ir::{Tensor, Type};
use crate::nn::init::Derived;
use crate::nn::linear::place;
use crate::nn::{Init, Module, Scope};
use crate::shape::Shape;
use std::panic::Location;

/// A module whose parameter `name` is `g v / norm(v)`, the norm over all dimensions but `dim` (arXiv 1602.07868). In its
/// place come `parametrizations.<name>.original0` (g) and `original1` (v); at the start g is the norm of v.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightNorm<M> {
    /// The module.
    pub module: M,
    /// Its parameter; with a path, one of its children: `out_proj.weight`.
    pub name: String,
    /// The dimension along which each slice has a norm of its own.
    pub dim: usize,
}

impl<M> WeightNorm<M> {
    /// Of `weight`, along dimension 0, as torch.
    pub fn new(module: M) -> WeightNorm<M> {
        WeightNorm { module, name: "weight".into(), dim: 0 }
    }

    /// The scope in which the module finds its parameter so computed; for modules with more than one input.
    #[track_caller]
    pub fn within(&self, scope: &Scope) -> Scope {
        let (name, dim, loc) = (last(&self.name), self.dim, Location::caller());
        scope.replacing(&self.name, move |scope, shape, init| {
            if let Some(bad) = bad_dim(scope, shape, dim, "weight_norm", loc) {
                return bad;
            }
            let scope = scope.child("parametrizations").child(&name);
            let mut slices = vec![1; shape.len()];
            slices[dim] = shape[dim];
            let source = (format!("{}.original1", scope.path()), Type::new(DType::F32, shape.clone()), init.clone());
            let g = scope.param("original0", slices, Init::From(Box::new(source), Derived::Norms(dim)));
            scope.param("original1", shape.clone(), init).weight_norm(&g, dim as isize)
        })
    }
}

impl<M: Module> Module for WeightNorm<M> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.module.forward(&self.within(scope), x)
    }
}

/// A module whose parameter `name` is divided by its largest singular value, as the power method estimates it
/// (arXiv 1802.05957). In its place come `parametrizations.<name>.original` and the buffers `parametrizations.<name>.0._u`
/// and `._v`, which each training step improves by `n_power_iterations`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpectralNorm<M> {
    /// The module.
    pub module: M,
    /// Its parameter; with a path, one of its children: `out_proj.weight`.
    pub name: String,
    /// Rounds of the power method in each training step.
    pub n_power_iterations: usize,
    /// Smallest norm that divides.
    pub eps: f64,
    /// The dimension that counts as rows: 0, or 1 for transposed convolutions.
    pub dim: usize,
}

impl<M> SpectralNorm<M> {
    /// Of `weight`, one round, dimension 0, as torch.
    pub fn new(module: M) -> SpectralNorm<M> {
        SpectralNorm { module, name: "weight".into(), n_power_iterations: 1, eps: 1e-12, dim: 0 }
    }

    /// The scope in which the module finds its parameter so computed; for modules with more than one input.
    #[track_caller]
    pub fn within(&self, scope: &Scope) -> Scope {
        let (name, dim, eps, rounds) = (last(&self.name), self.dim, self.eps, self.n_power_iterations);
        let loc = Location::caller();
        scope.replacing(&self.name, move |scope, shape, init| {
            if let Some(bad) = bad_dim(scope, shape, dim, "spectral_norm", loc) {
                return bad;
            }
            let scope = scope.child("parametrizations").child(&name);
            let source = (format!("{}.original", scope.path()), Type::new(DType::F32, shape.clone()), init.clone());
            let start = |what: Derived| Init::From(Box::new(source.clone()), what);
            let buffers = scope.child(0);
            let (rows, all) = (shape[dim], shape.elems());
            let u = buffers.buffer("_u", [rows], start(Derived::Left(dim)));
            let v = buffers.buffer("_v", [all / rows.max(1)], start(Derived::Right(dim)));
            let rounds = if scope.training() { rounds } else { 0 };
            let weight = scope.param("original", shape.clone(), init);
            let [weight, new_u, new_v] = weight.spectral_norm(&u, &v, rounds, dim as isize, eps);
            if rounds > 0 {
                buffers.update("_u", &new_u);
                buffers.update("_v", &new_v);
            }
            weight
        })
    }
}

impl<M: Module> Module for SpectralNorm<M> {
    #[track_caller]
    fn forward(&self, scope: &Scope, x: &Tensor) -> Tensor {
        self.module.forward(&self.within(scope), x)
    }
}

/// The name of a parameter within its own scope.
fn last(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().to_string()
}

fn bad_dim(scope: &Scope, shape: &Shape, dim: usize, op: &str, loc: crate::error::Loc) -> Option<Tensor> {
    let ty = Type::new(DType::F32, shape.clone());
    let detail = || format!("{}: a weight {ty} has no dimension {dim}", place(scope));
    (dim >= shape.len()).then(|| scope.builder().fail(op, detail(), loc, &ty))
}
