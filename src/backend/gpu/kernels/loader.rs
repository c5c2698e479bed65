//! Generated loaders of strided operands: functions that read four neighbours or a 4 x 4 block, as one vec4 where memory allows it
//! and element by element where it does not. The kernels' texts call them by name and know nothing of strides.

use std::fmt::Write;

/// One operand of a strided product, as the loaders see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    /// `a` or `b`: prefix of the functions, name of the binding.
    pub name: &'a str,
    /// Expression of the address of outer index 0 in `batch`.
    pub start: &'a str,
    /// Expressions of the strides along the outer dimension and along k.
    pub outer: &'a str,
    pub inner: &'a str,
    /// Expression of the outer size.
    pub len: &'a str,
    /// Four neighbours are one vec4 in memory, along k or along the outer dimension.
    pub vec: bool,
    /// Neighbours along k (else along the outer dimension) are the ones to load together.
    pub along_k: bool,
    /// Expression of the size along k.
    pub k_len: &'a str,
    /// k is a multiple of the frame's step: no load reaches beyond it.
    pub exact: bool,
    /// An expression `address(line, k)` replaces `line + k * inner`.
    pub address: Option<&'a str>,
}

impl Operand<'_> {
    fn element(&self, line: &str, k: &str) -> String {
        let at = |k: &str| match self.address {
            Some(f) => format!("{f}({line}, {k})"),
            None => format!("{line} + i32({k}) * {}", self.inner),
        };
        let name = self.name;
        if self.exact {
            format!("{name}[{}]", at(k))
        } else {
            let len = self.k_len;
            format!("select(0.0, {name}[{}], {k} < {len})", at(&format!("min({k}, {len} - 1u)")))
        }
    }
    fn vector(&self, line: &str, k: &str) -> String {
        let (name, inner, len) = (self.name, self.inner, self.k_len);
        let last = if self.along_k { "4u" } else { "1u" };
        let kc = if self.exact { k.to_string() } else { format!("min({k}, {len} - {last})") };
        let at = match self.address {
            Some(f) => format!("{f}({line}, {kc})"),
            None if self.along_k => format!("({line} + i32({kc}))"),
            None => format!("({line} + i32({kc}) * {inner})"),
        };
        // A shift: a division would round towards zero, which takes more instructions.
        let v = format!("{name}[{at} >> 2u]");
        if self.exact { v } else { format!("select(vec4<f32>(), {v}, {k} < {len})") }
    }
    /// The functions `_line` and `_load`: four neighbours along k or along the outer dimension.
    pub fn line(&self) -> String {
        let Operand { name, start, outer, len, .. } = *self;
        let mut s = String::new();
        if self.along_k {
            let _ = writeln!(s, "fn {name}_line(batch: u32, o: u32) -> i32 {{");
            let _ = writeln!(s, "    return {start} + i32(min(o, {len} - 1u)) * {outer};\n}}");
            let _ = writeln!(s, "fn {name}_load(line: i32, i: u32) -> vec4<f32> {{");
            if self.vec {
                let _ = writeln!(s, "    return {};\n}}", self.vector("line", "i"));
            } else {
                let e = |i: usize| self.element("line", &format!("(i + {i}u)"));
                let _ = writeln!(s, "    return vec4<f32>({}, {}, {}, {});\n}}", e(0), e(1), e(2), e(3));
            }
        } else if self.vec {
            let _ = writeln!(s, "fn {name}_line(batch: u32, o: u32) -> i32 {{");
            let _ = writeln!(s, "    return {start} + i32(min(o, {len} - 4u));\n}}");
            let _ = writeln!(s, "fn {name}_load(line: i32, i: u32) -> vec4<f32> {{");
            let _ = writeln!(s, "    return {};\n}}", self.vector("line", "i"));
        } else {
            s += &self.four("line");
            let _ = writeln!(s, "fn {name}_load(line: vec4<i32>, i: u32) -> vec4<f32> {{");
            let e = |c: &str| self.element(&format!("line.{c}"), "i");
            let _ = writeln!(s, "    return vec4<f32>({}, {}, {}, {});\n}}", e("x"), e("y"), e("z"), e("w"));
        }
        s
    }
    /// The functions `_cols` and `_block`: a 4 x 4 block whose column j holds four outer neighbours at k + j.
    pub fn block(&self) -> String {
        let Operand { name, start, len, .. } = *self;
        let mut s = String::new();
        let ty = if self.vec && !self.along_k { "i32" } else { "vec4<i32>" };
        if self.vec && !self.along_k {
            let _ = writeln!(s, "fn {name}_cols(batch: u32, o: u32) -> i32 {{");
            let _ = writeln!(s, "    return {start} + i32(min(o, {len} - 4u));\n}}");
        } else {
            s += &self.four("cols");
        }
        let _ = writeln!(s, "fn {name}_block(cols: {ty}, i: u32) -> mat4x4<f32> {{");
        if self.vec && self.along_k {
            let v = |c: &str| self.vector(&format!("cols.{c}"), "i");
            let _ =
                writeln!(s, "    return transpose(mat4x4<f32>({}, {}, {}, {}));\n}}", v("x"), v("y"), v("z"), v("w"));
        } else {
            let column = |j: usize| {
                let k = format!("(i + {j}u)");
                if self.vec {
                    return self.vector("cols", &k);
                }
                let e = |c: &str| self.element(&format!("cols.{c}"), &k);
                format!("vec4<f32>({}, {}, {}, {})", e("x"), e("y"), e("z"), e("w"))
            };
            let _ = writeln!(s, "    return mat4x4<f32>(");
            for j in 0..4 {
                let _ = writeln!(s, "        {},", column(j));
            }
            let _ = writeln!(s, "    );\n}}");
        }
        s
    }
    fn four(&self, what: &str) -> String {
        let Operand { name, start, outer, len, .. } = self;
        format!(
            "fn {name}_{what}(batch: u32, o: u32) -> vec4<i32> {{\n    let four = min(vec4<u32>(o) + vec4<u32>(0u, 1u, 2u, 3u), \
             vec4<u32>({len} - 1u));\n    return {start} + vec4<i32>(four) * {outer};\n}}\n"
        )
    }
    /// The type of the binding's elements.
    pub fn element_type(&self) -> &'static str {
        if self.vec { "vec4<f32>" } else { "f32" }
    }
}
