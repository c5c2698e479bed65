//! Tables from CSV and TSV files with a header. [`Csv`] holds the cells; [`Encoder`] learns from the training rows how
//! columns become numbers (mean and deviation of numeric columns, values of categorical ones, what stands for a missing
//! cell) and applies that to all rows, so that nothing of the validation and test parts enters the training.

use crate::data::file;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use std::path::Path;

/// The cells of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Csv {
    name: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Line of the file on which each row begins.
    lines: Vec<u64>,
    /// Other files whose rows were appended: their names and first rows.
    others: Vec<(String, usize)>,
}

/// Cells that count as missing, in any case.
const MISSING: &[&str] = &["", "na", "n/a", "nan", "null", "none", "?"];

fn is_missing(cell: &str) -> bool {
    MISSING.iter().any(|m| cell.eq_ignore_ascii_case(m))
}

impl Csv {
    /// Reads a file, gzipped or not. Errors name the file and the line.
    pub fn open(path: &Path, delimiter: Option<char>) -> Result<Csv> {
        Csv::parse(&file::text(path)?, delimiter, &path.display().to_string())
    }

    /// Reads a text that errors call `name`. Without a delimiter it is a tab if the header has one, else a semicolon if it
    /// has one and no comma, else a comma. Quotes as in RFC 4180. Every row must have the header's number of cells.
    pub fn parse(text: &str, delimiter: Option<char>, name: &str) -> Result<Csv> {
        let first = text.lines().next().unwrap_or("");
        let delimiter = delimiter.unwrap_or_else(|| match first {
            f if f.contains('\t') => '\t',
            f if f.contains(';') && !f.contains(',') => ';',
            _ => ',',
        });
        let byte = u8::try_from(delimiter)
            .map_err(|_| Error::input(name, format!("the delimiter {delimiter:?} is not an ASCII character")))?;
        let mut reader =
            csv::ReaderBuilder::new().delimiter(byte).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let bad = |e: csv::Error| {
            let line = e.position().map_or(String::new(), |p| format!("line {}: ", p.line()));
            Error::input(name, format!("{line}{e}"))
        };
        let header: Vec<String> = reader.headers().map_err(bad)?.iter().map(str::to_string).collect();
        if header.iter().all(String::is_empty) {
            return Err(Error::input(name, "has no header; its first line must name the columns"));
        }
        let (mut rows, mut lines) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(bad)?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != header.len() {
                let detail = format!("line {line} has {} cells, the header has {}", record.len(), header.len());
                return Err(Error::input(name, format!("{detail}; is the delimiter {delimiter:?} right?")));
            }
            rows.push(record.iter().map(str::to_string).collect());
            lines.push(line);
        }
        if rows.is_empty() {
            return Err(Error::input(name, "has a header but no rows"));
        }
        Ok(Csv { name: name.to_string(), header, rows, lines, others: Vec::new() })
    }

    /// Puts the rows of another table behind these. Errors if its columns are others.
    pub fn append(&mut self, other: Csv) -> Result<()> {
        if other.header != self.header {
            let detail = format!(
                "its columns are {}, those of {} {}",
                other.header.join(", "),
                self.name,
                self.header.join(", ")
            );
            return Err(Error::input(&other.name, detail));
        }
        self.others.push((other.name, self.len()));
        self.rows.extend(other.rows);
        self.lines.extend(other.lines);
        Ok(())
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of a column. Errors name the nearest one.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.header.iter().position(|h| h == name).ok_or_else(|| {
            let hint = nearest(name, self.header.iter().map(String::as_str));
            let detail = format!("has no column {name:?}{hint}; its columns are {}", self.header.join(", "));
            Error::input(&self.name, detail)
        })
    }

    /// The cell of a row; `None` if it is missing.
    fn cell(&self, row: usize, column: usize) -> Option<&str> {
        Some(self.rows[row][column].as_str()).filter(|c| !is_missing(c))
    }

    /// True if all cells of a column that are there are numbers.
    fn is_numeric(&self, column: usize) -> bool {
        (0..self.len()).filter_map(|r| self.cell(r, column)).all(|c| c.parse::<f64>().is_ok_and(f64::is_finite))
    }

    /// A cell that is no number in a column of numbers, by all that it looks: nine in ten of its cells are some.
    fn stray(&self, column: usize) -> Option<Error> {
        let is_number = |c: &str| c.parse::<f64>().is_ok_and(f64::is_finite);
        let cells: Vec<(usize, &str)> = (0..self.len()).filter_map(|r| Some((r, self.cell(r, column)?))).collect();
        let numbers = cells.iter().filter(|(_, c)| is_number(c)).count();
        let (row, _) = cells.iter().find(|(_, c)| !is_number(c))?;
        let what = format!(
            "is not a number, but {numbers} of the {} cells of the column are; correct it, or list the column under categorical",
            cells.len()
        );
        (10 * numbers >= 9 * cells.len()).then(|| self.bad_cell(*row, column, &what))
    }

    /// The text of a cell, as it is.
    pub fn text(&self, row: usize, column: usize) -> &str {
        &self.rows[row][column]
    }

    /// An error that names file, line and column of a cell.
    pub(crate) fn bad_cell(&self, row: usize, column: usize, what: &str) -> Error {
        let (line, header, cell) = (self.lines[row], &self.header[column], &self.rows[row][column]);
        let file = self.others.iter().rev().find(|(_, first)| *first <= row).map_or(&self.name, |(name, _)| name);
        Error::input(file, format!("line {line}, column {header:?}: {cell:?} {what}"))
    }

    /// The number in a cell, `None` if it is missing. Errors name line and column.
    fn number(&self, row: usize, column: usize) -> Result<Option<f64>> {
        let Some(cell) = self.cell(row, column) else { return Ok(None) };
        match cell.parse::<f64>().ok().filter(|x| x.is_finite()) {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad_cell(row, column, "is not a number; list the column under categorical, or skip it")),
        }
    }

    /// The values of a column as classes: their names (sorted; numbers by size) and the class of each row. Errors at a
    /// missing cell.
    pub fn classes(&self, column: usize) -> Result<(Vec<String>, Vec<i32>)> {
        let cell = |row: usize| {
            let missing = || self.bad_cell(row, column, "is missing, but it is the target; remove the row");
            self.cell(row, column).ok_or_else(missing)
        };
        let cells = (0..self.len()).map(cell).collect::<Result<Vec<&str>>>()?;
        let names = distinct(cells.iter().copied());
        let classes = cells.iter().map(|c| names.iter().position(|n| n == c).unwrap_or(0) as i32).collect();
        Ok((names, classes))
    }

    /// The values of a column as group numbers, for splits that keep groups together. A missing cell is a group too.
    pub fn groups(&self, column: usize) -> Vec<usize> {
        let mut names: Vec<&str> = Vec::new();
        let mut of = std::collections::HashMap::new();
        (0..self.len())
            .map(|r| {
                let cell = self.rows[r][column].as_str();
                *of.entry(cell).or_insert_with(|| {
                    names.push(cell);
                    names.len() - 1
                })
            })
            .collect()
    }
}

/// The distinct values, sorted: by size if all are numbers.
fn distinct<'a>(cells: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = cells.map(str::to_string).collect();
    names.sort_unstable();
    names.dedup();
    let numbers: Option<Vec<f64>> = names.iter().map(|n| n.parse().ok()).collect();
    if let Some(numbers) = numbers {
        let mut both: Vec<(f64, String)> = numbers.into_iter().zip(names).collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        return both.into_iter().map(|(_, n)| n).collect();
    }
    names
}

/// `; did you mean "x"?`, if one of the names is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()), k)).min();
    match best {
        Some((distance, k)) if distance <= 1 + name.chars().count() / 3 => format!("; did you mean {k:?}?"),
        _ => String::new(),
    }
}

/// How one column becomes numbers.
#[derive(Debug, Clone, PartialEq)]
enum Column {
    /// (x - mean) / std; the mean where it is missing. `flag`: a further number, 1 where it is missing.
    Numeric { mean: f64, std: f64, flag: bool },
    /// One number per value, 1 for the cell's own; all 0 for a missing cell or a value that the training part has not.
    OneHot { values: Vec<String> },
}

/// How the input columns become a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    columns: Vec<(String, Column)>,
}

/// Which columns are inputs, and how they are read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns<'a> {
    /// The columns; empty: all but those of `skip`.
    pub inputs: &'a [String],
    /// Columns that are no inputs (targets, groups, and what the user leaves out).
    pub skip: &'a [String],
    /// Columns to read as categories though they hold numbers.
    pub categorical: &'a [String],
    /// Whether numeric columns are standardised by the mean and deviation of the training part.
    pub standardize: bool,
}

impl Encoder {
    /// Learns from the rows `train` of a table.
    pub fn fit(table: &Csv, train: &[usize], which: &Columns) -> Result<Encoder> {
        for name in which.inputs.iter().chain(which.skip).chain(which.categorical) {
            table.column(name)?;
        }
        let wanted = |name: &String| match which.inputs.is_empty() {
            true => !which.skip.contains(name),
            false => which.inputs.contains(name),
        };
        let mut columns = Vec::new();
        for (c, name) in table.header.iter().enumerate().filter(|(_, name)| wanted(name)) {
            if let Some(e) = table.stray(c).filter(|_| !which.categorical.contains(name)) {
                return Err(e);
            }
            let column = match which.categorical.contains(name) || !table.is_numeric(c) {
                true => Column::OneHot { values: distinct(train.iter().filter_map(|&r| table.cell(r, c))) },
                false => {
                    let cells = train.iter().map(|&r| table.number(r, c)).collect::<Result<Vec<_>>>()?;
                    let present: Vec<f64> = cells.iter().flatten().copied().collect();
                    let (mean, std) = mean_std(&present);
                    let flag = present.len() < cells.len();
                    // Without standardisation a missing cell still becomes the mean.
                    let (mean, std) = if which.standardize || flag { (mean, std) } else { (0.0, 1.0) };
                    Column::Numeric { mean, std, flag }
                }
            };
            columns.push((name.clone(), column));
        }
        let encoder = Encoder { columns };
        if encoder.width() == 0 {
            return Err(Error::input(&table.name, "no columns are left as inputs; see data.inputs and data.skip"));
        }
        Ok(encoder)
    }

    /// Length of the vector.
    pub fn width(&self) -> usize {
        self.names().len()
    }

    /// A name for each number of the vector: `column`, `column=value`, `column missing`.
    pub fn names(&self) -> Vec<String> {
        let of = |(name, column): &(String, Column)| match column {
            Column::Numeric { flag, .. } => {
                let mut names = vec![name.clone()];
                names.extend(flag.then(|| format!("{name} missing")));
                names
            }
            Column::OneHot { values } => values.iter().map(|v| format!("{name}={v}")).collect(),
        };
        self.columns.iter().flat_map(of).collect()
    }

    /// The vectors of all rows of a table, f32 [rows, width]. Errors if a column is not there or a cell is not as learnt.
    pub fn encode(&self, table: &Csv) -> Result<HostTensor> {
        let mut out = Vec::with_capacity(table.len() * self.width());
        let places = self.columns.iter().map(|(name, _)| table.column(name)).collect::<Result<Vec<usize>>>()?;
        for row in 0..table.len() {
            for ((_, column), &c) in self.columns.iter().zip(&places) {
                match column {
                    Column::Numeric { mean, std, flag } => {
                        let x = table.number(row, c)?;
                        out.push(((x.unwrap_or(*mean) - mean) / std) as f32);
                        out.extend(flag.then(|| if x.is_none() { 1.0 } else { 0.0 }));
                    }
                    Column::OneHot { values } => {
                        let cell = table.cell(row, c);
                        out.extend(values.iter().map(|v| if Some(v.as_str()) == cell { 1.0 } else { 0.0 }));
                    }
                }
            }
        }
        HostTensor::f32([table.len(), self.width()], out)
    }
}

/// Mean and (biased) standard deviation; a deviation of 0 or of nothing counts as 1.
pub fn mean_std(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    (mean, if std > 0.0 { std } else { 1.0 })
}

/// Numeric targets, standardised by the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// f32 [rows, columns].
    pub values: HostTensor,
    /// Mean of each column in the training rows.
    pub mean: Vec<f64>,
    /// Standard deviation of each column in the training rows.
    pub std: Vec<f64>,
}

impl Targets {
    /// The columns `names` of a table. Errors at a cell that is missing or no number.
    pub fn fit(table: &Csv, train: &[usize], names: &[String], standardize: bool) -> Result<Targets> {
        let places = names.iter().map(|n| table.column(n)).collect::<Result<Vec<usize>>>()?;
        let mut raw = Vec::with_capacity(table.len() * places.len());
        for row in 0..table.len() {
            for &c in &places {
                let missing = || table.bad_cell(row, c, "is missing, but it is a target; remove the row");
                raw.push(table.number(row, c)?.ok_or_else(missing)?);
            }
        }
        let k = places.len();
        let of = |c: usize| mean_std(&train.iter().map(|&r| raw[r * k + c]).collect::<Vec<f64>>());
        let (mean, std): (Vec<f64>, Vec<f64>) = (0..k).map(|c| if standardize { of(c) } else { (0.0, 1.0) }).unzip();
        let scaled = raw.iter().enumerate().map(|(i, x)| ((x - mean[i % k]) / std[i % k]) as f32).collect();
        Ok(Targets { values: HostTensor::f32([table.len(), k], scaled)?, mean, std })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENGUINS: &str = "species,island,bill,mass\nAdelie,Biscoe,39.5,3800\nGentoo,Dream,NA,5000\n\
                            \"Adelie\",Biscoe,40.5,\nChinstrap,Torgersen,50,3700\n";

    fn encoder(train: &[usize], which: Columns) -> (Csv, Encoder) {
        let t = Csv::parse(PENGUINS, None, "p.csv").unwrap();
        let e = Encoder::fit(&t, train, &which).unwrap();
        (t, e)
    }

    #[test]
    fn statistics_come_from_the_training_rows() {
        let skip = ["species".to_string()];
        let (t, e) = encoder(&[0, 1, 2], Columns { skip: &skip, standardize: true, ..Default::default() });
        assert_eq!(e.names(), ["island=Biscoe", "island=Dream", "bill", "bill missing", "mass", "mass missing"]);
        let x = e.encode(&t).unwrap();
        let rows: Vec<&[f32]> = x.as_f32().unwrap().chunks(6).collect();
        // bill: mean 40, deviation 0.5; mass: mean 4400, deviation 600.
        assert_eq!(rows[0], [1.0, 0.0, -1.0, 0.0, -1.0, 0.0]);
        assert_eq!(rows[1], [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(rows[2], [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        // A row that was not learnt from: an unknown island is none, its bill is 20 deviations away.
        assert_eq!(rows[3][..4], [0.0, 0.0, 20.0, 0.0]);
        assert_eq!(
            t.classes(0).unwrap(),
            (vec!["Adelie".into(), "Chinstrap".into(), "Gentoo".into()], vec![0, 2, 0, 1])
        );
        assert_eq!(t.groups(1), [0, 1, 0, 2]);
    }

    #[test]
    fn numbers_can_be_categories_and_targets() {
        let t = Csv::parse("a;b\n10;1.5\n9;2.5\n10;3.5\n", None, "t").unwrap();
        assert_eq!(t.classes(0).unwrap().0, ["9", "10"]);
        let categorical = ["a".to_string()];
        let e = Encoder::fit(&t, &[0, 1], &Columns { categorical: &categorical, ..Default::default() }).unwrap();
        assert_eq!(e.names(), ["a=9", "a=10", "b"]);
        assert_eq!(e.encode(&t).unwrap().as_f32().unwrap()[..3], [0.0, 1.0, 1.5]);
        let y = Targets::fit(&t, &[0, 1], &["b".to_string()], true).unwrap();
        assert_eq!((y.mean[0], y.std[0], y.values.as_f32().unwrap()), (2.0, 0.5, &[-1.0, 1.0, 3.0][..]));
    }

    #[test]
    fn a_stray_word_among_numbers_is_named() {
        let text = |words: usize| {
            let cell = |i: usize| if i < words { "inf".to_string() } else { format!("{i}") };
            (0..20).fold(String::from("a\n"), |t, i| t + &cell(i) + "\n")
        };
        let fit = |words: usize, categorical: &[String]| {
            let table = Csv::parse(&text(words), None, "f.csv").unwrap();
            Encoder::fit(&table, &[0, 1, 2, 19], &Columns { categorical, ..Columns::default() }).map(drop)
        };
        let m = fit(2, &[]).unwrap_err().to_string();
        assert!(m.starts_with("f.csv: line 2, column \"a\": \"inf\"") && m.contains("18 of the 20 cells"), "{m}");
        assert!(fit(3, &[]).is_ok() && fit(0, &[]).is_ok() && fit(2, &["a".to_string()]).is_ok());
    }

    #[test]
    fn mistakes_name_file_line_and_column() {
        let fail = |text: &str| Csv::parse(text, None, "f.csv").unwrap_err().to_string();
        let m = fail("a,b\n1,2\n3\n");
        assert!(m.starts_with("f.csv: line 3 has 1 cells, the header has 2"), "{m}");
        assert!(fail("").contains("no header") && fail("a,b\n").contains("no rows"));
        let t = Csv::parse(PENGUINS, None, "p.csv").unwrap();
        let m = t.column("bil").unwrap_err().to_string();
        assert!(m.contains("\"bil\"") && m.contains("did you mean \"bill\"?"), "{m}");
        let m = Targets::fit(&t, &[0], &["bill".to_string()], true).unwrap_err().to_string();
        assert!(m.starts_with("p.csv: line 3, column \"bill\": \"NA\" is missing"), "{m}");
        let m = Targets::fit(&t, &[0], &["island".to_string()], true).unwrap_err().to_string();
        assert!(m.contains("line 2") && m.contains("not a number"), "{m}");
        assert!(t.classes(3).unwrap_err().to_string().contains("line 4"));
    }
}
