//! Time series in the `.ts` format of the UCR and UEA archive: a header of `@` lines, then one series a line, its
//! dimensions separated by colons, values by commas, the class last. Series of different lengths are padded with zeros at
//! the end, and their lengths kept.

use crate::data::file;
use crate::error::{Error, Result};
use std::path::Path;

/// Labelled series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Values, f32 [n, longest, dimensions], zero beyond a series' end.
    pub values: Vec<f32>,
    /// Length of each series.
    pub lengths: Vec<i32>,
    /// Class of each series, an index into `classes`; empty if the file has no classes.
    pub labels: Vec<i32>,
    /// Names of the classes, as the header has them.
    pub classes: Vec<String>,
    /// Numbers per time step.
    pub dimensions: usize,
    /// Length of the longest series.
    pub longest: usize,
}

impl Series {
    /// Reads a file, gzipped or not. Errors name the file and the line.
    pub fn open(path: &Path) -> Result<Series> {
        Series::parse(&file::text(path)?, &path.display().to_string())
    }

    /// Reads a text that errors call `name`.
    pub fn parse(text: &str, name: &str) -> Result<Series> {
        let mut classes: Vec<String> = Vec::new();
        let (mut in_data, mut dimensions) = (false, 0);
        let (mut series, mut labels): (Vec<Vec<Vec<f32>>>, Vec<i32>) = (Vec::new(), Vec::new());
        for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            let bad = |detail: String| Error::input(name, format!("line {number}: {detail}"));
            if line.is_empty() || line.starts_with(['#', '%']) {
                continue;
            }
            if let Some(header) = line.strip_prefix('@') {
                let mut words = header.split_whitespace();
                match (words.next().unwrap_or("").to_lowercase().as_str(), words.next()) {
                    ("data", _) => in_data = true,
                    ("classlabel", Some("true")) => classes = words.map(str::to_string).collect(),
                    ("timestamps", Some("true")) => {
                        return Err(bad("series with time stamps are not supported".into()));
                    }
                    ("targetlabel", Some("true")) => {
                        return Err(bad("series with numbers as targets are not supported, only classes".into()));
                    }
                    _ => {}
                }
                continue;
            }
            if !in_data {
                return Err(bad("values before the line @data; is this a .ts file?".into()));
            }
            let mut parts: Vec<&str> = line.split(':').collect();
            if !classes.is_empty() {
                let label = parts.pop().unwrap_or("").trim();
                let class = classes
                    .iter()
                    .position(|c| c == label)
                    .ok_or_else(|| bad(format!("class {label:?} is not one of the header's: {}", classes.join(" "))))?;
                labels.push(class as i32);
            }
            if dimensions == 0 {
                dimensions = parts.len();
            }
            if parts.len() != dimensions || dimensions == 0 {
                return Err(bad(format!("{} dimensions, the series before have {dimensions}", parts.len())));
            }
            let channels = parts.iter().enumerate().map(|(d, p)| values(p, d).map_err(&bad));
            let channels = channels.collect::<Result<Vec<Vec<f32>>>>()?;
            if channels.iter().any(|c| c.len() != channels[0].len()) {
                return Err(bad("its dimensions have different lengths".into()));
            }
            if channels[0].is_empty() {
                return Err(bad("the series is empty".into()));
            }
            series.push(channels);
        }
        if series.is_empty() {
            return Err(Error::input(name, "holds no series; a .ts file has them after a line @data"));
        }
        let longest = series.iter().map(|s| s[0].len()).max().unwrap_or(0);
        let mut all = vec![0.0; series.len() * longest * dimensions];
        for (out, channels) in all.chunks_exact_mut(longest * dimensions).zip(&series) {
            for (d, channel) in channels.iter().enumerate() {
                channel.iter().enumerate().for_each(|(t, &x)| out[t * dimensions + d] = x);
            }
        }
        let lengths = series.iter().map(|s| s[0].len() as i32).collect();
        Ok(Series { values: all, lengths, labels, classes, dimensions, longest })
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The same, padded to `longest` time steps. Errors if a series is longer.
    pub fn padded_to(self, longest: usize, name: &str) -> Result<Series> {
        if longest < self.longest {
            let detail = format!("a series has {} time steps, more than the {longest} that fit", self.longest);
            return Err(Error::input(name, detail));
        }
        let (old, d) = (self.longest * self.dimensions, self.dimensions);
        let pad = |s: &[f32]| [s, &vec![0.0; (longest - self.longest) * d]].concat();
        Ok(Series { values: self.values.chunks_exact(old).flat_map(pad).collect(), longest, ..self })
    }

    /// Puts other series behind these, all padded to the longest. Errors if dimensions or classes are others.
    pub fn append(self, other: Series, name: &str) -> Result<Series> {
        if (other.dimensions, &other.classes) != (self.dimensions, &self.classes) {
            let detail = format!(
                "has {} dimensions and the classes {:?}, the training part {} and {:?}",
                other.dimensions, other.classes, self.dimensions, self.classes
            );
            return Err(Error::input(name, detail));
        }
        let longest = self.longest.max(other.longest);
        let (mut all, other) = (self.padded_to(longest, name)?, other.padded_to(longest, name)?);
        all.values.extend(other.values);
        all.lengths.extend(other.lengths);
        all.labels.extend(other.labels);
        Ok(all)
    }

    /// Subtracts `mean` and divides by `std` of each dimension; what pads stays 0.
    pub fn standardize(&mut self, mean: &[f64], std: &[f64]) {
        let d = self.dimensions;
        for (series, &length) in self.values.chunks_exact_mut(self.longest * d).zip(&self.lengths) {
            for (i, x) in series[..length as usize * d].iter_mut().enumerate() {
                *x = ((f64::from(*x) - mean[i % d]) / std[i % d]) as f32;
            }
        }
    }

    /// Mean and standard deviation of each dimension over these series.
    pub fn statistics(&self, which: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let (d, size) = (self.dimensions, self.longest * self.dimensions);
        let of = |c: usize| {
            let one = |&i: &usize| {
                let all = &self.values[i * size..i * size + self.lengths[i] as usize * d];
                all.iter().skip(c).step_by(d).map(|&x| f64::from(x))
            };
            crate::data::table::mean_std(&which.iter().flat_map(one).collect::<Vec<f64>>())
        };
        (0..d).map(of).unzip()
    }
}

/// The values of one dimension (the `d`-th).
fn values(text: &str, d: usize) -> std::result::Result<Vec<f32>, String> {
    let value = |(i, word): (usize, &str)| match word.trim().parse::<f32>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(format!("dimension {}, value {}: {:?} is not a number", d + 1, i + 1, word.trim())),
    };
    text.split(',').enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "# a comment\n@problemName x\n@classLabel true a b\n@data\n1,2,3:4,5,6:b\n7:8:a\n";

    #[test]
    fn series_are_padded_and_keep_their_lengths() {
        let s = Series::parse(TWO, "x.ts").unwrap();
        assert_eq!((s.len(), s.longest, s.dimensions), (2, 3, 2));
        assert_eq!((s.lengths.clone(), s.labels.clone()), (vec![3, 1], vec![1, 0]));
        assert_eq!(s.values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0]);
        let (mean, std) = s.statistics(&[0]);
        assert_eq!(mean, [2.0, 5.0]);
        let mut t = s.padded_to(4, "x").unwrap();
        t.standardize(&mean, &std);
        assert_eq!((t.values.len(), t.values[2], t.values[15]), (16, 0.0, 0.0));
        assert!((f64::from(t.values[8]) - 5.0 / std[0]).abs() < 1e-6);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        let fail = |text: &str| Series::parse(text, "x.ts").unwrap_err().to_string();
        assert!(fail(&TWO.replace(":a\n", ":c\n")).contains("x.ts: line 6: class \"c\""));
        assert!(fail(&TWO.replace("5,6", "5,x")).contains("line 5: dimension 2, value 3: \"x\" is not a number"));
        assert!(fail(&TWO.replace("4,5,6", "4,5")).contains("different lengths"));
        assert!(fail(&TWO.replace("7:8", "7")).contains("line 6: 1 dimensions"));
        assert!(fail("1,2,3\n").contains("@data") && fail("@data\n").contains("no series"));
    }
}
