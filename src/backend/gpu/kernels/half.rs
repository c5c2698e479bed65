//! f16 in memory, f32 everywhere else. The kernels' texts are written for f32; where an operand or a result of a region is
//! f16, this module rewrites the loads and stores of its binding: `x[i]` becomes `f32(x[i])`, `y[i] = v;` becomes
//! `y[i] = to_f16(v);`, and so with vec4. Texts that are generated from element types (pointwise regions, reductions,
//! epilogues) declare f16 themselves and stay as they are.
//!
//! A f16 store touches no other element: Vulkan's 16-bit storage (which an adapter with `SHADER_F16` has), Metal and DX12
//! with 16-bit types address single halves, so that neighbours may be written by different invocations.

use super::{Bind, KernelCall};
use crate::dtype::DType;
use crate::ir::{Call, Graph, Prim, Type, Value};
use crate::plan::{Region, RegionKind};
use std::sync::Arc;

const HALF: &str = include_str!("../../../../shaders/common/half.wgsl");
const STORE: &str = include_str!("../../../../shaders/common/half_store.wgsl");

/// True if an argument or a result holds f16.
pub(in crate::backend::gpu) fn stored(region: &Region) -> bool {
    let half = |d: DType| d == DType::F16;
    region.args.iter().any(|a| half(a.dtype)) || region.outs.iter().any(|o| half(o.ty.dtype))
}

/// Makes the call's text load and store f16 where its bindings hold f16, and adds what the text needs for it. Errors if the
/// text does something with such a binding that has no form in f16.
pub(super) fn finish(region: &Region, call: &mut KernelCall) -> Result<(), String> {
    let half = |bind: &Bind| match *bind {
        Bind::Arg(i) => region.args[i].dtype == DType::F16,
        Bind::Out(o) | Bind::InPlace(_, o) => region.outs[o].ty.dtype == DType::F16,
        Bind::Scratch { .. } | Bind::Image { .. } | Bind::Status => false,
    };
    let bound: Vec<usize> = (0..call.bindings.len()).filter(|&b| half(&call.bindings[b])).collect();
    if bound.is_empty() && !call.source.contains("half_(") {
        return Ok(());
    }
    let mut text = call.source.to_string();
    for &b in &bound {
        text = convert(&text, b).map_err(|e| format!("{} has no form in f16: {e}", call.label))?;
    }
    let stores = text.contains("to_f16");
    if stores || text.contains("half_(") {
        text = format!("{text}\n// common/half\n{HALF}");
    }
    if stores {
        text = format!("{text}\n// common/half_store\n{STORE}");
    }
    // The call counted four bytes for each element; repeated ones once.
    let elems = |bind: &Bind| match *bind {
        Bind::Arg(i) => {
            let view = &region.args[i].view;
            view.shape.iter().zip(&view.strides).map(|(&n, &s)| if s == 0 { 1 } else { n }).product()
        }
        Bind::Out(o) | Bind::InPlace(_, o) => region.outs[o].ty.shape.elems(),
        Bind::Scratch { .. } | Bind::Image { .. } | Bind::Status => 0,
    };
    let saved: usize = bound.iter().map(|&b| 2 * elems(&call.bindings[b])).sum();
    call.bytes = call.bytes.saturating_sub(saved as u64).max(call.bytes / 2);
    call.source = if bound.is_empty() { text.into() } else { format!("enable f16;\n{text}").into() };
    Ok(())
}

/// The text with f16 at binding `b`.
fn convert(text: &str, b: usize) -> Result<String, String> {
    let start =
        text.find(&format!("@binding({b}) var<storage")).ok_or_else(|| format!("binding {b} is not declared"))?;
    let end = start + text[start..].find(';').ok_or("a declaration does not end")?;
    let declared = &text[start..end];
    let (head, element) = declared.split_once("array<").ok_or_else(|| format!("{declared} is no array"))?;
    let element = element.trim_end().strip_suffix('>').ok_or_else(|| format!("{declared} is no array"))?;
    let name = head.split('>').nth(1).and_then(|s| s.split(':').next()).unwrap_or("").trim().to_string();
    let aliased = text.split_once(&format!("alias {element} = ")).and_then(|(_, rest)| rest.split(';').next());
    let (narrow, wide, store) = match aliased.unwrap_or(element) {
        "f16" | "vec4<f16>" => return Ok(text.to_string()),
        "f32" => ("f16", "f32", "to_f16"),
        "vec4<f32>" => ("vec4<f16>", "vec4<f32>", "to_f16x4"),
        other => return Err(format!("{name} holds {other}")),
    };
    let before = rewrite(&text[..start], &name, wide, store)?;
    let after = rewrite(&text[end..], &name, wide, store)?;
    Ok(format!("{before}{head}array<{narrow}>{after}"))
}

/// The text with every load and store of `name[..]` converted.
fn rewrite(text: &str, name: &str, wide: &str, store: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((at, inside)) = next(rest, name) {
        out.push_str(&rest[..at]);
        let close = matching(rest, inside).ok_or_else(|| format!("{name}[ does not end"))?;
        let index = rewrite(&rest[inside..close], name, wide, store)?;
        let after = &rest[close + 1..];
        let follows = after.trim_start();
        let place = format!("{name}[{index}]");
        if follows.starts_with('=') && !follows.starts_with("==") {
            let value = &follows[1..];
            let end = value.find(';').ok_or_else(|| format!("a store to {name} does not end"))?;
            out.push_str(&format!("{place} = {store}({})", rewrite(value[..end].trim(), name, wide, store)?));
            rest = &value[end..];
            continue;
        }
        let operator = follows.trim_start_matches(['+', '-', '*', '/', '%', '&', '|', '^']);
        let assigned = operator.len() < follows.len() && operator.starts_with('=') && !operator.starts_with("==");
        if assigned || rest[..at].trim_end().ends_with('&') && !rest[..at].trim_end().ends_with("&&") {
            return Err(format!("{name} is changed in place or its address taken"));
        }
        out.push_str(&format!("{wide}({place})"));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The first use `name[`, not in a comment and not of a member of that name: where it starts, and where the index does.
fn next(text: &str, name: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(name) {
        let at = from + found;
        from = at + name.len();
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let line = &text[text[..at].rfind('\n').map_or(0, |n| n + 1)..at];
        if text[from..].starts_with('[') && !text[..at].ends_with(word) && !line.contains("//") {
            return Some((at, from + 1));
        }
    }
    None
}

/// The bracket that closes the one before `inside`.
fn matching(text: &str, inside: usize) -> Option<usize> {
    let mut depth = 1;
    for (i, c) in text[inside..].char_indices() {
        depth += match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(inside + i);
        }
    }
    None
}

/// For tests of kernels: the region with every f32 operand of its product or composite, and its f32 results, in f16, or
/// `None` where there are none. A result is the rounded one of the original region.
pub fn sample(region: &Region) -> Option<Region> {
    let product = matches!(region.kind, RegionKind::Dot | RegionKind::Conv);
    if !product && region.kind != RegionKind::Fused {
        return None;
    }
    let narrow = |d: DType| if d == DType::F32 { DType::F16 } else { d };
    let mut new = region.clone();
    // Further operands of an epilogue stay as they are, and what is overwritten.
    let converted = if product { 2 } else { new.args.len() };
    for (i, arg) in new.args.iter_mut().enumerate().take(converted) {
        arg.dtype = narrow(arg.dtype);
        let node = new.body.inputs[i].value.node.0 as usize;
        new.body.nodes[node].types[0].dtype = arg.dtype;
    }
    for node in &mut new.body.nodes {
        if let Prim::Call(call) = &node.prim {
            let call = converted_call(call)?;
            node.types = call.body.outputs.iter().map(|o| call.body.ty(o.value).clone()).collect();
            node.prim = Prim::Call(call);
        }
    }
    let in_place = region.in_place.iter().any(Option::is_some);
    for (spec, target) in new.body.outputs.clone().iter().zip(&mut new.outs) {
        if product && !in_place && target.ty.dtype == DType::F32 {
            let ty = Type::new(DType::F16, target.ty.shape.clone());
            let loc = new.body.node(spec.value.node).loc;
            new.body.nodes.push(crate::ir::Node {
                prim: Prim::Cast(DType::F16),
                args: vec![spec.value],
                types: vec![ty],
                loc,
            });
            let value = Value { node: crate::ir::NodeId(new.body.nodes.len() as u32 - 1), out: 0 };
            new.body.outputs.iter_mut().filter(|o| o.name == spec.name).for_each(|o| o.value = value);
        }
    }
    for (spec, target) in new.body.outputs.iter().zip(&mut new.outs) {
        target.ty = new.body.ty(spec.value).clone();
    }
    Some(new)
}

/// The call with all its f32 arguments and results in f16.
fn converted_call(call: &Call) -> Option<Call> {
    let b = crate::ir::Builder::new();
    let body: &Graph = &call.body;
    let half = |d: DType| if d == DType::F32 { DType::F16 } else { d };
    let args: Vec<crate::ir::Tensor> = body
        .inputs
        .iter()
        .map(|i| {
            let ty = body.ty(i.value);
            b.feed(i.name.clone(), half(ty.dtype), ty.shape.clone()).cast(ty.dtype)
        })
        .collect();
    for (spec, out) in body.outputs.iter().zip(b.inline(body, &args)) {
        b.output(spec.name.clone(), spec.kind.clone(), &out.cast(half(out.dtype())));
    }
    Some(Call { composite: call.composite.clone(), body: Arc::new(b.build().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_and_stores_are_converted_and_nothing_else() {
        let text = "@group(0) @binding(0) var<storage, read> x: array<f32>;\n\
                    @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;\n\
                    // x[0] is a comment\n\
                    fn f(max: f32) { let a = x[i32(x[1]) + params.x[2]]; y[j] = vec4<f32>(a, xx[3], x[4u], 0.0); }\n";
        let narrow = convert(&convert(text, 0).unwrap(), 1).unwrap();
        let want = "@group(0) @binding(0) var<storage, read> x: array<f16>;\n\
                    @group(0) @binding(1) var<storage, read_write> y: array<vec4<f16>>;\n\
                    // x[0] is a comment\n\
                    fn f(max: f32) { let a = f32(x[i32(f32(x[1])) + params.x[2]]); \
                    y[j] = to_f16x4(vec4<f32>(a, xx[3], f32(x[4u]), 0.0)); }\n";
        assert_eq!(narrow, want);
        let alias =
            "alias XElem = vec4<f32>;\n@group(0) @binding(3) var<storage, read> x: array<XElem>;\nlet v = x[2].y;";
        assert!(convert(alias, 3).unwrap().ends_with("x: array<vec4<f16>>;\nlet v = vec4<f32>(x[2]).y;"));
        for wrong in ["x[1] += 2.0;", "f(&x[1]);"] {
            let text = format!("@binding(0) var<storage, read_write> x: array<f32>; {wrong}");
            assert!(convert(&text, 0).unwrap_err().contains("in place"), "{wrong}");
        }
        assert!(convert("@binding(0) var<storage, read> x: array<u32>;", 0).unwrap_err().contains("u32"));
    }
}
