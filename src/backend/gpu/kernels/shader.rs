//! Puts kernel texts together: a short generated header, named common pieces, then the kernel's own file. WGSL has no
//! imports; this is concatenation, and where lanes fold by subgroups another line for what `lane` is.

use std::fmt::Write;
use std::sync::Arc;

/// The common pieces by name; the second part lists the pieces that a piece needs before it.
const PIECES: &[(&str, &[&str], &str)] = &[
    ("index", &[], include_str!("../../../../shaders/common/index.wgsl")),
    ("bits", &[], include_str!("../../../../shaders/common/bits.wgsl")),
    ("math", &["bits"], include_str!("../../../../shaders/common/math.wgsl")),
    ("rng", &[], include_str!("../../../../shaders/common/rng.wgsl")),
    ("reduce", &["bits"], include_str!("../../../../shaders/common/reduce.wgsl")),
    ("quad", &["bits"], include_str!("../../../../shaders/common/quad.wgsl")),
    ("pair", &["quad"], include_str!("../../../../shaders/common/pair.wgsl")),
    ("wide", &[], include_str!("../../../../shaders/common/wide.wgsl")),
    ("keys", &[], include_str!("../../../../shaders/common/keys.wgsl")),
    ("fold", &[], include_str!("../../../../shaders/common/fold.wgsl")),
    ("status", &[], include_str!("../../../../shaders/common/status.wgsl")),
];

/// A kernel text under construction.
pub struct Shader {
    stem: &'static str,
    header: String,
    common: Vec<&'static str>,
    body: String,
    by_subgroup: bool,
}

/// Where kernels say what `lane` is, and what numbers lanes by subgroup instead: neighbours are then of one subgroup, whatever the adapter's order.
const LANE: &str = "    @builtin(local_invocation_index) lane: u32,\n) {\n";
const LANE_BY_SUBGROUP: &str = "    @builtin(subgroup_id) subgroup: u32,\n    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) place: u32,\n) {\n    let lane = subgroup * size + place;\n";

impl Shader {
    /// An empty text of the kernel `stem`.
    pub fn new(stem: &'static str) -> Shader {
        Shader { stem, header: String::new(), common: Vec::new(), body: String::new(), by_subgroup: false }
    }
    /// Adds lines to the generated header.
    pub fn header(mut self, text: impl AsRef<str>) -> Shader {
        self.header.push_str(text.as_ref());
        self.header.push('\n');
        self
    }
    /// Adds `const NAME: u32 = value;` for each entry: what WGSL takes no override for (register tiles, unroll counts).
    pub fn consts(mut self, values: &[(&str, u32)]) -> Shader {
        for (name, value) in values {
            let _ = writeln!(self.header, "const {name}: u32 = {value}u;");
        }
        self
    }
    /// Adds named common pieces (files of `shaders/common/`) and what they need, each once.
    pub fn common(mut self, names: &[&'static str]) -> Shader {
        for &name in names {
            if self.common.contains(&name) {
                continue;
            }
            if let Some((_, needs, _)) = PIECES.iter().find(|p| p.0 == name) {
                self = self.common(needs);
            }
            self.common.push(name);
        }
        self
    }
    /// Adds the kernel's own text.
    pub fn body(mut self, text: impl AsRef<str>) -> Shader {
        self.body.push_str(text.as_ref());
        self
    }
    /// Numbers the lanes of `main` by subgroup.
    pub fn lanes_by_subgroup(mut self) -> Shader {
        self.by_subgroup = true;
        self
    }
    /// The whole text.
    pub fn build(self) -> Arc<str> {
        let mut text = format!("// {}: header\n{}", self.stem, self.header);
        for name in &self.common {
            // A piece that does not exist is left out with a line that the validation of all texts stops at.
            let piece = PIECES.iter().find(|p| p.0 == *name).map_or("common piece does not exist", |p| p.2);
            let _ = write!(text, "\n// common/{name}\n{piece}");
        }
        let body = if self.by_subgroup { self.body.replace(LANE, LANE_BY_SUBGROUP) } else { self.body };
        let _ = write!(text, "\n// {}.wgsl\n{body}", self.stem);
        text.into()
    }
}

/// `line` for i = 0 .. n, one a line, with each `$i` replaced: unrolled statements and register tiles.
pub fn repeat(n: usize, line: &str) -> String {
    (0..n).map(|i| line.replace("$i", &i.to_string()) + "\n").collect()
}

/// `line` for i = 0 .. n and j = 0 .. m, one a line, with each `$i` and `$j` replaced.
pub fn repeat2(n: usize, m: usize, line: &str) -> String {
    (0..n).map(|i| repeat_j(m, &line.replace("$i", &i.to_string()))).collect()
}

fn repeat_j(m: usize, line: &str) -> String {
    (0..m).map(|j| line.replace("$j", &j.to_string()) + "\n").collect()
}

/// The WGSL type of an element in memory (a bool is a u32 there).
pub fn storage_type(dtype: crate::dtype::DType) -> &'static str {
    use crate::dtype::DType;
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::I32 => "i32",
        DType::U32 | DType::Bool => "u32",
    }
}
