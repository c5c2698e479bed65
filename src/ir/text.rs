//! Graphs as text, one node a line: `%3 = add(%1, %2) : f32[4,8]`. Equal graphs give equal text, so tests and goldens
//! compare text.

use crate::ir::graph::{Graph, InputKind, OutputKind};
use crate::ir::prim::Prim;
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.iter() {
            let types: Vec<String> = node.types.iter().map(|t| t.to_string()).collect();
            let args: Vec<String> = node.args.iter().map(|a| a.to_string()).collect();
            let name = match &node.prim {
                Prim::Input { index } => {
                    let spec = &self.inputs[*index];
                    let kind = if spec.kind == InputKind::State { "state" } else { "feed" };
                    format!("{kind} {:?}", spec.name)
                }
                prim => prim.name(),
            };
            let attrs = if matches!(node.prim, Prim::Input { .. }) { String::new() } else { node.prim.attrs() };
            write!(f, "%{} = {name}", id.0)?;
            if !attrs.is_empty() {
                write!(f, "{{{attrs}}}")?;
            }
            if !args.is_empty() {
                write!(f, "({})", args.join(", "))?;
            }
            writeln!(f, " : {}", types.join(", "))?;
        }
        for out in &self.outputs {
            let kind = if out.kind == OutputKind::State { "state" } else { "fetch" };
            writeln!(f, "{kind} {:?} = {}", out.name, out.value)?;
        }
        Ok(())
    }
}
