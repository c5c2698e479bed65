//! `report.html`: a run in one file that needs nothing else: curves, results, confusion matrix, worst examples, samples,
//! configuration, device and timing. It is made from the run's folder, at the end of training or later.

use crate::backend::Device;
use crate::error::{Error, Result};
use crate::report::chart::{Series, chart};
use crate::report::number::{count, percent, seconds};
use crate::report::png::{data_address, png};
use crate::train::decode::Search;
use crate::train::files::write_whole;
use crate::train::folder::RunFolder;
use crate::train::mistakes::{Inspection, Seen, Worst, inspect};
use crate::train::run::{self, Opened, WeightsOf};
use crate::train::task::Output;
use crate::train::translation::{Judged, judge};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// How many of the worst examples are shown.
const WORST: usize = 24;
/// How many sentences are translated.
const TRANSLATED: usize = 24;
/// A matrix of more classes than this is not shown: nobody reads it.
const MOST_CLASSES: usize = 40;

/// Writes `report.html` into a run's folder and returns its path.
pub fn write(run: &Path, device: &Device) -> Result<PathBuf> {
    let Opened { config, task, mut trainer, .. } = run::open(run, device, &WeightsOf::Last)?;
    let part = task.unseen().1;
    let found = inspect(&mut trainer, &task.output, part, config.batch, WORST)?;
    let judged = match &task.output {
        Output::Pair { .. } => Some(judge(&mut trainer, &task, &part.indices, TRANSLATED, Search::default())?),
        _ => None,
    };
    let events = events(run)?;
    let result = RunFolder::result(run).unwrap_or(Value::Null);
    let html = page(&name(run), &config.to_toml()?, &events, &result, found.as_ref(), judged.as_ref())?;
    let path = run.join("report.html");
    write_whole(&path, html.as_bytes())?;
    Ok(path)
}

/// The name of a run's folder.
pub fn name(run: &Path) -> String {
    let path = std::path::absolute(run).unwrap_or_else(|_| run.to_path_buf());
    path.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned())
}

/// The whole lines of a run's metrics.
pub fn events(run: &Path) -> Result<Vec<Value>> {
    let path = run.join("metrics.jsonl");
    let text =
        fs::read_to_string(&path).map_err(|e| Error::input(path.display(), format!("cannot read the file: {e}")))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Text with the characters of markup replaced.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn points(events: &[Value], event: &str, x: &str, y: &str) -> Vec<(f64, f64)> {
    let of = |e: &Value| Some((e[x].as_f64()?, e[y].as_f64()?));
    events.iter().filter(|e| e["event"] == event).filter_map(of).collect()
}

/// The page's text.
pub fn page(
    name: &str,
    config: &str,
    events: &[Value],
    result: &Value,
    found: Option<&Inspection>,
    judged: Option<&Judged>,
) -> Result<String> {
    let mut out = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    let _ =
        write!(out, "<meta name=\"viewport\" content=\"width=device-width\"><title>{} - kiln</title>", escape(name));
    let _ = write!(out, "<style>{}</style></head><body><main>", include_str!("page.css"));
    let device = result["device"].as_str().unwrap_or("unknown device");
    let state = if result.is_null() { "not finished" } else { "finished" };
    let _ = write!(out, "<h1>{}</h1><div class=\"muted\">{state} &middot; {}</div>", escape(name), escape(device));
    cards(&mut out, result, events);
    curves(&mut out, events);
    if let Some(found) = found {
        confusion(&mut out, found);
        worst(&mut out, found)?;
    }
    judged.iter().for_each(|j| translations(&mut out, j));
    critical(&mut out, events);
    samples(&mut out, result, events);
    timing(&mut out, result);
    let _ = write!(out, "<section><h2>Configuration</h2><pre>{}</pre></section>", escape(config.trim()));
    out += "</main></body></html>\n";
    Ok(out)
}

fn cards(out: &mut String, result: &Value, events: &[Value]) {
    *out += "<div class=\"cards\">";
    let mut card = |value: String, what: &str| {
        let _ = write!(out, "<div class=\"card\"><b>{value}</b><span>{what}</span></div>");
    };
    let accuracy = |part: &str| result[part]["accuracy"].as_f64().filter(|a| *a > 0.0);
    let loss = |part: &str| result[part]["loss"].as_f64();
    for part in ["test", "validation"] {
        if let Some(a) = accuracy(part) {
            card(percent(a), &format!("{part} accuracy"));
        }
        if let Some(l) = loss(part) {
            card(format!("{l:.4}"), &format!("{part} loss"));
        }
    }
    if let (Some(l), Some(e)) = (result["best"]["loss"].as_f64(), result["best"]["epoch"].as_u64()) {
        card(format!("{l:.4}"), &format!("best validation loss, epoch {e}"));
    }
    let steps = events.iter().filter(|e| e["event"] == "step").count() as u64;
    let epochs = events.iter().filter(|e| e["event"] == "epoch").count() as u64;
    card(count(steps), &format!("updates in {epochs} epochs"));
    if let Some(s) = result["seconds"].as_f64() {
        card(seconds(s), "of training, in its last process");
    }
    *out += "</div>";
}

fn curves(out: &mut String, events: &[Value]) {
    let epoch = |key: &str| points(events, "epoch", "epoch", key);
    let section = |title: &str, body: String| format!("<section><h2>{title}</h2>{body}</section>");
    let by_epoch = |title: &str, train: &str, validation: &str, log: bool| {
        let mut lines = vec![Series { name: "training", points: epoch(train) }];
        let v = epoch(validation);
        if !v.is_empty() {
            lines.push(Series { name: "validation", points: v });
        }
        section(title, chart("epoch", &lines, log))
    };
    *out += "<div class=\"pair\">";
    *out += &by_epoch("Loss", "train_loss", "validation_loss", false);
    if epoch("train_accuracy").iter().any(|p| p.1 > 0.0) {
        *out += &by_epoch("Accuracy", "train_accuracy", "validation_accuracy", false);
    }
    let step = |key: &str| points(events, "step", "step", key);
    let one = |name, key| chart("update", &[Series { name, points: step(key) }], true);
    *out += &section("Loss of each update", one("loss (logarithmic)", "loss"));
    *out += &section("Norm of the gradient", one("norm (logarithmic)", "grad_norm"));
    *out += &section("Learning rate", chart("update", &[Series { name: "rate", points: step("lr") }], false));
    *out += "</div>";
    let skipped = events.iter().filter(|e| e["updated"] == false).count() as u64;
    if skipped > 0 {
        let n = count(skipped);
        let _ = write!(
            out,
            "<section class=\"warn\">{n} updates were suppressed: their gradient was not finite.</section>"
        );
    }
}

/// What `train.critical_every` found.
fn critical(out: &mut String, events: &[Value]) {
    let found: Vec<&Value> = events.iter().filter(|e| e["event"] == "critical").collect();
    if found.is_empty() {
        return;
    }
    *out +=
        "<section><h2>Loss surface</h2><table class=\"facts\"><tr class=\"muted\"><td>epoch</td><td>gradient norm</td>";
    *out += "<td>smallest eigenvalue</td><td>largest</td><td>minimum ratio</td><td>what it is</td></tr>";
    let number = |v: &Value| v.as_f64().map_or_else(|| "-".into(), |x| format!("{x:.3e}"));
    for e in &found {
        let ratio = e["minimum_ratio"].as_f64().map_or_else(|| "-".into(), |x| format!("{x:.3}"));
        let (smallest, largest) = (number(&e["smallest"][0]["value"]), number(&e["largest"][0]["value"]));
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{smallest}</td><td>{largest}</td><td>{ratio}</td><td>{}</td></tr>",
            e["epoch"],
            number(&e["grad_norm"]),
            escape(e["verdict"].as_str().unwrap_or("-"))
        );
    }
    *out += "</table>";
    let line = |name, key: &str| {
        let of = |e: &&Value| Some((e["epoch"].as_f64()?, e[key][0]["value"].as_f64()?));
        Series { name, points: found.iter().filter_map(of).collect() }
    };
    *out += &chart("epoch", &[line("smallest eigenvalue", "smallest"), line("largest eigenvalue", "largest")], false);
    *out += "</section>";
}

/// Texts that were drawn after epochs and at the end, the last first.
fn samples(out: &mut String, result: &Value, events: &[Value]) {
    let last: Vec<&str> = result["samples"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let earlier: Vec<&Value> =
        events.iter().filter(|e| e["event"] == "samples" && e["texts"] != result["samples"]).collect();
    if last.is_empty() && earlier.is_empty() {
        return;
    }
    *out += "<section><h2>Samples</h2>";
    for text in last {
        let _ = write!(out, "<blockquote>{}</blockquote>", escape(text.trim()));
    }
    for e in earlier.iter().rev() {
        let _ = write!(out, "<p class=\"muted\">after epoch {}</p>", e["epoch"]);
        for text in e["texts"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = write!(out, "<blockquote>{}</blockquote>", escape(text.trim()));
        }
    }
    *out += "</section>";
}

fn confusion(out: &mut String, found: &Inspection) {
    if found.confusion.is_empty() || found.classes.len() > MOST_CLASSES {
        return;
    }
    let of = count(found.looked_at as u64);
    let _ = write!(
        out,
        "<section><h2>Confusion matrix</h2><p class=\"muted\">rows: the right class; columns: what the model took it for ({of} examples)</p>"
    );
    *out += "<table class=\"confusion\"><tr><th></th>";
    for class in &found.classes {
        let _ = write!(out, "<th>{}</th>", escape(class));
    }
    *out += "<th>right</th></tr>";
    for (i, row) in found.confusion.iter().enumerate() {
        let total: u64 = row.iter().sum();
        let _ = write!(out, "<tr><th>{}</th>", escape(&found.classes[i]));
        for (j, &n) in row.iter().enumerate() {
            let share = n as f64 / total.max(1) as f64;
            let color = if i == j { "var(--c0)" } else { "var(--c1)" };
            // Mistakes are few: they are drawn stronger than their share.
            let strength = 100.0 * if i == j { 0.75 * share } else { (3.0 * share).min(0.9) };
            let style = format!("background:color-mix(in srgb,{color} {strength:.0}%,transparent)");
            let text = if n > 0 { n.to_string() } else { String::new() };
            let _ = write!(out, "<td style=\"{style}\">{text}</td>");
        }
        let right = row[i] as f64 / total.max(1) as f64;
        let _ = write!(out, "<th>{}</th></tr>", if total > 0 { percent(right) } else { "-".into() });
    }
    *out += "</table></section>";
}

fn worst(out: &mut String, found: &Inspection) -> Result<()> {
    if found.worst.is_empty() {
        return Ok(());
    }
    *out += "<section><h2>Worst examples</h2><p class=\"muted\">those of the highest loss, with the model's guess</p>";
    let caption = |w: &Worst| {
        format!(
            "<b>{}</b>, not {} ({})<br>loss {:.2} &middot; number {}",
            escape(&w.truth),
            escape(&w.guess),
            percent(w.share),
            w.loss,
            w.place
        )
    };
    let right = |w: &Worst| {
        format!("<b>{}</b> ({})<br>loss {:.2} &middot; number {}", escape(&w.truth), percent(w.share), w.loss, w.place)
    };
    let said = |w: &Worst| if w.truth == w.guess { right(w) } else { caption(w) };
    let texts: Vec<&Worst> = found.worst.iter().filter(|w| matches!(w.input, Seen::Text(_))).take(6).collect();
    for w in texts {
        if let Seen::Text(text) = &w.input {
            let _ = write!(
                out,
                "<p class=\"muted\">loss {:.3} nats a character &middot; number {}</p><blockquote>{}</blockquote>",
                w.loss,
                w.place,
                escape(text)
            );
        }
    }
    *out += "<div class=\"worst\">";
    for w in &found.worst {
        match &w.input {
            Seen::Image(image) => {
                let source = data_address("image/png", &png(image)?);
                let _ =
                    write!(out, "<figure><img alt=\"\" src=\"{source}\"><figcaption>{}</figcaption></figure>", said(w));
            }
            Seen::Numbers(v) => {
                let text: Vec<String> = v.iter().take(12).map(|x| format!("{x:.3}")).collect();
                let more = if v.len() > 12 { ", .." } else { "" };
                let _ = write!(out, "<figure>{}{more}<figcaption>{}</figcaption></figure>", text.join(", "), said(w));
            }
            Seen::Text(_) => {}
        }
    }
    *out += "</div></section>";
    Ok(())
}

/// How sentences of the data were translated, beside what needs no network.
fn translations(out: &mut String, judged: &Judged) {
    let n = judged.sentences.len();
    let _ = write!(out, "<section><h2>Translations</h2><p class=\"muted\">of {n} sentences that were kept apart</p>");
    *out += "<table class=\"facts\"><tr class=\"muted\"><td></td><td>BLEU</td><td>words right</td></tr>";
    for (name, bleu) in judged.ways() {
        let (score, words) = (bleu.score(), bleu.words());
        let _ = write!(out, "<tr><td>{name}</td><td>{score:.2}</td><td>{words:.1} %</td></tr>");
    }
    *out += "</table><table class=\"facts\"><tr class=\"muted\"><td>source</td><td>reference</td><td>model</td>";
    *out += "<td>lexicon</td></tr>";
    for s in &judged.sentences {
        let cells = [&s.source, &s.reference, &s.model, &s.words].map(|text| format!("<td>{}</td>", escape(text)));
        let _ = write!(out, "<tr>{}</tr>", cells.concat());
    }
    *out += "</table></section>";
}

fn timing(out: &mut String, result: &Value) {
    if result.is_null() {
        return;
    }
    let usage = &result["usage"];
    let number = |v: &Value| v.as_u64().map_or_else(|| "-".into(), count);
    let steps = usage["steps_on_device"].as_u64().unwrap_or(0) + usage["steps_with_fallback"].as_u64().unwrap_or(0);
    let each = result["seconds"].as_f64().map_or(f64::NAN, |s| 1000.0 * s / steps.max(1) as f64);
    let mut rows = vec![
        ("device", escape(result["device"].as_str().unwrap_or("-"))),
        ("kiln", escape(result["kiln"].as_str().unwrap_or("-"))),
        ("time per update", format!("{each:.2} ms over {} updates of the last process", count(steps))),
        ("first update done after", result["seconds_to_first_update"].as_f64().map_or_else(|| "-".into(), seconds)),
        ("kernel launches per update", number(&usage["dispatches"])),
        ("updates with work that fell back to the CPU", number(&usage["steps_with_fallback"])),
    ];
    for key in ["fallbacks", "inlined"] {
        let list: Vec<&str> = usage[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !list.is_empty() {
            rows.push((key, list.iter().map(|l| escape(l)).collect::<Vec<_>>().join("<br>")));
        }
    }
    *out += "<section><h2>Device and timing</h2><table class=\"facts\">";
    for (what, value) in rows {
        let _ = write!(out, "<tr><td class=\"muted\">{what}</td><td>{value}</td></tr>");
    }
    *out += "</table></section>";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostTensor;
    use serde_json::json;

    #[test]
    fn a_page_stands_alone_and_escapes_what_it_shows() {
        let events = [
            json!({"event": "step", "step": 1, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "updated": true}),
            json!({"event": "step", "step": 2, "loss": null, "grad_norm": null, "lr": 0.1, "updated": false}),
            json!({"event": "epoch", "epoch": 1, "train_loss": 2.0, "train_accuracy": 0.5, "validation_loss": 1.5}),
        ];
        let worst = Worst {
            place: 3,
            loss: 4.0,
            truth: "<cat>".into(),
            guess: "dog".into(),
            share: 0.9,
            input: Seen::Image(HostTensor::f32([1, 1, 2], vec![0.0, 1.0]).unwrap()),
        };
        let found = Inspection {
            classes: vec!["<cat>".into(), "dog".into()],
            confusion: vec![vec![2, 1], vec![0, 3]],
            worst: vec![worst],
            looked_at: 6,
        };
        let result =
            json!({"device": "cpu", "test": {"accuracy": 0.8333, "loss": 0.5}, "samples": ["a & b"], "usage": {}});
        let html = page("my <run>", "a = \"b\"", &events, &result, Some(&found), None).unwrap();
        for part in [
            "my &lt;run&gt;",
            "&lt;cat&gt;",
            "a &amp; b",
            "83.33 %",
            "data:image/png;base64,",
            "<circle",
            "1 updates were",
        ] {
            assert!(html.contains(part), "no {part}");
        }
        assert!(!html.contains("<cat>") && !html.contains("http"), "nothing from elsewhere");
        assert_eq!(html.matches("<section").count(), html.matches("</section>").count());
        assert!(page("r", "", &[], &Value::Null, None, None).unwrap().contains("no data"));
    }
}
