//! Plans as text, one step a line, and in numbers. Equal plans give equal text, so goldens compare text.

use crate::plan::{Note, Operand, Place, Plan, Region, RegionKind, SlotKind, Source, Step, Target};
use std::collections::BTreeMap;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, slot) in self.slots.iter().enumerate() {
            let name = match &slot.kind {
                SlotKind::State(name) => format!("state {name:?}"),
                SlotKind::Feed(name) => format!("feed {name:?}"),
                SlotKind::Fetch => "fetch".into(),
                SlotKind::Transient => continue,
            };
            writeln!(f, "s{i}: {name} {} bytes{}", slot.bytes, on(slot.place))?;
        }
        let transient = self.slots.iter().filter(|s| s.kind == SlotKind::Transient);
        let (count, bytes) = transient.fold((0, 0), |(c, b), s| (c + 1, b + s.bytes));
        writeln!(f, "{count} transient slots, {bytes} bytes (at least {})", self.peak_live_bytes)?;
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Copy { from, to } => writeln!(f, "{i}: copy s{} -> s{}", from.0, to.0)?,
                Step::Run { place, region } => writeln!(f, "{i}: {region}{}", on(*place))?,
            }
        }
        for out in &self.outputs {
            writeln!(f, "fetch {:?} = s{} : {}", out.name, out.slot.0, out.ty)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

fn on(place: Place) -> &'static str {
    match place {
        Place::Device => "",
        Place::Host => " on the CPU",
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Fallback { op, reason } => write!(f, "fallback: {op} runs on the CPU: {reason}"),
            Note::Inlined { op, reason } => write!(f, "inlined: {op}: {reason}"),
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(|a| a.to_string()).collect();
        let outs: Vec<String> = self.outs.iter().map(|o| o.to_string()).collect();
        write!(f, "{:?} {} ({}) -> {}", self.kind, self.label(), args.join(", "), outs.join(", "))?;
        let shared: Vec<String> =
            self.in_place.iter().enumerate().filter_map(|(k, a)| a.map(|a| format!("{k} over {a}"))).collect();
        if shared.is_empty() { Ok(()) } else { write!(f, " in place {}", shared.join(", ")) }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Slot(id) => write!(f, "s{}", id.0)?,
            Source::Iota => write!(f, "iota")?,
        }
        write!(f, ":{}{}", self.dtype, self.view.shape)?;
        if !self.view.is_contiguous() {
            write!(f, "~{:?}", self.view.strides)?;
        }
        if self.view.offset != 0 { write!(f, "+{}", self.view.offset) } else { Ok(()) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}:{}", self.slot.0, self.ty)
    }
}

impl Region {
    /// The operations of the body in order, runs of one operation counted: `[mul add*2 tanh]`.
    pub fn label(&self) -> String {
        let mut ops: Vec<(String, usize)> = Vec::new();
        for node in &self.body.nodes {
            use crate::ir::Prim;
            if matches!(node.prim, Prim::Input { .. } | Prim::Const(_)) || node.prim.is_view() {
                continue;
            }
            let name = node.prim.name();
            match ops.last_mut() {
                Some((last, count)) if *last == name => *count += 1,
                _ => ops.push((name, 1)),
            }
        }
        let words: Vec<String> =
            ops.into_iter().map(|(name, n)| if n > 1 { format!("{name}*{n}") } else { name }).collect();
        if words.is_empty() { "[copy]".into() } else { format!("[{}]", words.join(" ")) }
    }
}

/// A plan in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regions of each kind.
    pub regions: BTreeMap<RegionKind, usize>,
    /// Steps that copy slots.
    pub copies: usize,
    /// Regions that run on the CPU although the plan is for another device.
    pub fallbacks: usize,
    /// Composites that run as their bodies for want of a kernel.
    pub inlined: usize,
    /// Bytes that the steps read; each operand of a region once, however often its view repeats them.
    pub bytes_read: usize,
    /// Bytes that the steps write.
    pub bytes_written: usize,
    /// Bytes of transient slots.
    pub transient_bytes: usize,
    /// The most bytes of intermediate values that are needed at once.
    pub peak_live_bytes: usize,
}

impl Summary {
    /// All regions.
    pub fn total(&self) -> usize {
        self.regions.values().sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> = self.regions.iter().map(|(k, n)| format!("{k:?} {n}")).collect();
        write!(
            f,
            "{} regions ({}), {} copies, {} fallbacks, {} inlined, {} bytes read, {} written, {} transient (at least {})",
            self.total(),
            kinds.join(", "),
            self.copies,
            self.fallbacks,
            self.inlined,
            self.bytes_read,
            self.bytes_written,
            self.transient_bytes,
            self.peak_live_bytes
        )
    }
}

impl Plan {
    /// The plan in numbers.
    pub fn summary(&self) -> Summary {
        let mut s = Summary { peak_live_bytes: self.peak_live_bytes, ..Summary::default() };
        for step in &self.steps {
            match step {
                Step::Copy { from, to } => {
                    let bytes = self.slots[from.0 as usize].bytes.min(self.slots[to.0 as usize].bytes);
                    s.copies += 1;
                    s.bytes_read += bytes;
                    s.bytes_written += bytes;
                }
                Step::Run { place, region } => {
                    *s.regions.entry(region.kind).or_default() += 1;
                    s.fallbacks += usize::from(*place == Place::Host);
                    s.bytes_read += region.args.iter().map(touched).sum::<usize>();
                    s.bytes_written += region.outs.iter().map(|o| o.ty.bytes()).sum::<usize>();
                }
            }
        }
        s.inlined = self.notes.iter().filter(|n| matches!(n, Note::Inlined { .. })).count();
        let transient = self.slots.iter().filter(|s| s.kind == SlotKind::Transient);
        s.transient_bytes = transient.map(|s| s.bytes).sum();
        s
    }
}

/// Bytes of distinct elements that a view shows.
fn touched(arg: &Operand) -> usize {
    if arg.source == Source::Iota {
        return 0;
    }
    let sizes = arg.view.shape.iter().zip(&arg.view.strides);
    sizes.map(|(&n, &s)| if s == 0 { n.min(1) } else { n }).product::<usize>() * arg.dtype.bytes()
}
