//! Products, convolutions, pooling, normalisation and attention.

use super::{Found, counts, outs};
use crate::check::conformance::exec::{Built, Inputs};
use crate::check::conformance::file::{Attrs, unsupported};
use crate::error::Result;
use crate::ir::Tensor;
use crate::ops::{AttentionOptions, BatchNormOptions, ConvOptions, Padding, Pool};

/// Builds a function of these families.
pub fn build(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let one = |t: Tensor| outs([t]);
    match name {
        "matmul" => one(x.arg("input")?.matmul(&x.arg("other")?)),
        "matmul_transposed" => {
            let (ta, tb) = (a.flag("transpose_input", false)?, a.flag("transpose_other", false)?);
            one(x.arg("input")?.matmul_transposed(&x.arg("other")?, ta, tb))
        }
        "linear" => one(x.arg("input")?.linear(&x.arg("weight")?, x.opt("bias").as_ref())),
        "addmm" => {
            let (beta, alpha) = (a.float("beta", 1.0)?, a.float("alpha", 1.0)?);
            one(x.arg("input")?.addmm(&x.arg("mat1")?, &x.arg("mat2")?, beta, alpha))
        }
        "bmm" => one(x.arg("input")?.bmm(&x.arg("mat2")?)),
        "outer" => one(x.arg("input")?.outer(&x.arg("vec2")?)),
        "conv1d" => conv(x, 1),
        "conv2d" => conv(x, 2),
        "conv3d" => conv(x, 3),
        "conv_transpose1d" => conv_transpose(x, 1),
        "conv_transpose2d" => conv_transpose(x, 2),
        "max_pool1d" | "max_pool2d" => {
            let (t, pool) = (x.arg("input")?, pool(a, if name == "max_pool1d" { 1 } else { 2 }, true)?);
            let index = a.flag("return_indices", false)?.then(|| t.max_pool_indices(&pool));
            outs([Some(t.max_pool(&pool)), index].into_iter().flatten())
        }
        "min_pool1d" => one(x.arg("input")?.min_pool(&pool(a, 1, true)?)),
        "min_pool2d" => one(x.arg("input")?.min_pool(&pool(a, 2, true)?)),
        "avg_pool1d" => one(x.arg("input")?.avg_pool(&pool(a, 1, false)?, a.flag("count_include_pad", true)?, None)),
        "avg_pool2d" => {
            let divisor = a.opt_int("divisor_override")?;
            one(x.arg("input")?.avg_pool(&pool(a, 2, false)?, a.flag("count_include_pad", true)?, divisor))
        }
        "adaptive_avg_pool2d" => {
            let t = x.arg("input")?;
            let size = match a.get("output_size").and_then(|v| v.as_array()) {
                // null keeps a size
                Some(list) if list.len() == 2 && t.rank() >= 2 => list
                    .iter()
                    .zip([-2, -1])
                    .map(|(v, d)| if v.is_null() { Some(t.size(d)) } else { v.as_u64().map(|n| n as usize) })
                    .collect::<Option<Vec<_>>>(),
                Some(_) => None,
                None => a.per_dim("output_size", 2)?,
            };
            let size = size.ok_or_else(|| unsupported("adaptive_avg_pool2d with this output_size"))?;
            one(t.adaptive_avg_pool(&size))
        }
        "batch_norm" => batch_norm(x),
        "layer_norm" => {
            let shape = counts(a, "normalized_shape")?;
            let (w, b, eps) = (x.opt("weight"), x.opt("bias"), a.float("eps", 1e-5)?);
            one(x.arg("input")?.layer_norm(&shape, w.as_ref(), b.as_ref(), eps))
        }
        "rms_norm" => {
            let eps = a.opt_float("eps")?.ok_or_else(|| unsupported("rms_norm without eps"))?;
            one(x.arg("input")?.rms_norm(&counts(a, "normalized_shape")?, x.opt("weight").as_ref(), eps))
        }
        "group_norm" => {
            let (w, b, eps) = (x.opt("weight"), x.opt("bias"), a.float("eps", 1e-5)?);
            one(x.arg("input")?.group_norm(a.count("num_groups", 1)?, w.as_ref(), b.as_ref(), eps))
        }
        "instance_norm" => instance_norm(x),
        "normalize" => {
            let dims = super::signed(a.opt_ints("dim")?.unwrap_or_else(|| vec![1]));
            one(x.arg("input")?.normalize(a.float("p", 2.0)?, &dims, a.float("eps", 1e-12)?))
        }
        "scaled_dot_product_attention" => {
            let mask = x.opt("attn_mask");
            let options = AttentionOptions {
                mask: mask.as_ref(),
                is_causal: a.flag("is_causal", false)?,
                scale: a.opt_float("scale")?,
                enable_gqa: a.flag("enable_gqa", false)?,
            };
            if a.float("dropout_p", 0.0)? != 0.0 {
                return Err(unsupported("attention with dropout, whose result is random"));
            }
            one(x.arg("query")?.scaled_dot_product_attention(&x.arg("key")?, &x.arg("value")?, &options))
        }
        _ => Ok(None),
    }
}

fn conv_options(a: &Attrs, dims: usize) -> Result<ConvOptions> {
    let mut o = ConvOptions::new(dims);
    o.stride = a.per_dim("stride", dims)?.unwrap_or(o.stride);
    o.dilation = a.per_dim("dilation", dims)?.unwrap_or(o.dilation);
    o.groups = a.count("groups", 1)?;
    o.padding = match a.get("padding").and_then(|v| v.as_str()) {
        Some("same") => Padding::Same,
        Some("valid") => Padding::Valid,
        Some(other) => return Err(unsupported(format!("padding {other:?}"))),
        None => Padding::Zeros(a.per_dim("padding", dims)?.unwrap_or_else(|| vec![0; dims])),
    };
    Ok(o)
}

fn conv(x: &Inputs, dims: usize) -> Found {
    let o = conv_options(&x.case.attrs, dims)?;
    outs([x.arg("input")?.conv_nd(&x.arg("weight")?, x.opt("bias").as_ref(), &o)])
}

fn conv_transpose(x: &Inputs, dims: usize) -> Found {
    let a = &x.case.attrs;
    let mut o = conv_options(a, dims)?;
    o.output_padding = a.per_dim("output_padding", dims)?.unwrap_or(o.output_padding);
    outs([x.arg("input")?.conv_transpose_nd(&x.arg("weight")?, x.opt("bias").as_ref(), &o)])
}

fn pool(a: &Attrs, dims: usize, dilation: bool) -> Result<Pool> {
    let kernel = a.per_dim("kernel_size", dims)?.ok_or_else(|| unsupported("pooling without kernel_size"))?;
    let mut pool = Pool::new(kernel).ceil_mode(a.flag("ceil_mode", false)?);
    pool.stride = a.per_dim("stride", dims)?.unwrap_or(pool.stride);
    pool.padding = a.per_dim("padding", dims)?.unwrap_or(pool.padding);
    if dilation {
        pool.dilation = a.per_dim("dilation", dims)?.unwrap_or(pool.dilation);
    }
    Ok(pool)
}

fn batch_norm(x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let vectors = ["running_mean", "running_var", "weight", "bias"].map(|n| x.opt(n));
    let [running_mean, running_var, weight, bias] = &vectors;
    let result = x.arg("input")?.batch_norm(&BatchNormOptions {
        running_mean: running_mean.as_ref(),
        running_var: running_var.as_ref(),
        weight: weight.as_ref(),
        bias: bias.as_ref(),
        training: a.flag("training", false)?,
        momentum: a.float("momentum", 0.1)?,
        eps: a.float("eps", 1e-5)?,
    });
    let after = [("after.running_mean", result.running_mean), ("after.running_var", result.running_var)];
    let named = after.into_iter().filter_map(|(name, t)| Some((name.to_string(), t?))).collect();
    Ok(Some(Built { outs: vec![result.output], named, leaves: Vec::new() }))
}

fn instance_norm(x: &Inputs) -> Found {
    let a = &x.case.attrs;
    if !a.flag("use_input_stats", true)? {
        // With the running statistics each instance is normalised as any batch is.
        return batch_norm(x);
    }
    let (t, w, b, eps) = (x.arg("input")?, x.opt("weight"), x.opt("bias"), a.float("eps", 1e-5)?);
    let momentum = a.float("momentum", 0.1)?;
    let spatial: Vec<isize> = (2..t.rank() as isize).collect();
    // They move towards the mean over the batch of the statistics of each instance.
    let moved = |name: &str, new: &dyn Fn() -> Tensor| {
        let old = x.opt(name)?;
        Some((format!("after.{name}"), old * (1.0 - momentum) + new().mean(&[0], false).detach() * momentum))
    };
    let mean = moved("running_mean", &|| t.mean(&spatial, false));
    let var = moved("running_var", &|| t.var(&spatial, 1.0, false));
    let outs = vec![t.instance_norm(w.as_ref(), b.as_ref(), eps)];
    Ok(Some(Built { outs, named: mean.into_iter().chain(var).collect(), leaves: Vec::new() }))
}
