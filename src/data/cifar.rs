//! The binary version of CIFAR-10 and CIFAR-100: records of one label byte (CIFAR-100: a coarse and a fine one) and 3,072
//! bytes of a 32x32 image, red, green, blue.

use crate::data::file;
use crate::data::images::Images;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;

/// Which of the two data sets, as its files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ten,
    Hundred,
}

impl Form {
    fn label_bytes(self) -> usize {
        match self {
            Form::Ten => 1,
            Form::Hundred => 2,
        }
    }
    fn classes(self) -> usize {
        match self {
            Form::Ten => 10,
            Form::Hundred => 100,
        }
    }
}

/// Training and test images of the folder `cifar-10-batches-bin` or `cifar-100-binary` as it is distributed. Files may be
/// gzipped. Errors name the file and the record.
pub fn open(dir: &Path) -> Result<[Images; 2]> {
    let find = |stem: &str| ["", ".gz"].map(|gz| dir.join(format!("{stem}.bin{gz}"))).into_iter().find(|p| p.is_file());
    let (form, train, test) = match (find("data_batch_1"), find("train")) {
        (Some(_), _) => {
            let train: Vec<PathBuf> = (1..=5).filter_map(|i| find(&format!("data_batch_{i}"))).collect();
            (Form::Ten, train, find("test_batch"))
        }
        (None, Some(train)) => (Form::Hundred, vec![train], find("test")),
        (None, None) => {
            let what = if dir.is_dir() { "holds neither data_batch_1.bin nor train.bin" } else { "is not a folder" };
            let todo = "point data.path at the folder cifar-10-batches-bin or cifar-100-binary";
            return Err(Error::input(dir.display(), format!("{what}; {todo}")));
        }
    };
    let Some(test) = test else {
        return Err(Error::input(dir.display(), "holds training images, but no test_batch.bin or test.bin"));
    };
    Ok([read(&train, form)?, read(&[test], form)?])
}

fn read(paths: &[PathBuf], form: Form) -> Result<Images> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        append(&file::bytes(path)?, form, &path.display().to_string(), &mut pixels, &mut labels)?;
    }
    Ok(Images::from_bytes(pixels, labels, 3, [SIDE; 2], form.classes()))
}

/// Appends the records of a file that errors call `name`.
fn append(bytes: &[u8], form: Form, name: &str, pixels: &mut Vec<u8>, labels: &mut Vec<i32>) -> Result<()> {
    let record = form.label_bytes() + IMAGE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let detail = format!("truncated or another format: {} bytes are no whole records of {record}", bytes.len());
        return Err(Error::input(name, detail));
    }
    for (i, r) in bytes.chunks_exact(record).enumerate() {
        let label = r[form.label_bytes() - 1];
        if usize::from(label) >= form.classes() {
            let detail = format!("record {i} has label {label}, but there are {} classes", form.classes());
            return Err(Error::input(name, detail));
        }
        labels.push(label.into());
        pixels.extend_from_slice(&r[form.label_bytes()..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    fn records(labels: &[u8], extra: &[u8]) -> Vec<u8> {
        labels.iter().flat_map(|&l| [extra, &[l], &[l; IMAGE]].concat()).collect()
    }

    #[test]
    fn both_forms_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        assert!(open(d).unwrap_err().to_string().contains("cifar-10-batches-bin"));
        for i in 1..=2 {
            std::fs::write(d.join(format!("data_batch_{i}.bin")), records(&[i, 9], &[])).unwrap();
        }
        std::fs::write(d.join("test_batch.bin"), records(&[3], &[])).unwrap();
        let [train, test] = open(d).unwrap();
        assert_eq!((train.labels(), test.labels(), train.classes()), (&[1, 9, 2, 9][..], &[3][..], 10));
        let b = train.batch(&[2], None).unwrap();
        assert_eq!(b[0].shape.0, [1, 3, 32, 32]);
        assert_eq!(b[0].as_f32().unwrap()[3071], 2.0 / 255.0);
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        std::fs::write(d.join("train.bin"), records(&[42, 99], &[7])).unwrap();
        std::fs::write(d.join("test.bin"), records(&[0], &[7])).unwrap();
        assert_eq!(open(d).unwrap()[0].labels(), [42, 99]);
        std::fs::write(d.join("test.bin"), records(&[100], &[7])).unwrap();
        assert!(open(d).unwrap_err().to_string().contains("record 0 has label 100"));
        std::fs::write(d.join("test.bin"), [0; 5000]).unwrap();
        assert!(open(d).unwrap_err().to_string().contains("test.bin: truncated"));
    }
}
