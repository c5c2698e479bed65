//! The barrier lint: no barrier, uniform load or subgroup operation where the invocations of a workgroup may have parted.
//! naga validates texts but not that. Conservative: it may refuse correct texts, and must never accept wrong ones.
//!
//! A value is *mixed* if it may differ between invocations of a workgroup: it comes from an invocation's own number, from
//! memory that the kernel writes, from an atomic or subgroup result, or was assigned where control flow was mixed.

use naga::{AddressSpace, Binding, Block, BuiltIn, Expression, Function, Handle, Module, Statement, StorageAccess};
use std::collections::HashSet;

/// One line for each collective operation that not all invocations of a workgroup may reach.
pub fn barriers(module: &Module) -> Vec<String> {
    let mut found = Vec::new();
    for entry in &module.entry_points {
        let mixed: Vec<bool> = entry
            .function
            .arguments
            .iter()
            .map(|a| match &a.binding {
                Some(Binding::BuiltIn(b)) => !uniform_builtin(b),
                Some(Binding::Location { .. }) => true,
                // A struct of inputs: mixed as a whole.
                None => true,
            })
            .collect();
        Walk::new(module, &entry.function, &entry.name, mixed).finish(false, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

/// As [`barriers`], for WGSL text. The first line of the parser's message if it does not parse.
pub fn barriers_in(text: &str) -> Result<Vec<String>, String> {
    naga::front::wgsl::parse_str(text).map(|m| barriers(&m)).map_err(|e| e.emit_to_string(text))
}

fn uniform_builtin(b: &BuiltIn) -> bool {
    matches!(
        b,
        BuiltIn::WorkGroupId
            | BuiltIn::WorkGroupSize
            | BuiltIn::NumWorkGroups
            | BuiltIn::NumSubgroups
            | BuiltIn::SubgroupSize
    )
}

/// One function under given arguments.
struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    name: &'a str,
    args: Vec<bool>,
    /// Local variables and call results that are mixed. Grows until it is stable.
    locals: HashSet<Handle<naga::LocalVariable>>,
    results: HashSet<Handle<Expression>>,
    /// The returned value is mixed.
    returns: bool,
    /// Invocations may have returned at different places.
    parted: bool,
}

/// What a block did to the loop around it: some invocations may have left it or gone to its next turn.
#[derive(Clone, Copy, Default)]
struct Left {
    mixed: bool,
}

impl<'a> Walk<'a> {
    fn new(module: &'a Module, function: &'a Function, name: &'a str, args: Vec<bool>) -> Walk<'a> {
        Walk {
            module,
            function,
            name,
            args,
            locals: HashSet::new(),
            results: HashSet::new(),
            returns: false,
            parted: false,
        }
    }

    /// Walks until nothing changes, then once more for the findings. True if the returned value is mixed.
    fn finish(mut self, flow: bool, found: &mut Vec<String>) -> bool {
        loop {
            let before = (self.locals.len(), self.results.len(), self.returns);
            self.parted = false;
            self.block(&self.function.body, flow, &mut Vec::new());
            if before == (self.locals.len(), self.results.len(), self.returns) {
                break;
            }
        }
        self.parted = false;
        self.block(&self.function.body, flow, found);
        self.returns
    }

    /// Whether the value of an expression may differ between invocations.
    fn mixed(&self, e: Handle<Expression>) -> bool {
        let any = |list: &[Handle<Expression>]| list.iter().any(|&x| self.mixed(x));
        match &self.function.expressions[e] {
            Expression::Literal(_) | Expression::Constant(_) | Expression::Override(_) | Expression::ZeroValue(_) => {
                false
            }
            Expression::Compose { components, .. } => any(components),
            Expression::Access { base, index } => any(&[*base, *index]),
            Expression::AccessIndex { base, .. } => self.mixed(*base),
            Expression::Splat { value, .. } => self.mixed(*value),
            Expression::Swizzle { vector, .. } => self.mixed(*vector),
            Expression::FunctionArgument(i) => self.args.get(*i as usize).copied().unwrap_or(true),
            // The address of a variable; what it holds is judged at the load.
            Expression::GlobalVariable(_) => false,
            Expression::LocalVariable(v) => self.locals.contains(v),
            Expression::Load { pointer } => self.mixed(*pointer) || self.memory_mixed(*pointer),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => self.mixed(*expr),
            Expression::Binary { left, right, .. } => any(&[*left, *right]),
            Expression::Select { condition, accept, reject } => match self.constant(*condition) {
                Some(true) => self.mixed(*accept),
                Some(false) => self.mixed(*reject),
                None => any(&[*condition, *accept, *reject]),
            },
            Expression::Relational { argument, .. } => self.mixed(*argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                self.mixed(*arg) || [arg1, arg2, arg3].into_iter().flatten().any(|&x| self.mixed(x))
            }
            Expression::CallResult(_) => self.results.contains(&e),
            Expression::WorkGroupUniformLoadResult { .. } | Expression::ArrayLength(_) => false,
            _ => true,
        }
    }

    /// The value of a condition that is a constant of the text, as variants have them.
    fn constant(&self, e: Handle<Expression>) -> Option<bool> {
        let literal = |e: &Expression| match e {
            Expression::Literal(naga::Literal::Bool(b)) => Some(*b),
            _ => None,
        };
        match &self.function.expressions[e] {
            Expression::Constant(c) => literal(&self.module.global_expressions[self.module.constants[*c].init]),
            Expression::Unary { op: naga::UnaryOperator::LogicalNot, expr } => self.constant(*expr).map(|b| !b),
            other => literal(other),
        }
    }

    /// Whether memory that a pointer leads to may be written by single invocations.
    fn memory_mixed(&self, pointer: Handle<Expression>) -> bool {
        match &self.function.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.memory_mixed(*base),
            Expression::GlobalVariable(g) => match self.module.global_variables[*g].space {
                AddressSpace::Uniform | AddressSpace::Immediate => false,
                AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
                _ => true,
            },
            Expression::LocalVariable(v) => self.locals.contains(v),
            _ => true,
        }
    }

    fn taint(&mut self, pointer: Handle<Expression>) {
        match self.function.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.taint(base),
            Expression::LocalVariable(v) => {
                self.locals.insert(v);
            }
            _ => {}
        }
    }

    fn collective(&self, what: &str, flow: bool, found: &mut Vec<String>) {
        if flow || self.parted {
            found.push(format!("{what} in {}, which not all invocations of a workgroup may reach", self.name));
        }
    }

    fn block(&mut self, block: &'a Block, mut flow: bool, found: &mut Vec<String>) -> Left {
        let mut left = Left::default();
        for statement in block.iter() {
            flow |= left.mixed;
            let at = flow || self.parted;
            match statement {
                Statement::Block(inner) => left.mixed |= self.block(inner, flow, found).mixed,
                Statement::If { condition, accept, reject } => {
                    let (inner, known) = (flow || self.mixed(*condition), self.constant(*condition));
                    if known != Some(false) {
                        left.mixed |= self.block(accept, inner, found).mixed;
                    }
                    if known != Some(true) {
                        left.mixed |= self.block(reject, inner, found).mixed;
                    }
                }
                Statement::Switch { selector, cases } => {
                    let inner = flow || self.mixed(*selector);
                    for case in cases {
                        // A break ends the switch; taking it for the loop's is on the safe side.
                        left.mixed |= self.block(&case.body, inner, found).mixed;
                    }
                }
                Statement::Loop { body, continuing, break_if } => {
                    let silent = &mut Vec::new();
                    let mut inner = flow || break_if.is_some_and(|b| self.mixed(b));
                    inner |= self.block(body, inner, silent).mixed;
                    inner |= self.block(continuing, inner, silent).mixed;
                    // The next turn begins as the last one ended.
                    inner |= self.parted;
                    self.block(body, inner, found);
                    self.block(continuing, inner, found);
                }
                Statement::Break | Statement::Continue => left.mixed |= at,
                Statement::Return { value } => {
                    self.returns |= at || value.is_some_and(|v| self.mixed(v));
                    self.parted |= at;
                }
                Statement::Kill => self.parted = true,
                Statement::ControlBarrier(_) => self.collective("a barrier", flow, found),
                Statement::WorkGroupUniformLoad { .. } => self.collective("a uniform load", flow, found),
                Statement::SubgroupBallot { .. }
                | Statement::SubgroupGather { .. }
                | Statement::SubgroupCollectiveOperation { .. } => self.collective("a subgroup operation", flow, found),
                Statement::Store { pointer, value } if (at || self.mixed(*value) || self.mixed(*pointer)) => {
                    self.taint(*pointer);
                }
                Statement::Call { function, arguments, result } => {
                    let callee = &self.module.functions[*function];
                    let args: Vec<bool> = arguments.iter().map(|&a| self.mixed(a)).collect();
                    let name = callee.name.as_deref().unwrap_or("a function");
                    let returns = Walk::new(self.module, callee, name, args).finish(at, found);
                    if let Some(r) = result.filter(|_| returns) {
                        self.results.insert(r);
                    }
                    // What a function does through a pointer is not followed.
                    arguments.iter().for_each(|&a| self.taint(a));
                }
                _ => {}
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::barriers_in;

    fn kernel(body: &str) -> String {
        format!(
            "var<workgroup> s: array<f32, 64>;
            @group(0) @binding(0) var<storage, read> x: array<u32>;
            @group(0) @binding(1) var<storage, read_write> y: array<u32>;
            @group(0) @binding(2) var<uniform> n: u32;
            const YES: bool = true;
            fn sync() {{ workgroupBarrier(); }}
            fn pick(a: u32) -> u32 {{ if a > 3u {{ return 1u; }} return 2u; }}
            @compute @workgroup_size(64) fn main(@builtin(workgroup_id) g: vec3<u32>,
                @builtin(local_invocation_index) lane: u32, @builtin(subgroup_size) size: u32) {{
                {body}
            }}"
        )
    }

    #[test]
    fn planted_faults_are_found() {
        for body in [
            "if lane < 3u { workgroupBarrier(); }",
            "if lane < 3u { return; } workgroupBarrier();",
            "for (var i = lane; i < n; i++) { workgroupBarrier(); }",
            "for (var i = 0u; i < n; i++) { if lane == i { break; } workgroupBarrier(); }",
            "for (var i = 0u; i < n; i++) { workgroupBarrier(); if lane == i { continue; } s[lane] = 1.0; }",
            "if y[0] == 1u { sync(); }",
            "if x[lane] == 1u { y[0] = u32(workgroupUniformLoad(&s[0])); }",
            "var a = 1u; if lane == 0u { a = 2u; } if a == 2u { workgroupBarrier(); }",
            "if pick(lane) == 1u { workgroupBarrier(); }",
            "if s[0] > 0.0 { workgroupBarrier(); }",
            "if lane < 8u { y[lane] = subgroupAdd(lane); }",
            "let r = select(g.x, lane, YES); if r >= n { return; } workgroupBarrier();",
            "switch lane { case 0u: { workgroupBarrier(); } default: {} }",
        ] {
            let found = barriers_in(&kernel(body)).expect("parses");
            assert!(!found.is_empty(), "not found: {body}");
        }
    }

    #[test]
    fn uniform_control_flow_passes() {
        for body in [
            "if g.x >= n { return; } workgroupBarrier();",
            "if lane < 3u { s[lane] = 1.0; } workgroupBarrier();",
            "let r = select(lane, g.x, YES); if r >= n { return; } workgroupBarrier();",
            "if !YES { if lane < 3u { return; } } workgroupBarrier();",
            "for (var i = 0u; i < n; i++) { if x[i] == 7u { break; } workgroupBarrier(); }",
            "for (var t = 32u; t > 0u; t = t / 2u) { if lane < t { s[lane] += s[lane + t]; } workgroupBarrier(); }",
            "for (var i = lane; i < n; i += 64u) { if i == 5u { continue; } y[i] = i; } sync();",
            "let a = workgroupUniformLoad(&s[0]); if a > 1.0 { workgroupBarrier(); }",
            "if pick(n) == 1u { workgroupBarrier(); }",
            "y[lane] = subgroupAdd(lane); if size == 8u { workgroupBarrier(); }",
        ] {
            assert_eq!(barriers_in(&kernel(body)).expect("parses"), Vec::<String>::new(), "{body}");
        }
    }
}
