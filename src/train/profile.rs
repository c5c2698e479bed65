//! Where the time of a training step goes: kernels by the device's own clock (on software adapters each alone by the host's, its
//! submit and the wait for it included), and what the host does around them. As a table, and as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing show.

use crate::backend::{Fetches, KernelTime, Program};
use crate::error::Result;
use crate::report::number::{count, percent};
use crate::report::runs::table;
use crate::tensor::HostTensor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// Updates before and after the profiled one whose times on the host are kept.
const AROUND: u64 = 20;

/// A stretch of time on the host, in seconds since the profile began.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    name: &'static str,
    update: u64,
    from: f64,
    seconds: f64,
}

/// What was measured of some updates. One of them runs kernel by kernel; the others as always.
pub struct Profile {
    at: u64,
    began: Instant,
    spans: Vec<Span>,
    last_end: Option<f64>,
    kernels: Vec<KernelTime>,
    kernels_from: f64,
    /// The update that is being started, and since when.
    present: u64,
    present_from: f64,
}

impl Profile {
    /// Profiles the kernels of update number `at`: late enough that everything is compiled.
    pub fn of_update(at: u64) -> Profile {
        Profile {
            at,
            began: Instant::now(),
            spans: Vec::new(),
            last_end: None,
            kernels: Vec::new(),
            kernels_from: 0.0,
            present: 0,
            present_from: 0.0,
        }
    }

    /// An update begins.
    pub(super) fn begin(&mut self, update: u64) {
        let from = self.began.elapsed().as_secs_f64();
        if let Some(last) = self.last_end.filter(|_| self.is_near(update)) {
            self.span("data, metrics and waiting", update, last, from - last);
        }
        (self.present, self.present_from) = (update, from);
    }

    /// Starts one of the programs of the present update: the only one, or one for each piece of its batch and one for the
    /// update by their sums.
    pub(super) fn launch(&mut self, program: &mut Program, feeds: &[(&str, &HostTensor)]) -> Result<Fetches> {
        if self.present != self.at {
            return program.launch(feeds);
        }
        let (fetches, kernels) = program.profile(feeds)?;
        self.kernels.extend(kernels);
        self.kernels_from = self.present_from;
        Ok(fetches)
    }

    /// The present update has been started.
    pub(super) fn end(&mut self) {
        let to = self.began.elapsed().as_secs_f64();
        let (update, from) = (self.present, self.present_from);
        if self.is_near(update) {
            let name = if update == self.at { "update, kernel by kernel" } else { "update" };
            self.span(name, update, from, to - from);
        }
        self.last_end = Some(to);
    }

    fn is_near(&self, update: u64) -> bool {
        update + AROUND >= self.at && update <= self.at + AROUND
    }

    fn span(&mut self, name: &'static str, update: u64, from: f64, seconds: f64) {
        self.spans.push(Span { name, update, from, seconds });
    }

    /// True if the update to be profiled has run.
    pub fn is_done(&self) -> bool {
        !self.kernels.is_empty()
    }

    /// The times of the kernels, in order.
    pub fn kernels(&self) -> &[KernelTime] {
        &self.kernels
    }

    /// The trace, in the JSON format of Chrome's trace events.
    pub fn trace(&self) -> Value {
        let thread = |tid: u64, name: &str| json!({ "ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": { "name": name } });
        let mut events = vec![
            json!({ "ph": "M", "pid": 1, "name": "process_name", "args": { "name": "kiln" } }),
            thread(1, "host"),
            thread(2, &format!("kernels of update {}", self.at)),
        ];
        for s in &self.spans {
            events.push(json!({
                "ph": "X", "pid": 1, "tid": 1, "name": s.name, "ts": 1e6 * s.from, "dur": 1e6 * s.seconds,
                "args": { "update": s.update },
            }));
        }
        // Clocks of device and host are not compared: the kernels are put one after the other from where the host began.
        let mut at = 1e6 * self.kernels_from;
        for k in &self.kernels {
            let us = k.ns / 1e3;
            events.push(json!({
                "ph": "X", "pid": 1, "tid": 2, "name": k.kernel, "ts": at, "dur": us,
                "args": { "variant": k.variant, "flops": k.flops, "bytes": k.bytes },
            }));
            at += us;
        }
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }

    /// The tables: kernels of the profiled update, the most expensive first; and the host's times of the others.
    pub fn report(&self) -> String {
        let mut by: BTreeMap<(&str, &str), (u64, f64, u64, u64)> = BTreeMap::new();
        for k in &self.kernels {
            let sum = by.entry((k.kernel, k.variant)).or_default();
            *sum = (sum.0 + 1, sum.1 + k.ns, sum.2 + k.flops, sum.3 + k.bytes);
        }
        let total: f64 = self.kernels.iter().map(|k| k.ns).sum();
        let mut rows: Vec<_> = by.into_iter().collect();
        rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        let mut cells =
            vec![["kernel", "variant", "launches", "ms", "share", "GF/s", "GB/s"].map(String::from).to_vec()];
        let rate = |work: u64, ns: f64| if work > 0 { format!("{:.2}", work as f64 / ns.max(1.0)) } else { "-".into() };
        for ((kernel, variant), (n, ns, flops, bytes)) in rows {
            cells.push(vec![
                kernel.into(),
                variant.into(),
                count(n),
                format!("{:.3}", ns / 1e6),
                percent(ns / total.max(1.0)),
                rate(flops, ns),
                rate(bytes, ns),
            ]);
        }
        let all = count(self.kernels.len() as u64);
        let mut out = format!("update {}, kernel by kernel: {:.3} ms in {all} launches\n", self.at, total / 1e6);
        out += &table(&cells);
        let mean = |name: &str| {
            let of: Vec<f64> = self.spans.iter().filter(|s| s.name == name).map(|s| s.seconds).collect();
            (of.len(), 1e3 * of.iter().sum::<f64>() / of.len().max(1) as f64)
        };
        for name in ["update", "data, metrics and waiting"] {
            let (n, ms) = mean(name);
            if n > 0 {
                out += &format!("host, {name}: {ms:.3} ms each (mean of {n})\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_traces_hold_the_kernels() {
        let mut profile = Profile::of_update(5);
        let kernel = |kernel, ns| KernelTime { kernel, variant: "v", ns, flops: 2000, bytes: 0 };
        profile.kernels = vec![kernel("small", 1000.0), kernel("large", 3000.0), kernel("large", 4000.0)];
        profile.span("update", 4, 0.5, 0.25);
        let text = profile.report();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("0.008 ms in 3 launches"), "{text}");
        assert!(
            lines[2].starts_with("large") && lines[2].contains("87.50 %") && lines[3].starts_with("small"),
            "{text}"
        );
        assert!(text.contains("250.000 ms each"), "{text}");
        let trace = profile.trace();
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 3 + 1 + 3);
        assert_eq!((&events[5]["ts"], &events[5]["dur"]), (&json!(1.0), &json!(3.0)));
        assert!(profile.is_done());
    }
}
