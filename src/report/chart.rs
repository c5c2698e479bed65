//! Line charts as SVG text, for `report.html`. Colours come from the page's style sheet: classes `s0`, `s1`, ..

use std::fmt::Write;

/// A line of a chart.
pub struct Series<'a> {
    /// What it is, for the legend.
    pub name: &'a str,
    /// Its points, by rising x.
    pub points: Vec<(f64, f64)>,
}

/// Colours that the style sheet has; more lines begin again.
pub const COLOURS: usize = 6;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Points that a line keeps; more cannot be told apart at this width.
const MOST: usize = 500;

/// A chart with a legend below. Points that are not finite are left out; without any point the chart says so.
pub fn chart(x_name: &str, series: &[Series], logarithmic: bool) -> String {
    let y_of = |y: f64| if logarithmic { y.log10() } else { y };
    let kept: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|s| {
            thin(&s.points)
                .into_iter()
                .map(|(x, y)| (x, y_of(y)))
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .collect()
        })
        .collect();
    let all = || kept.iter().flatten();
    if all().next().is_none() {
        return "<p class=\"muted\">no data</p>".into();
    }
    let range = |f: fn(&(f64, f64)) -> f64| {
        all().map(f).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
    };
    let (x0, mut x1) = range(|p| p.0);
    let (mut y0, mut y1) = range(|p| p.1);
    if x1 <= x0 {
        x1 = x0 + 1.0;
    }
    if y1 - y0 < 1e-12 * y1.abs().max(1e-12) {
        (y0, y1) = (y0 - 0.5 * y0.abs().max(1e-6), y1 + 0.5 * y1.abs().max(1e-6));
    }
    let px = |x: f64| LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let py = |y: f64| HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{x_name}\">");
    for tick in ticks(y0, y1, 5) {
        let (y, label) = (py(tick), number(if logarithmic { 10f64.powf(tick) } else { tick }));
        let _ =
            write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for tick in ticks(x0, x1, 6) {
        let x = px(tick);
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 16.0,
            number(tick)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{x_name}</text>",
        WIDTH - RIGHT,
        HEIGHT - 2.0
    );
    for (i, points) in kept.iter().enumerate() {
        let i = i % COLOURS;
        let path: Vec<String> = points.iter().map(|&(x, y)| format!("{:.1},{:.1}", px(x), py(y))).collect();
        match points.len() {
            0 => {}
            1 => {
                let (x, y) = (px(points[0].0), py(points[0].1));
                let _ = write!(svg, "<circle class=\"s{i}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
            }
            _ => {
                let _ = write!(svg, "<polyline class=\"line s{i}\" points=\"{}\"/>", path.join(" "));
            }
        }
    }
    svg += "</svg>";
    let legend: String = series
        .iter()
        .enumerate()
        .map(|(i, s)| (i % COLOURS, s))
        .map(|(i, s)| format!("<span><i class=\"b{i}\"></i>{}</span>", s.name))
        .collect();
    format!("{svg}<div class=\"legend\">{legend}</div>")
}

/// At most [`MOST`] points, each the mean of its neighbours.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST {
        return points.to_vec();
    }
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(points.len().div_ceil(MOST)).map(mean).collect()
}

/// Round numbers between `low` and `high`, about `count` of them.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count as f64;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|s| *s >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|t| *t <= high + 1e-9 * step).take(20).collect()
}

/// A short number.
fn number(x: f64) -> String {
    let a = x.abs();
    match a {
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{x:.0e}"),
        a if a >= 100.0 => format!("{x:.0}"),
        _ => {
            let text = format!("{x:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let shown: Vec<String> = ticks(0.13, 0.37, 5).into_iter().map(number).collect();
        assert_eq!(shown, ["0.15", "0.2", "0.25", "0.3", "0.35"]);
        assert_eq!(
            [number(0.0), number(0.25), number(1234.6), number(2e7), number(1e-5)],
            ["0", "0.25", "1235", "2e7", "1e-5"]
        );
    }

    #[test]
    fn charts_hold_their_lines() {
        let css = include_str!("page.css");
        let styled = |i: usize| css.contains(&format!("polyline.s{i} ")) && css.contains(&format!(".b{i} "));
        assert!((0..COLOURS).all(styled) && !styled(COLOURS));
        let points: Vec<(f64, f64)> = (0..2000).map(|i| (f64::from(i), 1.0 / f64::from(i + 1))).collect();
        let svg =
            chart("update", &[Series { name: "loss", points }, Series { name: "one", points: vec![(3.0, 0.5)] }], true);
        assert!(
            svg.contains("<polyline") && svg.contains("<circle") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
        assert!(svg.matches(',').count() <= MOST + 10);
        assert!(chart("x", &[Series { name: "none", points: vec![(0.0, f64::NAN)] }], false).contains("no data"));
        let flat = chart("x", &[Series { name: "flat", points: vec![(0.0, 0.0), (1.0, 0.0)] }], false);
        assert!(!flat.contains("NaN"), "{flat}");
    }
}
