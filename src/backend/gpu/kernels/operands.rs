//! Operands of generated kernels: how each argument of a region is read at a position of an index space, as WGSL lines,
//! and where its strides lie in `Params`.

use super::expr;
use super::{Bind, storage_type};
use crate::dtype::DType;
use crate::ir::{Prim, Value};
use crate::plan::{Region, Source};
use crate::shape::{Shape, View, collapse};
use std::collections::HashMap;
use std::fmt::Write;

/// Most dimensions of a collapsed index space: strides of an operand fill two vec4 with its offset.
pub const MAX_RANK: usize = 7;
/// Most operands of one generated kernel.
pub(in crate::backend::gpu) const MAX_ARGS: usize = 24;

/// Sizes in the form of `array<vec4<u32>, 2>`.
pub fn pack_dims(dims: &[usize]) -> [[u32; 4]; 2] {
    let mut out = [[1; 4]; 2];
    for (i, &n) in dims.iter().enumerate().take(8) {
        out[i / 4][i % 4] = n as u32;
    }
    out
}

/// Strides in the form of `array<vec4<i32>, 2>`.
pub fn pack_strides(strides: &[isize]) -> [[i32; 4]; 2] {
    let mut out = [[0; 4]; 2];
    for (i, &s) in strides.iter().enumerate().take(8) {
        out[i / 4][i % 4] = s as i32;
    }
    out
}

/// How an operand follows the index space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Its element number is the linear position, plus an offset.
    Linear,
    /// One element for all positions.
    Single,
    /// By strides.
    Strided,
}

/// What a binding's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// One word.
    Scalar,
    /// Four words.
    Vec4,
    /// Eight words, as `vec4<u64>`.
    Wide,
}

impl Unit {
    /// How many words.
    pub fn words(self) -> usize {
        match self {
            Unit::Scalar => 1,
            Unit::Vec4 => 4,
            Unit::Wide => 8,
        }
    }
}

/// An operand as a generated kernel reads it.
pub struct Reader {
    /// The region's argument.
    pub arg: usize,
    /// Element type.
    pub dtype: DType,
    /// The binding, or `None` for positions (iota).
    pub binding: Option<usize>,
    /// How it is addressed.
    pub class: Class,
    /// True if the one in-place binding has another type than this operand.
    pub bitcast: bool,
}

/// All operands of a region over a common collapsed index space.
pub struct Operands {
    /// The index space: dimensions of group 0 (kept), then of group 1 (folded, for reductions).
    pub dims: Vec<usize>,
    /// How many of `dims` are in group 0.
    pub kept: usize,
    /// One per used argument that follows the index space.
    pub readers: Vec<Reader>,
    /// Strides of each reader.
    pub strides: Vec<Vec<isize>>,
    /// Offset of each reader.
    pub offsets: Vec<isize>,
    /// The arguments that are random counters, with their binding and view.
    pub counters: Vec<(usize, usize, View)>,
    /// What is bound.
    pub bindings: Vec<Bind>,
    /// Declarations of the bindings.
    pub decls: String,
    /// Row-major strides of the original space (for random numbers), in the collapsed one.
    pub linear: Vec<isize>,
    names: Names,
}

/// What the texts call what they share with others.
struct Names {
    /// The uniform `Params`.
    params: String,
    /// After the names of functions and types.
    suffix: String,
    /// The numbers of the bindings, all of which then hold u32.
    bindings: Option<Vec<usize>>,
}

/// The arguments that only give counters to `Random`.
fn is_counter(region: &Region, input: usize) -> bool {
    let value = region.body.inputs[input].value;
    let mut users = region.body.nodes.iter().filter(|n| n.args.contains(&value)).peekable();
    users.peek().is_some() && users.all(|n| matches!(n.prim, Prim::Random { .. }))
}

impl Operands {
    /// Plans the reading of a region's arguments. `axes` are the folded dimensions of the arguments' shape.
    pub fn new(region: &Region, shape: &Shape, axes: &[usize]) -> Result<Operands, String> {
        let order: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).chain(axes.iter().copied()).collect();
        let kept_rank = shape.len() - axes.len();
        let mut used = Vec::new();
        let mut views = vec![View::contiguous(shape).permute(&order)];
        let mut counters = Vec::new();
        for (i, arg) in region.args.iter().enumerate() {
            if region.body.use_counts()[region.body.inputs[i].value.node.0 as usize] == 0 {
                continue;
            }
            if is_counter(region, i) {
                counters.push((i, 0, arg.view.clone()));
            } else if arg.view.shape == *shape {
                used.push(i);
                views.push(arg.view.permute(&order));
            } else {
                return Err(format!("argument {i} is {}, the region {shape}", arg.view.shape));
            }
        }
        if used.len() + counters.len() > MAX_ARGS {
            return Err(format!("{} operands; the kernel takes {MAX_ARGS}", used.len() + counters.len()));
        }
        let part = |range: std::ops::Range<usize>| {
            let dims = Shape::from(&views[0].shape[range.clone()]);
            let strides: Vec<Vec<isize>> = views.iter().map(|v| v.strides[range.clone()].to_vec()).collect();
            collapse(&dims, &strides)
        };
        let (outer, outer_strides) = part(0..kept_rank);
        let (dims, kept, all) = if axes.is_empty() {
            (outer.to_vec(), outer.len(), outer_strides)
        } else {
            let (inner, inner_strides) = part(kept_rank..shape.len());
            let joined = outer_strides.into_iter().zip(inner_strides).map(|(a, b)| [a, b].concat()).collect();
            ([&outer[..], &inner[..]].concat(), outer.len(), joined)
        };
        if dims.len() > MAX_RANK {
            return Err(format!("{} dimensions remain after merging; the kernel takes {MAX_RANK}", dims.len()));
        }
        let mut all = all.into_iter();
        let linear = all.next().unwrap_or_default();
        let mut this = Operands {
            dims,
            kept,
            readers: Vec::new(),
            strides: all.collect(),
            offsets: used.iter().map(|&i| region.args[i].view.offset as isize).collect(),
            counters,
            bindings: Vec::new(),
            decls: String::new(),
            linear,
            names: Names { params: "params".into(), suffix: String::new(), bindings: None },
        };
        this.bind(region, &used)?;
        Ok(this)
    }

    /// Makes the texts those of a part of a kernel: binding b is number `bindings[b]` there and holds u32, `Params` are `params`, and
    /// `suffix` is after the names of functions and types.
    pub fn join(&mut self, bindings: Vec<usize>, params: String, suffix: String) {
        self.names = Names { params, suffix, bindings: Some(bindings) };
    }

    /// The word at `at` of binding `b`, of this storage type.
    fn word(&self, b: usize, at: &str, ty: &str) -> String {
        match &self.names.bindings {
            None => format!("b{b}[{at}]"),
            Some(numbers) => format!("bitcast<{ty}>(b{}[{at}])", numbers[b]),
        }
    }

    /// Bindings, one per slot and storage type, in-place results among them.
    fn bind(&mut self, region: &Region, used: &[usize]) -> Result<(), String> {
        let mut known: Vec<(Source, &'static str, usize)> = Vec::new();
        for (o, out) in region.outs.iter().enumerate() {
            if let Some(Some(arg)) = region.in_place.get(o) {
                known.push((Source::Slot(out.slot), storage_type(out.ty.dtype), self.bindings.len()));
                self.bindings.push(Bind::InPlace(*arg, o));
            }
        }
        let in_place = known.len();
        // A single element has no strides that tell reading it in place from a constant for all elements.
        let single = self.dims.iter().product::<usize>() == 1;
        if single {
            self.linear = vec![1; self.dims.len()];
        }
        for (r, &i) in used.iter().enumerate() {
            let arg = &region.args[i];
            if single && known[..in_place].iter().any(|k| k.0 == arg.source) {
                self.strides[r].clone_from(&self.linear);
            }
            // A region of one element reads every operand in the order in which it writes.
            let lone = in_place > 0 && arg.view.shape.elems() == 1 && arg.view.offset == 0;
            let class = if lone {
                Class::Linear
            } else if self.strides[r].iter().all(|&s| s == 0) {
                Class::Single
            } else if self.strides[r] == self.linear {
                Class::Linear
            } else {
                Class::Strided
            };
            let ty = storage_type(arg.dtype);
            let mut bitcast = false;
            let binding = match arg.source {
                Source::Iota => None,
                Source::Slot(_) => {
                    let at = known.iter().position(|k| k.0 == arg.source && (k.1 == ty || k.2 < in_place));
                    if let Some(at) = at.filter(|&k| k < in_place) {
                        // A single element has no strides: it is both `Single` and `Linear`.
                        if self.strides[r] != self.linear || arg.view.offset != 0 {
                            return Err("an operand reads memory that another element overwrites in place".into());
                        }
                        bitcast = known[at].1 != ty;
                    }
                    Some(match at {
                        Some(at) => known[at].2,
                        None => {
                            known.push((arg.source, ty, self.bindings.len()));
                            self.bindings.push(Bind::Arg(i));
                            self.bindings.len() - 1
                        }
                    })
                }
            };
            self.readers.push(Reader { arg: i, dtype: arg.dtype, binding, class, bitcast });
        }
        for c in 0..self.counters.len() {
            self.counters[c].1 = self.bindings.len();
            self.bindings.push(Bind::Arg(self.counters[c].0));
        }
        Ok(())
    }

    /// True if four neighbours along the last dimension can be read and written as one vec4 by every reader.
    pub fn can_vec4(&self) -> bool {
        let last = self.dims.len() - 1;
        (last == 0 || self.dims[last].is_multiple_of(4)) && self.walks(last, 4)
    }

    /// True if eight neighbours along dimension `d` can be read as four words of 64 bits by every reader.
    pub fn can_wide(&self, region: &Region, d: usize) -> bool {
        self.dims[d].is_multiple_of(8) && self.walks(d, 8) && super::rows::words(region)
    }

    /// True if every reader finds `unit` neighbours along dimension `d`, from a multiple of `unit` on, in one load or in one element.
    pub fn walks(&self, d: usize, unit: isize) -> bool {
        let aligned = |s: &isize| s % unit == 0;
        let reader = |(r, reader): (usize, &Reader)| {
            let s = &self.strides[r];
            let rows = s.iter().enumerate().all(|(i, s)| i == d || aligned(s)) && aligned(&self.offsets[r]);
            reader.binding.is_none() || s[d] == 0 || (s[d] == 1 && rows)
        };
        self.readers.iter().enumerate().all(reader)
    }

    /// WGSL lines that set `a0`, `a1`, .. to the element numbers of the readers (by `address`) and `w0`, `w1`, .. to the words there
    /// and at the next three places along `d`: one vec4 load per operand that walks `d`, one element of one that does not. Where `wide`,
    /// of the next seven places the even ones are in `w0`, .., the odd ones in `z0`, ..
    pub fn quads(&self, region: &Region, d: usize, wide: bool, address: impl Fn(usize) -> String) -> String {
        let mut text = String::new();
        for (r, reader) in self.readers.iter().enumerate() {
            let _ = writeln!(text, "    let a{r} = {};", address(r));
            let Some(b) = reader.binding else { continue };
            let (ty, at) = (storage_type(reader.dtype), format!("u32(a{r})"));
            let _ = match (self.strides[r][d] == 0, wide) {
                (true, true) => {
                    let word = format!("u32(b{b}[{at} / 8u][{at} / 2u % 4u] >> ({at} % 2u * 32u))");
                    writeln!(text, "    let w{r} = vec4<{ty}>(bitcast<{ty}>({word}));\n    let z{r} = w{r};")
                }
                (false, true) => {
                    let half = |name: &str| format!("bitcast<vec4<{ty}>>({name}(v{r}))");
                    let _ = writeln!(text, "    let v{r} = b{b}[{at} / 8u];");
                    writeln!(text, "    let w{r} = {};\n    let z{r} = {};", half("evens"), half("odds"))
                }
                (single, false) => {
                    let load = match single {
                        true => {
                            let kept = storage_type(region.args[reader.arg].dtype);
                            format!("vec4<{kept}>(b{b}[{at} / 4u][{at} % 4u])")
                        }
                        false => format!("b{b}[{at} / 4u]"),
                    };
                    let load = if reader.bitcast { format!("bitcast<vec4<{ty}>>({load})") } else { load };
                    writeln!(text, "    let w{r} = {load};")
                }
            };
        }
        text
    }

    /// The values of the readers at place `k` of the four (or, `wide`, eight) that [`Operands::quads`] loaded along `d`.
    pub fn quad_values(&self, d: usize, k: usize, wide: bool) -> Vec<String> {
        let value = |(r, reader): (usize, &Reader)| match reader.binding {
            Some(_) if wide => expr::load(reader.dtype, &format!("{}{r}[{}]", ["w", "z"][k % 2], k / 2)),
            Some(_) => expr::load(reader.dtype, &format!("w{r}[{k}]")),
            None => format!("a{r} + {k} * params.args[{}].{}", 2 * r + d / 4, ["x", "y", "z", "w"][d % 4]),
        };
        self.readers.iter().enumerate().map(value).collect()
    }

    /// Declarations of the operand bindings `b0`, `b1`, .. by the given `unit`: elements, four of them (`vec4`), or eight as `vec4<u64>`.
    pub fn declare(&mut self, region: &Region, unit: Unit) {
        let mut decls = String::new();
        for (b, bind) in self.bindings.iter().enumerate() {
            let (access, dtype) = match *bind {
                Bind::Arg(i) => ("read", region.args[i].dtype),
                Bind::InPlace(_, o) | Bind::Out(o) => ("read_write", region.outs[o].ty.dtype),
                Bind::Scratch { .. } | Bind::Image { .. } | Bind::Status => continue,
            };
            let scalar = storage_type(dtype);
            let counter = self.counters.iter().any(|c| c.1 == b);
            let ty = match unit {
                Unit::Vec4 if !counter => format!("vec4<{scalar}>"),
                Unit::Wide if !counter => "vec4<u64>".to_string(),
                Unit::Scalar | Unit::Vec4 | Unit::Wide => scalar.to_string(),
            };
            let _ = writeln!(decls, "@group(0) @binding({b}) var<storage, {access}> b{b}: array<{ty}>;");
        }
        self.decls = decls;
    }

    /// WGSL for the element number of reader `r`; `linear` is the name of the linear position, coordinates are c0, c1, ..
    pub fn address(&self, r: usize, linear: &str) -> String {
        match self.readers[r].class {
            Class::Linear if !linear.is_empty() => self.sum(r, vec![format!("i32({linear})")]),
            Class::Single | Class::Linear | Class::Strided => self.sum(r, self.steps(r, None)),
        }
    }

    /// As [`Operands::address`] by coordinates, for readers that [walk](Operands::walks) dimension `d`: each has step 1 or 0 there,
    /// which costs no multiplication and no load from `Params`.
    pub fn address_along(&self, r: usize, d: usize) -> String {
        self.sum(r, self.steps(r, Some(d)))
    }

    fn param(&self, r: usize, i: usize) -> String {
        format!("{}.args[{}].{}", self.names.params, 2 * r + i / 4, ["x", "y", "z", "w"][i % 4])
    }

    /// The terms of coordinates times strides; `unit` is a dimension of step 1.
    fn steps(&self, r: usize, unit: Option<usize>) -> Vec<String> {
        let term = |d: usize| match unit == Some(d) {
            true => format!("i32(c{d})"),
            false => format!("i32(c{d}) * {}", self.param(r, d)),
        };
        (0..self.dims.len()).filter(|&d| self.strides[r][d] != 0).map(term).collect()
    }

    /// Offset and terms. An offset of zero, which nearly all have, is not loaded.
    fn sum(&self, r: usize, mut terms: Vec<String>) -> String {
        if self.offsets[r] != 0 {
            terms.insert(0, self.param(r, 7));
        }
        if terms.is_empty() { "0".into() } else { terms.join(" + ") }
    }

    /// WGSL for the position in the original index space, from all coordinates; 0 if nobody draws random numbers there.
    pub fn position(&self) -> String {
        let terms = self.linear.iter().enumerate().map(|(d, s)| format!("c{d} * {s}u"));
        if self.counters.is_empty() { "0u".into() } else { terms.collect::<Vec<_>>().join(" + ") }
    }

    /// WGSL lines that set coordinates c{from}.. c{to-1} from the linear position `name`.
    pub fn coordinates(&self, name: &str, from: usize, to: usize) -> String {
        let mut text = String::new();
        let mut rest = name.to_string();
        for d in (from + 1..to).rev() {
            let dim = format!("{}.dims[{}].{}", self.names.params, d / 4, ["x", "y", "z", "w"][d % 4]);
            let _ = writeln!(text, "    let c{d} = {rest} % {dim};\n    let q{d} = {rest} / {dim};");
            rest = format!("q{d}");
        }
        if to > from {
            let _ = writeln!(text, "    let c{from} = {rest};");
        }
        text
    }

    /// The loaded word of reader `r` at element number `at`, as a value.
    pub fn value(&self, r: usize, at: &str) -> String {
        let reader = &self.readers[r];
        match reader.binding {
            None => format!("i32({at})"),
            Some(b) => {
                let ty = storage_type(reader.dtype);
                let word = self.word(b, &format!("u32({at})"), ty);
                let cast = reader.bitcast && self.names.bindings.is_none();
                expr::load(reader.dtype, &if cast { format!("bitcast<{ty}>({word})") } else { word })
            }
        }
    }

    /// Strides and offsets as `Params` has them: two vec4 a reader, the offset last.
    pub fn packed(&self) -> [[i32; 4]; 2 * MAX_ARGS] {
        let mut out = [[0; 4]; 2 * MAX_ARGS];
        for (r, strides) in self.strides.iter().enumerate() {
            for (d, &s) in strides.iter().enumerate() {
                out[2 * r + d / 4][d % 4] = s as i32;
            }
            out[2 * r + 1][3] = self.offsets[r] as i32;
        }
        // Counters come after the readers: stride of their four words, and offset.
        for (c, (_, _, view)) in self.counters.iter().enumerate() {
            let r = self.readers.len() + c;
            out[2 * r][0] = view.strides.first().copied().unwrap_or(1) as i32;
            out[2 * r + 1][3] = view.offset as i32;
        }
        out
    }

    /// WGSL for the counter number `c` as a `vec4<u32>`.
    pub fn counter(&self, c: usize) -> String {
        let r = self.readers.len() + c;
        let word = |k: usize| {
            let at = format!("u32({} + {k} * {})", self.param(r, 7), self.param(r, 0));
            self.word(self.counters[c].1, &at, "u32")
        };
        format!("vec4<u32>({}, {}, {}, {})", word(0), word(1), word(2), word(3))
    }

    /// The function `body(p, x0, .., k0, ..) -> Results` of the pointwise nodes; `wanted` are its results.
    /// `p` is the position for random numbers, `x` the operands, `k` the counters.
    pub fn body(&self, region: &Region, wanted: &[Value]) -> Result<String, String> {
        let graph = &region.body;
        let mut bound: HashMap<Value, String> = HashMap::new();
        let mut params = vec!["p: u32".to_string()];
        for (r, reader) in self.readers.iter().enumerate() {
            bound.insert(graph.inputs[reader.arg].value, format!("x{r}"));
            params.push(format!("x{r}: {}", expr::value_type(reader.dtype)));
        }
        let mut text = String::new();
        for (c, (arg, _, _)) in self.counters.iter().enumerate() {
            params.push(format!("k{c}: vec4<u32>"));
            let value = graph.inputs[*arg].value;
            for (id, node) in graph.iter().filter(|(_, n)| n.args.first() == Some(&value)) {
                if let Prim::Random { stream, .. } = node.prim {
                    let _ = writeln!(text, "    let v{} = random_word(k{c}, {stream}u, p);", id.0);
                    bound.insert(Value { node: id, out: 0 }, format!("v{}", id.0));
                }
            }
        }
        text += &expr::lines(graph, &mut bound, wanted)?;
        let fields: Vec<String> = wanted
            .iter()
            .enumerate()
            .map(|(o, &v)| format!("o{o}: {},", expr::value_type(graph.ty(v).dtype)))
            .collect();
        let values: Vec<&str> = wanted.iter().map(|v| bound[v].as_str()).collect();
        let suffix = &self.names.suffix;
        Ok(format!(
            "struct Results{suffix} {{ {} }}\nfn body{suffix}({}) -> Results{suffix} {{\n{text}    return Results{suffix}({});\n}}\n",
            fields.join(" "),
            params.join(", "),
            values.join(", ")
        ))
    }

    /// The common pieces that `body` needs.
    pub fn pieces(&self) -> &'static [&'static str] {
        if self.counters.is_empty() { &["index", "math"] } else { &["index", "math", "rng"] }
    }
}
