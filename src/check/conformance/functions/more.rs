//! Sorting, Einstein sums, resampling, other forms of attention, reparametrisations, and gradient clipping.

use super::{Found, counts, int, outs};
use crate::check::conformance::exec::{Built, Inputs};
use crate::check::conformance::file::{Attrs, unsupported};
use crate::error::Result;
use crate::ir::Tensor;
use crate::ops::grid::{GridMode, Outside};
use crate::ops::interpolate::{Interpolation, Sampling};
use crate::ops::reparam::{BatchRenorm, sinusoidal_positions};
use crate::ops::resample::Unfold;
use crate::optim::clip::{clip_grad_norm, clip_grad_value};

/// Builds a function of these families.
pub fn build(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    match name {
        "sort" => {
            // The order of equal elements that `stable` asks for is one of those that are allowed without it.
            a.flag("stable", false)?;
            let (values, index) = x.arg("input")?.sort(a.int("dim", -1)? as isize, a.flag("descending", false)?);
            outs([values, index])
        }
        "topk" => {
            let (dim, largest) = (a.int("dim", -1)? as isize, a.flag("largest", true)?);
            // Sorted is one of the orders that `sorted = false` allows.
            a.flag("sorted", true)?;
            let (values, index) = x.arg("input")?.topk(a.count("k", 0)?, dim, largest);
            outs([values, index])
        }
        "einsum" => outs([Tensor::einsum(&a.word("equation", "")?, &x.all().iter().collect::<Vec<_>>())]),
        "unfold" => outs([x.arg("input")?.unfold(&windows(a)?)]),
        "fold" => {
            let size = pair(a, "output_size", 0)?;
            outs([x.arg("input")?.fold(size, &windows(a)?)])
        }
        "clip_grad_norm_" => {
            let grads = x.all();
            // Where it would raise, torch has no result to compare.
            a.same_result(&["error_if_nonfinite", "foreach"]);
            let (max, p) = (a.float("max_norm", 0.0)?, a.float("norm_type", 2.0)?);
            let (mut clipped, norm) = clip_grad_norm(&grads.iter().collect::<Vec<_>>(), max, p);
            clipped.push(norm);
            outs(clipped)
        }
        "clip_grad_value_" => {
            let grads = x.all();
            a.same_result(&["foreach"]);
            outs(clip_grad_value(&grads.iter().collect::<Vec<_>>(), a.float("clip_value", 0.0)?))
        }
        "cosine_similarity" => {
            let (dim, eps) = (a.int("dim", 1)? as isize, a.float("eps", 1e-8)?);
            outs([x.arg("x1")?.cosine_similarity(&x.arg("x2")?, dim, eps)])
        }
        "sinusoidal_positional_encoding" => {
            let (length, dim) = (a.count("length", 0)?, a.count("dim", 0)?);
            outs([sinusoidal_positions(&x.builder, length, dim, a.float("base", 10000.0)?)])
        }
        "weight_norm" => outs([x.arg("v")?.weight_norm(&x.arg("g")?, a.int("dim", 0)? as isize)]),
        "spectral_norm" => {
            let iterations = a.count("n_power_iterations", 1)?;
            let iterations = if a.flag("training", true)? { iterations } else { 0 };
            let (dim, eps) = (a.int("dim", 0)? as isize, a.float("eps", 1e-12)?);
            outs(x.arg("weight")?.spectral_norm(&x.arg("u")?, &x.arg("v")?, iterations, dim, eps))
        }
        "batch_renorm" => batch_renorm(x),
        "interpolate" | "affine_grid" | "grid_sample" => resampling(name, x),
        _ => attention(name, x),
    }
}

fn pair(a: &Attrs, name: &str, default: usize) -> Result<[usize; 2]> {
    Ok(a.per_dim(name, 2)?.map_or([default; 2], |v| [v[0], v[1]]))
}

fn windows(a: &Attrs) -> Result<Unfold> {
    Ok(Unfold {
        kernel: pair(a, "kernel_size", 0)?,
        dilation: pair(a, "dilation", 1)?,
        padding: pair(a, "padding", 0)?,
        stride: pair(a, "stride", 1)?,
    })
}

fn batch_renorm(x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let max = |name: &str| a.opt_float(name)?.ok_or_else(|| unsupported(format!("batch_renorm without {name}")));
    let input = x.arg("input")?;
    let scalar = |v: f64| input.builder().full([], v);
    let [output, mean, std] = input.batch_renorm(&BatchRenorm {
        running_mean: &x.arg("running_mean")?,
        running_std: &x.arg("running_std")?,
        weight: &x.arg("weight")?,
        bias: &x.arg("bias")?,
        r_max: &scalar(max("r_max")?),
        d_max: &scalar(max("d_max")?),
        momentum: a.float("momentum", 0.1)?,
        eps: a.float("eps", 1e-5)?,
        training: a.flag("training", true)?,
    });
    let named = vec![("after.running_mean".to_string(), mean), ("after.running_std".to_string(), std)];
    Ok(Some(Built { outs: vec![output], named, leaves: Vec::new() }))
}

fn resampling(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let align_corners = a.flag("align_corners", false)?;
    match name {
        "interpolate" => {
            let t = x.arg("input")?;
            let dims = t.rank().saturating_sub(2);
            let sampling = Sampling { align_corners, antialias: a.flag("antialias", false)? };
            let mode = match (a.word("mode", "nearest")?.as_str(), dims) {
                ("nearest", _) => Interpolation::Nearest,
                ("nearest-exact", _) => Interpolation::NearestExact,
                ("area", _) => Interpolation::Area,
                ("linear", 1) | ("bilinear", 2) | ("trilinear", 3) => Interpolation::Linear(sampling),
                ("bicubic", 2) => Interpolation::Cubic(sampling),
                (other, _) => return Err(unsupported(format!("mode {other:?} of {}", t.ty()))),
            };
            // Then the factor counts for the size alone.
            let recomputed = a.flag("recompute_scale_factor", false)?;
            if let Some(size) = a.per_dim("size", dims)? {
                return outs([t.interpolate(&size, None, mode)]);
            }
            let factors = match a.get("scale_factor") {
                Some(v) if v.is_array() => a.floats("scale_factor", &[])?,
                _ => vec![a.float("scale_factor", 1.0)?; dims],
            };
            if factors.len() != dims {
                return Err(unsupported("scale_factor of another rank"));
            }
            let size: Vec<usize> =
                factors.iter().zip(&t.shape()[2..]).map(|(f, &n)| (n as f64 * f).floor() as usize).collect();
            let steps: Vec<f64> = factors.iter().map(|f| 1.0 / f).collect();
            outs([t.interpolate(&size, (!recomputed).then_some(&steps[..]), mode)])
        }
        "affine_grid" => match &counts(a, "size")?[..] {
            [_, _, size @ ..] => outs([x.arg("theta")?.affine_grid(size, align_corners)]),
            _ => Err(unsupported("affine_grid of another rank")),
        },
        _ => {
            let outside = match a.word("padding_mode", "zeros")?.as_str() {
                "zeros" => Outside::Zeros,
                "border" => Outside::Border,
                "reflection" => Outside::Reflection,
                other => return Err(unsupported(format!("padding_mode {other:?}"))),
            };
            let mode = match a.word("mode", "bilinear")?.as_str() {
                "bilinear" => GridMode::Bilinear,
                "nearest" => GridMode::Nearest,
                "bicubic" => GridMode::Bicubic,
                other => return Err(unsupported(format!("mode {other:?}"))),
            };
            outs([x.arg("input")?.grid_sample(&x.arg("grid")?, mode, outside, align_corners)])
        }
    }
}

fn attention(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let qkv = || Ok((x.arg("query")?, x.arg("key")?, x.arg("value")?));
    let both = |(out, weights): (Tensor, Tensor)| outs([out, weights]);
    match name {
        "additive_attention" => {
            let (q, k, v) = qkv()?;
            let weights = [&x.arg("w_q")?, &x.arg("w_k")?, &x.arg("v")?];
            both(q.additive_attention(&k, &v, weights, x.opt("attn_mask").as_ref()))
        }
        "distance_decay_attention" => {
            let (q, k, v) = qkv()?;
            let grid = a.per_dim("grid", 2)?.map(|g| g[1]);
            both(q.distance_decay_attention(&k, &v, a.float("decay", 0.0)?, grid))
        }
        "windowed_attention" => {
            let (q, k, v) = qkv()?;
            both(q.windowed_attention(&k, &v, int(a, "window")? as usize, a.flag("is_causal", false)?))
        }
        "linear_attention" => {
            let (q, k, v) = qkv()?;
            outs([q.linear_attention(&k, &v, a.flag("is_causal", false)?)])
        }
        "graph_attention" => {
            let slope = a.float("negative_slope", 0.2)?;
            both(x.arg("input")?.graph_attention(&x.arg("weight")?, &x.arg("a")?, &x.arg("adjacency")?, slope))
        }
        _ => Ok(None),
    }
}
