//! Bytes that an update takes by its plans, and what the machine has left.

use crate::backend::{BackendKind, DeviceInfo, Program};
use crate::plan::SlotKind;
use crate::train::trainer::is_model_state;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of programs that share one store, by what they are for; `together` is their sum. A state counts once, and of
/// intermediate values, whose memory the programs share, those of the program that has most.
pub fn planned(programs: &[&Program]) -> BTreeMap<&'static str, usize> {
    let (mut bytes, mut states, mut most) = (BTreeMap::new(), BTreeSet::new(), 0);
    let mut add = |what: &'static str, n: usize| *bytes.entry(what).or_insert(0) += n;
    for program in programs {
        let mut transient = 0;
        for slot in &program.plan().slots {
            match &slot.kind {
                SlotKind::State(name) if !states.insert(name.clone()) => {}
                SlotKind::State(name) if is_model_state(name) => add("parameters, buffers", slot.bytes),
                SlotKind::State(_) => add("optimizer", slot.bytes),
                SlotKind::Feed(_) => add("batch", slot.bytes),
                SlotKind::Fetch => add("results", slot.bytes),
                SlotKind::Transient => transient += slot.bytes,
            }
        }
        most = most.max(transient);
    }
    add("intermediate values", most);
    let together = bytes.values().sum();
    bytes.insert("together", together);
    bytes
}

/// Bytes that a device has for a run, where that can be known: what the system says is available, for devices that compute
/// in the processor's memory. WebGPU does not tell the memory of other adapters.
pub fn available(device: &DeviceInfo) -> Option<usize> {
    if device.kind == BackendKind::Gpu && !device.software {
        return None;
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
