//! What an experiment found: tables, charts and an answer, as text and as a page.

use super::Experiment;
use crate::report::chart::{Series, chart};
use crate::report::page::escape;
use serde_json::{Value, json};
use std::fmt::{self, Write};

/// A table of measurements.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// As many cells in each row as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Table {
        Table { title: title.into(), columns: columns.iter().map(|c| c.to_string()).collect(), rows: Vec::new() }
    }
    /// Appends a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

/// A chart of lines.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// What runs along x.
    pub x: &'static str,
    /// True for a logarithmic y.
    pub logarithmic: bool,
    /// Names and points.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// A grid of colours: a function of two variables.
#[derive(Debug, Clone, Default)]
pub struct Map {
    /// What it shows.
    pub title: String,
    /// Left, right, bottom and top.
    pub area: [f64; 4],
    /// Rows of values from the bottom up, all of one length.
    pub values: Vec<Vec<f64>>,
    /// Paths over it, with their names.
    pub paths: Vec<(String, Vec<(f64, f64)>)>,
}

/// What an experiment found.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// The answer, worded from what was measured.
    pub answer: String,
    /// Measurements.
    pub tables: Vec<Table>,
    /// Charts of them.
    pub plots: Vec<Plot>,
    /// Maps of them.
    pub maps: Vec<Map>,
}

/// A measurement over the seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Smallest.
    pub low: f64,
    /// Largest.
    pub high: f64,
}

impl Spread {
    /// Of the finite values among these: a diverged seed shows as NaN mean.
    pub fn of(values: &[f64]) -> Spread {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Spread { mean, low, high }
    }
    /// True if every seed of this is below every seed of the other. A diverged seed is below nothing.
    pub fn below(&self, other: &Spread) -> bool {
        self.mean.is_finite() && (self.high < other.low || other.mean.is_nan())
    }
    /// The mean with the ends, as percentages.
    pub fn percent(&self) -> String {
        format!("{:.1} % ({:.1} to {:.1})", 100.0 * self.mean, 100.0 * self.low, 100.0 * self.high)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mean.is_nan() {
            return f.write_str("diverged");
        }
        write!(f, "{} ({} to {})", short(self.mean), short(self.low), short(self.high))
    }
}

/// Three digits.
pub(super) fn short(x: f64) -> String {
    let a = x.abs();
    match a {
        0.0 => "0".into(),
        a if !(1e-3..1e5).contains(&a) => format!("{x:.1e}"),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1.0 => format!("{x:.2}"),
        a if a >= 0.1 => format!("{x:.3}"),
        _ => format!("{x:.4}"),
    }
}

impl Finding {
    /// As text for a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for t in &self.tables {
            let rows: Vec<Vec<String>> = std::iter::once(&t.columns).chain(&t.rows).cloned().collect();
            let _ = write!(out, "\n{}\n{}", t.title, crate::report::runs::table(&rows));
        }
        let _ = write!(out, "\nAnswer: {}\n", self.answer);
        out
    }

    /// As one JSON object: the tables as they are printed, and the charts' points.
    pub fn to_json(&self) -> Value {
        let table = |t: &Table| json!({ "title": t.title, "columns": t.columns, "rows": t.rows });
        let plot = |p: &Plot| json!({ "title": p.title, "x": p.x, "lines": p.lines });
        let map = |m: &Map| json!({ "title": m.title, "area": m.area, "values": m.values, "paths": m.paths });
        json!({
            "answer": self.answer,
            "tables": self.tables.iter().map(table).collect::<Vec<_>>(),
            "plots": self.plots.iter().map(plot).collect::<Vec<_>>(),
            "maps": self.maps.iter().map(map).collect::<Vec<_>>(),
        })
    }

    /// As one HTML file that needs nothing else. `how` says on what and how it was made.
    pub fn page(&self, experiment: &Experiment, how: &str) -> String {
        let mut out = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
        let _ = write!(
            out,
            "<meta name=\"viewport\" content=\"width=device-width\"><title>{} - kiln lab</title><style>{}</style></head><body><main>",
            experiment.name,
            include_str!("../report/page.css")
        );
        let _ = write!(out, "<h1>{}</h1><p class=\"muted\">{}</p>", escape(experiment.question), escape(how));
        let _ = write!(out, "<section><h2>Answer</h2><p>{}</p></section>", escape(&self.answer));
        for p in &self.plots {
            let lines = p.lines.iter().map(|(name, points)| (escape(name), points.clone())).collect::<Vec<_>>();
            let series: Vec<Series> =
                lines.iter().map(|(name, points)| Series { name, points: points.clone() }).collect();
            let svg = chart(p.x, &series, p.logarithmic);
            let _ = write!(out, "<section><h2>{}</h2>{svg}</section>", escape(&p.title));
        }
        for m in &self.maps {
            let _ = write!(out, "<section><h2>{}</h2>{}</section>", escape(&m.title), m.svg());
        }
        for t in &self.tables {
            let cells = |row: &[String], tag: &str| {
                let each: String = row.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
                format!("<tr>{each}</tr>")
            };
            let rows: String = t.rows.iter().map(|r| cells(r, "td")).collect();
            let _ = write!(
                out,
                "<section><h2>{}</h2><table class=\"facts\">{}{rows}</table></section>",
                escape(&t.title),
                cells(&t.columns, "th")
            );
        }
        let _ =
            writeln!(out, "<section><h2>How</h2><p>{}</p></section></main></body></html>", escape(experiment.method));
        out
    }
}

impl Map {
    /// The map as SVG: dark where the values are small, by their rank, so that a narrow valley shows.
    fn svg(&self) -> String {
        const SIDE: f64 = 420.0;
        let mut ranked: Vec<f64> = self.values.iter().flatten().copied().filter(|v| v.is_finite()).collect();
        ranked.sort_by(f64::total_cmp);
        let rank = |v: f64| ranked.partition_point(|r| *r < v) as f64 / ranked.len().max(1) as f64;
        let (rows, columns) = (self.values.len(), self.values.first().map_or(0, Vec::len));
        let (h, w) = (SIDE / rows.max(1) as f64, SIDE / columns.max(1) as f64);
        let mut svg = format!("<svg viewBox=\"0 0 {SIDE} {SIDE}\" style=\"max-width:{SIDE}px\" role=\"img\">");
        for (r, row) in self.values.iter().enumerate() {
            for (c, v) in row.iter().enumerate() {
                let light = 18.0 + 74.0 * rank(*v);
                let (x, y) = (c as f64 * w, SIDE - (r + 1) as f64 * h);
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"hsl(215 45% {light:.0}%)\"/>",
                    w + 0.5,
                    h + 0.5
                );
            }
        }
        let [left, right, bottom, top] = self.area;
        let place = |&(x, y): &(f64, f64)| {
            let at = |v: f64, low: f64, high: f64| ((v - low) / (high - low)).clamp(-0.1, 1.1) * SIDE;
            format!("{:.1},{:.1}", at(x, left, right), SIDE - at(y, bottom, top))
        };
        for (i, (_, path)) in self.paths.iter().enumerate() {
            let points: Vec<String> = path.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).map(place).collect();
            let _ = write!(svg, "<polyline class=\"line s{}\" points=\"{}\"/>", i + 1, points.join(" "));
        }
        let names = self.paths.iter().enumerate();
        let legend: String =
            names.map(|(i, (name, _))| format!("<span><i class=\"b{}\"></i>{}</span>", i + 1, escape(name))).collect();
        svg + "</svg><div class=\"legend\">" + &legend + "</div>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_say_what_the_seeds_say() {
        let (a, b) = (Spread::of(&[0.1, 0.3]), Spread::of(&[0.31, 0.4]));
        assert!(a.below(&b) && !b.below(&a) && !a.below(&Spread::of(&[0.2, 0.5])));
        let lost = Spread::of(&[0.1, f64::NAN]);
        assert!(a.below(&lost) && !lost.below(&b), "a diverged seed is below nothing");
        assert_eq!((a.to_string(), lost.to_string()), ("0.200 (0.100 to 0.300)".into(), "diverged".into()));
        assert_eq!(a.percent(), "20.0 % (10.0 to 30.0)");
    }

    #[test]
    fn pages_hold_everything_and_escape_it() {
        let mut table = Table::new("errors < 1", &["width", "error"]);
        table.row(vec!["4".into(), "<0.5>".into()]);
        let finding = Finding {
            answer: "yes & no".into(),
            tables: vec![table],
            plots: vec![Plot {
                title: "t".into(),
                x: "x",
                logarithmic: true,
                lines: vec![("a<b".into(), vec![(1.0, 2.0), (2.0, 3.0)])],
            }],
            maps: vec![Map {
                title: "m".into(),
                area: [0.0, 1.0, 0.0, 1.0],
                values: vec![vec![1.0, f64::NAN], vec![0.0, 2.0]],
                paths: vec![("way".into(), vec![(0.1, 0.1), (0.5, f64::NAN), (0.9, 0.9)])],
            }],
        };
        let page = finding.page(&super::super::all()[0], "on a test");
        for part in ["yes &amp; no", "errors &lt; 1", "&lt;0.5&gt;", "a&lt;b", "<polyline", "<rect"] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("NaN"));
        assert!(finding.text().contains("width  error\n4      <0.5>"), "{}", finding.text());
    }
}
