//! The console of a training run: a progress bar with loss, accuracy and speed while an epoch runs, one line when it has
//! ended, and the result with what to do next.

use crate::backend::BackendKind;
use crate::report::number::{count, percent, seconds};
use crate::train::config::DataConfig;
use crate::train::curvature::Critical;
use crate::train::run::{EpochReport, Start};
use crate::train::{Measures, StepReport, Summary, Watch};
use indicatif::{ProgressBar, ProgressStyle};
use std::f64::consts::LN_2;
use std::time::Instant;

/// Tells people about a run. Lines go to standard output, or to standard error if that is kept for JSON; the bar shows
/// only on a terminal.
pub struct Console {
    to_stderr: bool,
    bar: ProgressBar,
    epochs: u64,
    is_text: bool,
    is_pairs: bool,
    /// True if classes are predicted, so that there is an accuracy.
    has_classes: bool,
    is_gpu: bool,
    began: Instant,
    seen: u64,
    program: String,
    /// Nothing but warnings and the result.
    quiet: bool,
    bar_wanted: bool,
}

impl Console {
    /// A console for one run of the program that the user calls `program`.
    pub fn new(program: String, to_stderr: bool) -> Console {
        Console {
            to_stderr,
            bar: ProgressBar::hidden(),
            epochs: 0,
            is_text: false,
            is_pairs: false,
            has_classes: true,
            is_gpu: false,
            began: Instant::now(),
            seen: 0,
            program,
            quiet: false,
            bar_wanted: true,
        }
    }

    /// The same without a bar, on a terminal too.
    pub fn without_bar(self) -> Console {
        Console { bar_wanted: false, ..self }
    }

    /// The same, saying nothing but warnings (on standard error) and the result.
    pub fn quiet(self) -> Console {
        Console { quiet: true, bar_wanted: false, ..self }
    }

    /// Says something about what was left behind, unless it is quiet.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            self.say(line);
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| if self.to_stderr { eprintln!("{line}") } else { println!("{line}") });
    }

    /// Loss and accuracy; for text the loss also in bits per character.
    fn measures(&self, m: &Measures) -> String {
        match (self.is_text, self.has_classes) {
            (true, _) => format!("loss {:.4} ({:.3} bits/char)", m.loss(), m.loss() / LN_2),
            (_, true) => format!("loss {:.4}  accuracy {}", m.loss(), percent(m.accuracy())),
            (_, false) => format!("loss {:.6}", m.loss()),
        }
    }

    fn speed(&self, n: u64, time: f64) -> String {
        let unit = match (self.is_text, self.is_pairs) {
            (true, _) => "chars/s",
            (_, true) => "tokens/s",
            _ => "samples/s",
        };
        format!("{} {unit}", count((n as f64 / time.max(1e-9)) as u64))
    }

    /// Says what the run came to and what can be done with it.
    pub fn result(&mut self, s: &Summary) {
        self.bar.finish_and_clear();
        for (i, text) in s.samples.iter().enumerate() {
            self.say(&format!("--- sample {} ---\n{}", i + 1, text.trim()));
        }
        if !s.samples.is_empty() {
            self.say("---");
        }
        match &s.test {
            Some(t) if self.is_text => {
                let bits = t.loss() / LN_2;
                let line = format!("test loss {:.4} nats/char = {bits:.3} bits/char, accuracy", t.loss());
                self.say(&format!("{line} {} ({} characters)", percent(t.accuracy()), count(t.count)));
            }
            Some(t) if !self.has_classes => {
                self.say(&format!("test loss {:.6} ({} examples)", t.loss(), count(t.count)));
            }
            Some(t) => {
                let what = if self.is_pairs { "tokens" } else { "examples" };
                let detail = format!("(loss {:.4}, {} {what})", t.loss(), count(t.count));
                self.say(&format!("test accuracy {} {detail}", percent(t.accuracy())));
            }
            None if s.finished => {
                let (part, m) = s.validation.as_ref().map_or(("training", &s.train), |v| ("validation", v));
                self.say(&format!("{part} {} (there is no test part)", self.measures(m)));
            }
            None => self.say(&format!("stopped after update {} of epoch {}", s.position.step, s.position.epoch + 1)),
        }
        let steps = s.usage.steps_on_device + s.usage.steps_with_fallback;
        let line = format!("{} updates in {}", count(steps), seconds(s.seconds));
        let each = 1000.0 * s.seconds / steps.max(1) as f64;
        self.say(&format!("{line} ({each:.2} ms each); first update done after {}", seconds(s.first_step)));
        if s.skipped > 0 {
            let n = count(s.skipped);
            self.say(&format!("warning: {n} updates were suppressed because their gradient was not finite"));
        }
        self.usage(s);
        if let Some(folder) = &s.folder {
            let folder = folder.display();
            self.say(&format!("run folder: {folder}"));
            let example = if self.is_text || self.is_pairs { "\"In the beginning \"" } else { "0" };
            let me = &self.program;
            match s.finished {
                true => {
                    self.say(&format!("use it:  {me} eval {folder}"));
                    self.say(&format!("         {me} predict {folder} {example}"));
                }
                false => self.say(&format!("go on:   {me} train --resume {folder}")),
            }
        }
    }

    fn usage(&self, s: &Summary) {
        let u = &s.usage;
        let total = u.steps_on_device + u.steps_with_fallback;
        if self.is_gpu {
            let what = format!("{} dispatches in {} submits each", u.dispatches, u.submits);
            self.say(&format!(
                "{} of {} updates ran on the GPU alone ({what})",
                count(u.steps_on_device),
                count(total)
            ));
            match u.fallbacks.is_empty() {
                true => self.say("nothing fell back to the CPU"),
                false => self.say("fell back to the CPU:"),
            }
        }
        for fallback in &u.fallbacks {
            self.say(&format!("  {fallback}"));
        }
        if self.is_gpu && !u.inlined.is_empty() {
            self.say("ran as their parts, without a kernel of their own:");
            u.inlined.iter().for_each(|line| self.say(&format!("  {line}")));
        }
    }
}

impl Watch for Console {
    fn start(&mut self, s: &Start) {
        self.epochs = s.config.epochs;
        self.is_text = matches!(s.config.data, DataConfig::Text(_));
        self.is_pairs = matches!(s.config.data, DataConfig::Pairs(_));
        self.has_classes = s.has_classes;
        self.is_gpu = s.device.kind == BackendKind::Gpu;
        if self.quiet {
            s.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
            return;
        }
        self.say(&format!("{} (seed {})", s.config.preset, s.config.seed));
        self.say(&format!("device: {} ({}): {}", s.device.name, s.device.driver, s.reason));
        let what = if self.is_text { "windows of text" } else { "examples" };
        let [train, validation, test] = s.examples.map(|n| count(n as u64));
        self.say(&format!("data: {train} {what} for training, {validation} for validation, {test} for the test"));
        self.say(&format!("model: {} parameters", count(s.parameters as u64)));
        for warning in &s.warnings {
            self.say(&format!("warning: {warning}"));
        }
        if s.position.step > 0 {
            self.say(&format!("resuming after update {}", s.position.step));
        }
        if !self.bar_wanted {
            (self.began, self.seen) = (Instant::now(), 0);
            return;
        }
        let style = "epoch {prefix} [{bar:30}] {pos}/{len}  {msg}";
        self.bar = ProgressBar::new(s.steps_per_epoch as u64);
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_prefix(format!("{}/{}", s.position.epoch + 1, self.epochs));
        self.bar.set_position(s.position.batch as u64);
        (self.began, self.seen) = (Instant::now(), 0);
    }

    fn step(&mut self, report: &StepReport, sums: &Measures) {
        self.bar.inc(1);
        self.seen += report.count as u64;
        if !self.bar.is_hidden() {
            let speed = self.speed(self.seen, self.began.elapsed().as_secs_f64());
            self.bar.set_message(format!("{}  {speed}", self.measures(sums)));
        }
    }

    fn epoch(&mut self, e: &EpochReport) {
        if self.quiet {
            return;
        }
        let validation = e.validation.map_or_else(String::new, |v| format!("  validation {}", self.measures(&v)));
        let speed = self.speed(self.seen, self.began.elapsed().as_secs_f64());
        let skipped = if e.skipped > 0 { format!("  {} updates suppressed", e.skipped) } else { String::new() };
        let train = self.measures(&e.train);
        self.say(&format!(
            "epoch {:>width$}/{}  {train}{validation}  lr {:.2e}  {speed}{skipped}",
            e.epoch,
            self.epochs,
            e.lr,
            width = self.epochs.to_string().len()
        ));
        self.bar.set_position(0);
        self.bar.set_prefix(format!("{}/{}", (e.epoch + 1).min(self.epochs), self.epochs));
        (self.began, self.seen) = (Instant::now(), 0);
    }

    fn critical(&mut self, _: u64, _: u64, point: &Critical) {
        if !self.quiet {
            let text = point.to_string();
            text.lines().for_each(|line| self.say(&format!("  {line}")));
        }
    }

    fn sampling(&mut self) {
        if self.quiet {
            return;
        }
        self.say("drawing samples ..");
    }

    fn samples(&mut self, _: u64, texts: &[String]) {
        // Those at the end are part of the result.
        if let ([text], false) = (texts, self.quiet) {
            self.say(&format!("--- sample ---\n{}\n---", text.trim()));
        }
        (self.began, self.seen) = (Instant::now(), 0);
    }
}
