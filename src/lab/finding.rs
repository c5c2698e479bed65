//! What an experiment found: tables, charts and an answer, as text and as a page.

use super::Experiment;
use crate::report::chart::{COLOURS, Series, chart};
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
    /// Mean of the seeds that did not diverge; NaN if all did.
    pub mean: f64,
    /// Smallest of them.
    pub low: f64,
    /// Largest of them.
    pub high: f64,
    /// How many seeds there were, and how many of them gave no finite number.
    pub seeds: [usize; 2],
}

/// How one measurement stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Every seed is above every seed of the other.
    Above,
    /// Every seed is below every seed of the other.
    Below,
    /// The seeds of the two overlap.
    Scatter,
    /// Some seeds diverged, so that the others say only part of it.
    Lost,
    /// There is one seed, which tells nothing of scatter.
    One,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Above => "above it on every seed",
            Order::Below => "below it on every seed",
            Order::Scatter => "within the scatter of the seeds",
            Order::Lost => "not compared, since seeds diverged",
            Order::One => "one seed, which tells nothing of scatter",
        })
    }
}

impl Spread {
    /// Of one number a seed.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let all: Vec<f64> = values.into_iter().collect();
        let finite: Vec<f64> = all.iter().copied().filter(|v| v.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Spread { mean, low, high, seeds: [all.len(), all.len() - finite.len()] }
    }
    /// How this stands to the other. Of two equal models all five seeds of one are above all five of the other once in 252 times.
    pub fn against(&self, other: &Spread) -> Order {
        match () {
            _ if self.seeds[1] + other.seeds[1] > 0 => Order::Lost,
            _ if self.seeds[0].min(other.seeds[0]) < 2 => Order::One,
            _ if self.low > other.high => Order::Above,
            _ if self.high < other.low => Order::Below,
            _ => Order::Scatter,
        }
    }
    /// The mean with the ends, as percentages.
    pub fn percent(&self) -> String {
        self.text(&|x| format!("{:.1}", 100.0 * x), " %")
    }
    fn text(&self, number: &dyn Fn(f64) -> String, unit: &str) -> String {
        let [seeds, lost] = self.seeds;
        if seeds == lost {
            return "diverged".into();
        }
        let rest = if lost > 0 { format!("; {lost} of {seeds} diverged") } else { String::new() };
        format!("{}{unit} ({} to {}{rest})", number(self.mean), number(self.low), number(self.high))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&short, ""))
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
        let plot = |p: &Plot| json!({ "title": p.title, "x": p.x, "logarithmic": p.logarithmic, "lines": p.lines });
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
                let light = if v.is_finite() { 18.0 + 74.0 * rank(*v) } else { 100.0 };
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
            let _ = write!(svg, "<polyline class=\"line s{}\" points=\"{}\"/>", (i + 1) % COLOURS, points.join(" "));
        }
        let names = self.paths.iter().enumerate();
        let legend: String = names
            .map(|(i, (name, _))| format!("<span><i class=\"b{}\"></i>{}</span>", (i + 1) % COLOURS, escape(name)))
            .collect();
        let ends = format!("<span>across {left} to {right}, up {bottom} to {top}</span>");
        let legend = legend + &ends;
        svg + "</svg><div class=\"legend\">" + &legend + "</div>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_say_what_the_seeds_say() {
        let (a, b) = (Spread::of([0.1, 0.3]), Spread::of([0.31, 0.4]));
        assert_eq!((a.against(&b), b.against(&a)), (Order::Below, Order::Above));
        assert_eq!(a.against(&Spread::of([0.2, 0.5])), Order::Scatter);
        assert_eq!(Spread::of([0.1]).against(&Spread::of([0.2])), Order::One);
        let lost = Spread::of([0.1, f64::NAN, 0.2, f64::INFINITY]);
        assert_eq!((a.against(&lost), lost.against(&b)), (Order::Lost, Order::Lost), "a diverged seed is nowhere");
        assert_eq!(lost.to_string(), "0.150 (0.100 to 0.200; 2 of 4 diverged)");
        assert_eq!(Spread::of([f64::NAN]).percent(), "diverged");
        assert_eq!((a.to_string(), a.percent()), ("0.200 (0.100 to 0.300)".into(), "20.0 % (10.0 to 30.0)".into()));
        assert_eq!(Order::Above.to_string(), "above it on every seed");
        assert_eq!(Order::Below.to_string(), "below it on every seed");
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
        assert!(page.contains("hsl(215 45% 100%)"), "what is no number has no rank");
        assert!(finding.text().contains("width  error\n4      <0.5>"), "{}", finding.text());
    }
}
