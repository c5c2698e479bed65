//! Functions that rearrange elements and functions that index.

use super::{Found, category, counts, int, ints, outs, signed};
use crate::check::conformance::exec::Inputs;
use crate::check::conformance::file::unsupported;
use crate::ir::Tensor;
use crate::ops::{EmbeddingOptions, PadMode};

/// Builds a function of these families.
pub fn build(name: &str, x: &Inputs) -> Found {
    let a = &x.case.attrs;
    let one = |t: Tensor| outs([t]);
    let dim = |default: i64| a.int("dim", default).map(|d| d as isize);
    match name {
        "reshape" => one(x.arg("input")?.view(&signed(ints(a, "shape")?))),
        "permute" => one(x.arg("input")?.permute(&signed(ints(a, "dims")?))),
        "transpose" => one(x.arg("input")?.transpose(int(a, "dim0")? as isize, int(a, "dim1")? as isize)),
        "flatten" => one(x.arg("input")?.flatten(a.int("start_dim", 0)? as isize, a.int("end_dim", -1)? as isize)),
        "squeeze" => one(match a.opt_ints("dim")? {
            Some(mut list) => {
                let t = x.arg("input")?;
                list.iter_mut().for_each(|d| *d += if *d < 0 { t.rank() as i64 } else { 0 });
                list.sort_unstable();
                list.iter().rev().fold(t, |t, &d| t.squeeze(d as isize))
            }
            None => {
                let t = x.arg("input")?;
                let kept: Vec<usize> = t.shape().iter().copied().filter(|&n| n != 1).collect();
                t.reshape(kept)
            }
        }),
        "unsqueeze" => one(x.arg("input")?.unsqueeze(int(a, "dim")? as isize)),
        "expand" => one(x.arg("input")?.expand(&signed(ints(a, "size")?))),
        "flip" => one(x.arg("input")?.flip(&signed(ints(a, "dims")?))),
        "roll" => one(x.arg("input")?.roll(&ints(a, "shifts")?, &signed(a.opt_ints("dims")?.unwrap_or_default()))),
        "narrow" => {
            let (t, dim, start) = (x.arg("input")?, int(a, "dim")? as isize, int(a, "start")?);
            let from_end = if start < 0 { t.size(dim) as i64 } else { 0 };
            let start = usize::try_from(start + from_end).map_err(|_| unsupported(format!("narrow from {start}")))?;
            one(t.narrow(dim, start, a.count("length", 0)?))
        }
        "tril" => one(x.arg("input")?.tril(a.int("diagonal", 0)?)),
        "triu" => one(x.arg("input")?.triu(a.int("diagonal", 0)?)),
        "cat" => one(Tensor::cat(&promoted(x.all()).iter().collect::<Vec<_>>(), dim(0)?)),
        "stack" => one(Tensor::stack(&x.all().iter().collect::<Vec<_>>(), dim(0)?)),
        "chunk" => outs(x.arg("input")?.chunk(a.count("chunks", 1)?, dim(0)?)),
        "split" => {
            let sizes = counts(a, "split_size_or_sections")?;
            let is_list = a.get("split_size_or_sections").is_some_and(|v| v.is_array());
            let t = x.arg("input")?;
            outs(if is_list { t.split_sizes(&sizes, dim(0)?) } else { t.split(sizes[0], dim(0)?) })
        }
        "pad" => {
            let list = ints(a, "pad")?;
            let pairs: Vec<(i64, i64)> = list.chunks_exact(2).map(|p| (p[0], p[1])).collect();
            let mode = a.word("mode", "constant")?;
            let known = PadMode::named(&mode, a.float("value", 0.0)?);
            one(x.arg("input")?.pad_with(&pairs, known.ok_or_else(|| unsupported(format!("pad mode {mode:?}")))?))
        }
        "gather" => one(x.arg("input")?.gather(int(a, "dim")? as isize, &x.arg("index")?)),
        "index_select" => one(x.arg("input")?.index_select(int(a, "dim")? as isize, &x.arg("index")?)),
        "scatter_add" => one(x.arg("input")?.scatter_add(int(a, "dim")? as isize, &x.arg("index")?, &x.arg("src")?)),
        "embedding" => {
            let (max_norm, norm_type) = (a.opt_float("max_norm")?, a.float("norm_type", 2.0)?);
            let scale_grad_by_freq = a.flag("scale_grad_by_freq", false)?;
            let weight = x.arg("weight")?;
            let rows = weight.size(0) as i64;
            let padding = a.opt_int("padding_idx")?.map(|i| if i < 0 { i + rows } else { i } as usize);
            let options = EmbeddingOptions { padding_idx: padding, max_norm, norm_type, scale_grad_by_freq };
            one(weight.embedding_with(&x.arg("input")?, &options))
        }
        "one_hot" => one(x.arg("input")?.one_hot(match a.int("num_classes", -1)? {
            // As many as there are in the data, which are at hand.
            -1 => x.case.tensor("in.input")?.to_f64().into_iter().fold(-1.0, f64::max) as usize + 1,
            n => n.max(0) as usize,
        })),
        _ => Ok(None),
    }
}

/// Tensors in the type of the highest category among them.
fn promoted(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let highest = tensors.iter().map(Tensor::dtype).max_by_key(|&t| category(t));
    tensors.iter().map(|t| highest.map_or(t.clone(), |dtype| t.cast(dtype))).collect()
}
