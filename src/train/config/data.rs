//! The section `[data]`: where the examples come from, and how they are divided.

use super::section::{Documented, Keys, section};
use crate::data::Unit;
use serde::{Deserialize, Serialize};

/// How examples are assigned to the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// At random, from the seed.
    #[default]
    Random,
    /// At random, each class in the same proportion in every part.
    Stratified,
    /// By position: the last examples are the test part, those before them the validation part.
    Ordered,
}

/// What every kind of data says: which part of the examples is kept for what.
pub trait Shares {
    /// Shares of the test part (of all examples) and of the validation part (of the rest).
    fn shares(&self) -> (f64, f64);
}

/// A section with the keys of a division at its end: `test`, `validation` and `split`.
macro_rules! divided {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* } test = $test:literal, split = $split:ident) => {
        section!(
            $(#[$doc])*
            $name {
                $($fields)*
                /// Share of the examples that is kept for the end.
                test: f64 = $test,
                /// Share of the rest that choices are made on.
                validation: f64 = 0.0,
                /// How the parts are drawn: `random`, `stratified` (each class evenly), or `ordered` (the last are the test part).
                split: SplitKind = SplitKind::$split,
            }
        );
        impl Shares for $name {
            fn shares(&self) -> (f64, f64) {
                (self.test, self.validation)
            }
        }
    };
}

/// The kinds of data: their names in a configuration, and their sections.
macro_rules! kinds {
    ($( $(#[$doc:meta])* $kind:literal $name:ident($section:ident), )*) => {
        /// Where the examples come from.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum DataConfig {
            $( $(#[$doc])* #[serde(rename = $kind)] $name($section), )*
        }

        impl DataConfig {
            /// Shares of the test and of the validation part.
            pub fn shares(&self) -> (f64, f64) {
                match self { $( DataConfig::$name(d) => d.shares(), )* }
            }

            /// Name in a configuration.
            pub fn kind(&self) -> &'static str {
                match self { $( DataConfig::$name(_) => $kind, )* }
            }

            /// Each kind with its keys and their meanings.
            pub fn kinds() -> Vec<(&'static str, Keys)> {
                vec![ $( ($kind, $section::KEYS), )* ]
            }
        }
    };
}

kinds! {
    /// The embedded 8x8 digits.
    "digits" Digits(Digits),
    /// A folder with the four IDX files of MNIST, Fashion-MNIST or another data set of that form.
    "mnist" Mnist(Mnist),
    /// A folder with the binary files of CIFAR-10 or CIFAR-100.
    "cifar" Cifar(Cifar),
    /// A folder with one folder of PNG or JPEG files per class.
    "images" Images(Pictures),
    /// A CSV or TSV file with a header.
    "table" Table(Table),
    /// A file of labelled time series in the `.ts` format.
    "series" Series(Series),
    /// Two `.npy` files: inputs and targets.
    "npy" Npy(Npy),
    /// A text: the end of it is the test part, before that comes the validation part.
    "text" Text(Text),
    /// A TSV file of sentences and their translations.
    "pairs" Pairs(Pairs),
    /// One graph with classes of its nodes: a table of edges and one of nodes.
    "graph" Graph(Graph),
}

divided!(
    /// The embedded 8x8 digits.
    Digits {
        /// Training images are moved by up to so many pixels.
        shift: usize = 0,
    } test = 0.2, split = Random
);

section!(
    /// IDX files.
    Mnist {
        /// The folder; empty means that it must be given with --data.
        path: String = String::new(),
        /// Share of the training part that choices are made on.
        validation: f64 = 0.0,
        /// How the validation part is drawn.
        split: SplitKind = SplitKind::Random,
        /// Training images are moved by up to so many pixels.
        shift: usize = 0,
        /// Number of classes.
        classes: usize = 10,
    }
);

section!(
    /// CIFAR.
    Cifar {
        /// The folder `cifar-10-batches-bin` or `cifar-100-binary`.
        path: String = String::new(),
        /// Share of the training part that choices are made on.
        validation: f64 = 0.0,
        /// How the validation part is drawn.
        split: SplitKind = SplitKind::Random,
    }
);

divided!(
    /// Pictures in folders.
    Pictures {
        /// The folder with one folder per class.
        path: String = String::new(),
        /// A folder of the same form with the test part; empty: `test` of the pictures of `path`.
        test_path: String = String::new(),
        /// A folder of the same form with the validation part; empty: `validation` of the rest.
        validation_path: String = String::new(),
        /// Height and width to which pictures are resized.
        size: [usize; 2] = [32, 32],
        /// Colour (3 channels) or grey (1).
        color: bool = true,
    } test = 0.2, split = Stratified
);

divided!(
    /// A table.
    Table {
        /// The CSV or TSV file.
        path: String = String::new(),
        /// A file with the same columns that is the test part; empty: `test` of the rows of `path`.
        test_path: String = String::new(),
        /// A file with the same columns that is the validation part; empty: `validation` of the rest.
        validation_path: String = String::new(),
        /// The column to predict: classes, unless `task` says numbers. Several columns for several numbers.
        target: Vec<String> = Vec::new(),
        /// Whether the target is a class or a number.
        task: TableTask = TableTask::Classes,
        /// Columns that are inputs; empty: all but the target, the group and those of `skip`.
        inputs: Vec<String> = Vec::new(),
        /// Columns that are left out.
        skip: Vec<String> = Vec::new(),
        /// Columns that are categories though they hold numbers.
        categorical: Vec<String> = Vec::new(),
        /// A column whose equal values stay in one part; empty: none.
        group: String = String::new(),
        /// Whether numbers are standardised by mean and deviation of the training part.
        standardize: bool = true,
        /// What separates the cells; empty: found from the header.
        delimiter: String = String::new(),
    } test = 0.2, split = Random
);

/// What the target of a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableTask {
    /// One of several classes.
    #[default]
    Classes,
    /// One or several numbers.
    Numbers,
}

divided!(
    /// Time series.
    Series {
        /// The `.ts` file.
        path: String = String::new(),
        /// A `.ts` file with the test part; empty: `test` of the series of `path`.
        test_path: String = String::new(),
        /// Whether each dimension is standardised by mean and deviation of the training part.
        standardize: bool = true,
    } test = 0.2, split = Stratified
);

divided!(
    /// Arrays.
    Npy {
        /// The inputs, an array (n, ..).
        path: String = String::new(),
        /// The targets: classes (n), or numbers (n, ..).
        targets: String = String::new(),
        /// Number of classes; 0: the targets are numbers.
        classes: usize = 0,
    } test = 0.2, split = Random
);

section!(
    /// A text.
    Text {
        /// A UTF-8 file; empty means the embedded King James text.
        path: String = String::new(),
        /// What a token is: `chars`, `bytes` or `words`.
        unit: Unit = Unit::Chars,
        /// Keeps so many of the most frequent tokens, the others become an unknown one; 0 keeps all.
        limit: usize = 0,
        /// Tokens that the model sees at once.
        context: usize = 128,
        /// Share of the text that is kept for the end.
        test: f64 = 0.1,
        /// Share of the rest that choices are made on.
        validation: f64 = 0.0,
        /// Tokens of each sample that is printed at the end; 0 for none.
        sample: usize = 0,
    }
);

divided!(
    /// Parallel text.
    Pairs {
        /// The TSV file, without header.
        path: String = String::new(),
        /// Column of the sentences, counted from 1.
        source: usize = 1,
        /// Column of the translations, counted from 1.
        target: usize = 2,
        /// What a token is: `chars`, `bytes` or `words`.
        unit: Unit = Unit::Chars,
        /// Keeps so many of the most frequent tokens of each side, the others become an unknown one; 0 keeps all.
        limit: usize = 0,
        /// Tokens of the longest sentence and translation with their ends, longer ones are cut; 0: the longest there is.
        lengths: [usize; 2] = [0, 0],
    } test = 0.1, split = Random
);

divided!(
    /// A graph.
    Graph {
        /// The CSV file of the edges, which go both ways.
        path: String = String::new(),
        /// Its two columns with the nodes at the ends.
        ends: [String; 2] = ["u".into(), "v".into()],
        /// The CSV file of the nodes.
        nodes: String = String::new(),
        /// Its column with the names that the edges use.
        name: String = "node".into(),
        /// Its column with the classes.
        target: String = "label".into(),
        /// Its columns that are features; empty: each node is told apart by a number of its own.
        inputs: Vec<String> = Vec::new(),
    } test = 0.2, split = Stratified
);

impl Shares for Mnist {
    fn shares(&self) -> (f64, f64) {
        (0.0, self.validation)
    }
}

impl Shares for Cifar {
    fn shares(&self) -> (f64, f64) {
        (0.0, self.validation)
    }
}

impl Shares for Text {
    fn shares(&self) -> (f64, f64) {
        (self.test, self.validation)
    }
}
