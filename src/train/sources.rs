//! The data of a run: one function for each kind that a configuration may name.

use crate::data::graph::{Graph, GraphPart};
use crate::data::images::MnistPart;
use crate::data::pairs::{PairTokens, Pairs, Sides};
use crate::data::pictures::{self, Pictures};
use crate::data::series::Series;
use crate::data::table::{Columns, Csv, Encoder, Targets};
use crate::data::{Arrays, Augment, Chars, Dataset, Images, Split, TextWindows, cifar, embedded, file};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::train::RunConfig;
use crate::train::config::data::{self, SplitKind, TableTask};
use crate::train::task::{Output, Part, Reader, Task};
use std::path::Path;
use std::sync::Arc;

pub(super) mod npy;

/// What a split may go by.
#[derive(Default, Clone, Copy)]
struct By<'a> {
    labels: Option<&'a [i32]>,
    groups: Option<&'a [usize]>,
}

/// Divides `n` examples.
fn divide(config: &RunConfig, n: usize, kind: SplitKind, test: f64, validation: f64, by: By) -> Result<Split> {
    let split = match (by.groups, kind) {
        (Some(groups), _) => Split::grouped(groups, test, validation, config.seed)?,
        (None, SplitKind::Random) => Split::random(n, test, validation, config.seed)?,
        (None, SplitKind::Ordered) => Split::ordered(n, test, validation)?,
        (None, SplitKind::Stratified) => match by.labels {
            Some(labels) => Split::stratified(labels, test, validation, config.seed)?,
            None => {
                let detail = "stratified needs classes as targets; take random or ordered";
                return Err(Error::input("data.split", detail));
            }
        },
    };
    match config.fold {
        Some((fold, folds)) => split.fold(fold, folds, by.labels, by.groups, config.seed),
        None => Ok(split),
    }
}

fn part(data: impl Dataset + 'static, indices: Vec<usize>) -> Part {
    Part { data: Box::new(data), indices }
}

/// A task over one data set that is divided.
fn divided(data: Arc<dyn Dataset>, split: Split, output: Output, labels: Option<&[i32]>) -> Task {
    let train_labels = labels.map(|l| split.train.iter().map(|&i| l[i]).collect()).unwrap_or_default();
    Task {
        train: part(data.clone(), split.train),
        validation: part(data.clone(), split.validation),
        test: part(data, split.test),
        output,
        reader: None,
        tokens: None,
        train_labels,
    }
}

/// The path of a key, which must be given.
fn given<'a>(path: &'a str, what: &str) -> Result<&'a Path> {
    match path {
        "" => Err(Error::input("data.path", format!("no file was given; it takes {what}, also with --data"))),
        path => Ok(Path::new(path)),
    }
}

pub(super) fn digits(config: &RunConfig, d: &data::Digits) -> Result<Task> {
    let images = embedded::digits()?;
    let by = By { labels: Some(images.labels()), groups: None };
    let split = divide(config, images.len(), d.split, d.test, d.validation, by)?;
    let output = Output::Class { classes: images.classes(), size: images.size(), white: 16.0 };
    let train = Box::new(images.clone().augmented(Augment { shift: d.shift }));
    let task = divided(Arc::new(images.clone()), split, output, Some(images.labels()));
    Ok(Task { train: Part { data: train, ..task.train }, ..task })
}

pub(super) fn mnist(config: &RunConfig, d: &data::Mnist) -> Result<Task> {
    if d.path.is_empty() {
        let detail = "no folder was given; point --data at one with the IDX files of MNIST or Fashion-MNIST \
                      (on Debian: apt install dataset-fashion-mnist, then --data \
                      /usr/share/dataset-fashion-mnist)";
        return Err(Error::input("data.path", detail));
    }
    let train = Images::from_folder(Path::new(&d.path), MnistPart::Train, d.classes)?;
    let test = Images::from_folder(Path::new(&d.path), MnistPart::Test, d.classes)?;
    if train.size() != test.size() {
        let detail = format!("training images are {:?}, test images {:?}", train.size(), test.size());
        return Err(Error::input(&d.path, detail));
    }
    let output = Output::Class { classes: d.classes, size: train.size(), white: 255.0 };
    two_sets(config, [train, test], (d.split, d.validation, d.shift), output)
}

pub(super) fn cifar(config: &RunConfig, d: &data::Cifar) -> Result<Task> {
    const TEN: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let [train, test] = cifar::open(given(&d.path, "a folder of CIFAR")?)?;
    let names = match train.classes() {
        10 => TEN.map(str::to_string).to_vec(),
        n => (0..n).map(|i| i.to_string()).collect(),
    };
    let reader = PictureReader(pictures::Shape { size: train.size(), channels: 3 });
    let task = two_sets(config, [train, test], (d.split, d.validation, 0), Output::Label { names })?;
    Ok(Task { reader: Some(Box::new(reader)), ..task })
}

/// A task over a training set, of which a validation part is taken, and a test set.
fn two_sets(
    config: &RunConfig,
    [train, test]: [Images; 2],
    (kind, validation, shift): (SplitKind, f64, usize),
    output: Output,
) -> Result<Task> {
    let by = By { labels: Some(train.labels()), groups: None };
    let split = divide(config, train.len(), kind, 0.0, validation, by)?;
    let train_labels = split.train.iter().map(|&i| train.labels()[i]).collect();
    let all = (0..test.len()).collect();
    Ok(Task {
        train: part(train.clone().augmented(Augment { shift }), split.train),
        validation: part(train, split.validation),
        test: part(test, all),
        output,
        reader: None,
        tokens: None,
        train_labels,
    })
}

pub(super) fn images(config: &RunConfig, d: &data::Pictures) -> Result<Task> {
    let shape = pictures::Shape { size: d.size, channels: if d.color { 3 } else { 1 } };
    let Pictures { images, names, .. } =
        pictures::open(given(&d.path, "a folder with one folder per class")?, shape, &[])?;
    let other = |path: &str| match path {
        "" => Ok(None),
        path => pictures::open(Path::new(path), shape, &names).map(|p| Some(p.images)),
    };
    let (test, validation) = (other(&d.test_path)?, other(&d.validation_path)?);
    let share = |given: bool, share: f64| if given { 0.0 } else { share };
    let by = By { labels: Some(images.labels()), groups: None };
    let (t, v) = (share(test.is_some(), d.test), share(validation.is_some(), d.validation));
    let split = divide(config, images.len(), d.split, t, v, by)?;
    let mut task = divided(Arc::new(images.clone()), split, Output::Label { names }, Some(images.labels()));
    for (own, given) in [(&mut task.test, test), (&mut task.validation, validation)] {
        if let Some(images) = given {
            let all = (0..images.len()).collect();
            *own = part(images, all);
        }
    }
    Ok(Task { reader: Some(Box::new(PictureReader(shape))), ..task })
}

struct PictureReader(pictures::Shape);

impl Reader for PictureReader {
    fn read(&self, path: &Path) -> Result<Vec<HostTensor>> {
        let shape = self.0;
        let pixels = pictures::read(path, shape)?.into_iter().map(|b| f32::from(b) / 255.0).collect();
        Ok(vec![HostTensor::f32([1, shape.channels, shape.size[0], shape.size[1]], pixels)?])
    }
}

/// Indices of the rows of files that were put one behind the other: those of the first are divided, those of the others,
/// if they were given, replace what was divided off.
fn with_files(mut split: Split, ends: [usize; 3]) -> Split {
    let [first, second, third] = ends;
    if second > first {
        split.validation = (first..second).collect();
    }
    if third > second {
        split.test = (second..third).collect();
    }
    split
}

pub(super) fn table(config: &RunConfig, d: &data::Table) -> Result<Task> {
    let delimiter = d.delimiter.chars().next();
    let mut table = Csv::open(given(&d.path, "a CSV or TSV file with a header")?, delimiter)?;
    let mut ends = [table.len(); 3];
    for (i, path) in [(1, &d.validation_path), (2, &d.test_path)] {
        if !path.is_empty() {
            table.append(Csv::open(Path::new(path), delimiter)?)?;
        }
        ends[i..].fill(table.len());
    }
    let classes = match (d.task, &d.target[..]) {
        (TableTask::Classes, [target]) => Some(table.classes(table.column(target)?)?),
        (TableTask::Classes, _) => {
            let detail = "several columns are no class; give one, or say task = \"numbers\"";
            return Err(Error::input("data.target", detail));
        }
        (TableTask::Numbers, _) => None,
    };
    let groups = match d.group.as_str() {
        "" => None,
        name => Some(table.groups(table.column(name)?)),
    };
    let labels = classes.as_ref().map(|(_, labels)| &labels[..ends[0]]);
    let by = By { labels, groups: groups.as_deref().map(|g| &g[..ends[0]]) };
    let test = if d.test_path.is_empty() { d.test } else { 0.0 };
    let validation = if d.validation_path.is_empty() { d.validation } else { 0.0 };
    let split = with_files(divide(config, ends[0], d.split, test, validation, by)?, ends);
    let skip: Vec<String> =
        d.target.iter().chain(&d.skip).cloned().chain((!d.group.is_empty()).then(|| d.group.clone())).collect();
    let columns = Columns { inputs: &d.inputs, skip: &skip, categorical: &d.categorical, standardize: d.standardize };
    if let Some(name) = d.inputs.iter().find(|i| d.target.contains(i)) {
        return Err(Error::input("data.inputs", format!("the target {name:?} is among the inputs")));
    }
    let encoder = Encoder::fit(&table, &split.train, &columns)?;
    let x = encoder.encode(&table)?;
    let reader: Box<dyn Reader> = Box::new(TableReader { encoder, delimiter });
    let task = match classes {
        Some((names, labels)) => {
            let y = HostTensor::i32([labels.len()], labels.clone())?;
            let data = Arrays::new(vec![("x", x), ("label", y)])?;
            divided(Arc::new(data), split, Output::Label { names }, Some(&labels))
        }
        None => {
            let Targets { values, mean, std } = Targets::fit(&table, &split.train, &d.target, d.standardize)?;
            let data = Arrays::new(vec![("x", x), ("y", values)])?;
            divided(Arc::new(data), split, Output::Value { names: d.target.clone(), mean, std }, None)
        }
    };
    Ok(Task { reader: Some(reader), ..task })
}

struct TableReader {
    encoder: Encoder,
    delimiter: Option<char>,
}

impl Reader for TableReader {
    fn read(&self, path: &Path) -> Result<Vec<HostTensor>> {
        Ok(vec![self.encoder.encode(&Csv::open(path, self.delimiter)?)?])
    }
}

pub(super) fn series(config: &RunConfig, d: &data::Series) -> Result<Task> {
    let mut all = Series::open(given(&d.path, "a .ts file")?)?;
    if all.classes.is_empty() {
        return Err(Error::input(&d.path, "its series have no classes (the header has no @classLabel true ...)"));
    }
    let mut ends = [all.len(); 3];
    if !d.test_path.is_empty() {
        all = all.append(Series::open(Path::new(&d.test_path))?, &d.test_path)?;
        ends[2] = all.len();
    }
    let labels = all.labels.clone();
    let by = By { labels: Some(&labels[..ends[0]]), groups: None };
    let test = if d.test_path.is_empty() { d.test } else { 0.0 };
    let split = with_files(divide(config, ends[0], d.split, test, d.validation, by)?, ends);
    let standard = d.standardize.then(|| all.statistics(&split.train));
    if let Some((mean, std)) = &standard {
        all.standardize(mean, std);
    }
    let reader = SeriesReader { longest: all.longest, dimensions: all.dimensions, standard };
    let names = all.classes.clone();
    let [x, lengths] = tensors(&all)?;
    let y = HostTensor::i32([labels.len()], labels.clone())?;
    let data = Arrays::new(vec![("series", x), ("length", lengths), ("label", y)])?;
    let task = divided(Arc::new(data), split, Output::Label { names }, Some(&labels));
    Ok(Task { reader: Some(Box::new(reader)), ..task })
}

/// Values f32 (n, T, C) and lengths i32 (n).
fn tensors(s: &Series) -> Result<[HostTensor; 2]> {
    let x = HostTensor::f32([s.len(), s.longest, s.dimensions], s.values.clone())?;
    Ok([x, HostTensor::i32([s.len()], s.lengths.clone())?])
}

struct SeriesReader {
    longest: usize,
    dimensions: usize,
    standard: Option<(Vec<f64>, Vec<f64>)>,
}

impl Reader for SeriesReader {
    fn read(&self, path: &Path) -> Result<Vec<HostTensor>> {
        let name = path.display().to_string();
        let mut series = Series::open(path)?.padded_to(self.longest, &name)?;
        if series.dimensions != self.dimensions {
            let detail = format!("has {} dimensions, the model takes {}", series.dimensions, self.dimensions);
            return Err(Error::input(name, detail));
        }
        if let Some((mean, std)) = &self.standard {
            series.standardize(mean, std);
        }
        Ok(tensors(&series)?.to_vec())
    }
}

pub(super) fn text(config: &RunConfig, d: &data::Text) -> Result<Task> {
    if config.fold.is_some() {
        return Err(Error::input("train.fold", "a text has no folds: its parts follow one another"));
    }
    let text = match d.path.as_str() {
        "" => embedded::king_james_text()?,
        path => file::text(Path::new(path))?,
    };
    let name = if d.path.is_empty() { "the embedded text" } else { &d.path };
    let chars = Chars::with(&text, d.unit, d.limit)
        .map_err(|_| Error::input(name, "is empty; there is nothing to learn from"))?;
    let n = chars.tokens().len();
    let tests = n - (n as f64 * d.test).round() as usize;
    let fitted = tests - (tests as f64 * d.validation).round() as usize;
    let windows = |from: usize, to: usize, wanted: bool| {
        // A part that is not wanted has no examples, but still knows what they would be like.
        let (from, to) = if wanted { (from, to) } else { (0, fitted) };
        let data = TextWindows::new(chars.tokens().clone(), from, to, d.context)?;
        let indices = if wanted { (0..data.len()).collect() } else { Vec::new() };
        Ok(part(data, indices))
    };
    Ok(Task {
        train: windows(0, fitted, true)?,
        validation: windows(fitted, tests, d.validation > 0.0)?,
        test: windows(tests, n, d.test > 0.0)?,
        output: Output::Char { context: d.context, sample: d.sample, chars },
        reader: None,
        tokens: None,
        train_labels: Vec::new(),
    })
}

pub(super) fn pairs(config: &RunConfig, d: &data::Pairs) -> Result<Task> {
    let pairs = Pairs::open(given(&d.path, "a TSV file")?, d.source, d.target)?;
    let split = divide(config, pairs.texts.len(), d.split, d.test, d.validation, By::default())?;
    let (source, target) = pairs.vocabularies(&split.train, d.unit, d.limit);
    let data = PairTokens::new(&pairs, &source, &target, d.lengths)?;
    let sides = Sides { source, target, lengths: data.lengths() };
    Ok(divided(Arc::new(data), split, Output::Pair { pairs, sides }, None))
}

pub(super) fn graph(config: &RunConfig, d: &data::Graph) -> Result<Task> {
    let edges = Csv::open(given(&d.path, "a CSV file of edges")?, None)?;
    if d.nodes.is_empty() {
        return Err(Error::input("data.nodes", "is missing: the CSV file of the nodes"));
    }
    let table = Csv::open(Path::new(&d.nodes), None)?;
    let name = table.column(&d.name)?;
    let nodes: Vec<String> = (0..table.len()).map(|r| table.text(r, name).to_string()).collect();
    let (names, labels) = table.classes(table.column(&d.target)?)?;
    let by = By { labels: Some(&labels), groups: None };
    let split = divide(config, nodes.len(), d.split, d.test, d.validation, by)?;
    let features = match d.inputs.is_empty() {
        true => None,
        false => {
            let columns = Columns { inputs: &d.inputs, standardize: true, ..Default::default() };
            Some(Encoder::fit(&table, &split.train, &columns)?.encode(&table)?)
        }
    };
    let ends = [edges.column(&d.ends[0])?, edges.column(&d.ends[1])?];
    let graph = Arc::new(Graph::new(&edges, ends, &nodes, labels.clone(), features)?);
    let train_labels = split.train.iter().map(|&i| labels[i]).collect();
    // Each part is one example: the whole graph with the classes of its own nodes.
    let own = |nodes: &[usize]| {
        let indices = if nodes.is_empty() { Vec::new() } else { vec![0] };
        part(GraphPart::new(graph.clone(), nodes), indices)
    };
    Ok(Task {
        train: own(&split.train),
        validation: own(&split.validation),
        test: own(&split.test),
        output: Output::Label { names },
        reader: None,
        tokens: None,
        train_labels,
    })
}
