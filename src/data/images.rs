//! Labelled images in memory as bytes: the digits and the MNIST family, CIFAR, folders of pictures. Batches are f32
//! [n, channels, height, width] with values in 0 to 1; training batches may be shifted by a few pixels.

use crate::data::dataset::{Dataset, Draw, Field};
use crate::data::idx::Idx;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::{Rng, stream_id};
use crate::tensor::HostTensor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Random changes of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augment {
    /// Shift by up to this many pixels in each direction; what moves in is zero.
    pub shift: usize,
}

/// Labelled images. Clones share them.
#[derive(Debug, Clone)]
pub struct Images {
    pixels: Arc<Vec<u8>>,
    labels: Arc<Vec<i32>>,
    channels: usize,
    size: [usize; 2],
    classes: usize,
    scale: f32,
    augment: Augment,
}

impl Images {
    /// Images `[n, height, width]` and labels `[n]` below `classes`. A pixel of `white` becomes 1. Errors name the data `name`.
    pub fn from_idx(images: Idx, labels: Idx, classes: usize, white: f32, name: &str) -> Result<Images> {
        let &[n, height, width] = &images.dims[..] else {
            let detail = format!("images must have 3 dimensions [count, height, width], these have {:?}", images.dims);
            return Err(Error::input(name, detail));
        };
        if labels.dims != [n] {
            return Err(Error::input(name, format!("{n} images, but labels of dimensions {:?}", labels.dims)));
        }
        if let Some(i) = labels.data.iter().position(|&l| l as usize >= classes) {
            let detail =
                format!("label {} of example {i} is out of range: there are {classes} classes", labels.data[i]);
            return Err(Error::input(name, detail));
        }
        Ok(Images {
            pixels: Arc::new(images.data),
            labels: Arc::new(labels.data.into_iter().map(i32::from).collect()),
            channels: 1,
            size: [height, width],
            classes,
            scale: 1.0 / white,
            augment: Augment::default(),
        })
    }

    /// Images of bytes in the order [n, channels, height, width] with labels below `classes`, which the caller has checked.
    pub(crate) fn from_bytes(
        pixels: Vec<u8>,
        labels: Vec<i32>,
        channels: usize,
        size: [usize; 2],
        classes: usize,
    ) -> Images {
        let (pixels, labels) = (Arc::new(pixels), Arc::new(labels));
        Images { pixels, labels, channels, size, classes, scale: 1.0 / 255.0, augment: Augment::default() }
    }

    /// The training (`train`) or test part of MNIST or a data set with its file names, from a folder.
    pub fn from_folder(dir: &Path, part: MnistPart, classes: usize) -> Result<Images> {
        let stem = match part {
            MnistPart::Train => "train",
            MnistPart::Test => "t10k",
        };
        let (images, labels) = (find(dir, &format!("{stem}-images"), 3)?, find(dir, &format!("{stem}-labels"), 1)?);
        Images::from_idx(Idx::open(&images)?, Idx::open(&labels)?, classes, 255.0, &images.display().to_string())
    }

    /// The same images, with training batches changed at random.
    pub fn augmented(self, augment: Augment) -> Images {
        Images { augment, ..self }
    }

    /// Number of channels: 1 for grey, 3 for colour.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All labels.
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of an example.
    pub fn label(&self, index: usize) -> Option<i32> {
        self.labels.get(index).copied()
    }

    /// Appends one image, moved by (down, right) pixels.
    fn push(&self, out: &mut Vec<f32>, index: usize, down: isize, right: isize) {
        let [h, w] = self.size;
        let n = self.channels * h * w;
        for plane in self.pixels[index * n..(index + 1) * n].chunks_exact(h * w) {
            for y in 0..h as isize {
                for x in 0..w as isize {
                    let (sy, sx) = (y - down, x - right);
                    let inside = (0..h as isize).contains(&sy) && (0..w as isize).contains(&sx);
                    out.push(if inside { plane[sy as usize * w + sx as usize] as f32 * self.scale } else { 0.0 });
                }
            }
        }
    }
}

/// Which of the two parts of an MNIST-like data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MnistPart {
    /// Files `train-*`.
    Train,
    /// Files `t10k-*`.
    Test,
}

/// The file of this stem under any of the names in use: `-` or `.` before `idx`, gzipped or not.
fn find(dir: &Path, stem: &str, rank: usize) -> Result<PathBuf> {
    let names: Vec<String> =
        ["-", "."].iter().flat_map(|sep| ["", ".gz"].map(|gz| format!("{stem}{sep}idx{rank}-ubyte{gz}"))).collect();
    names.iter().map(|n| dir.join(n)).find(|p| p.is_file()).ok_or_else(|| {
        let detail = if dir.is_dir() {
            format!("holds no file {} (or {})", names[0], names[1])
        } else {
            "is not a folder".to_string()
        };
        let todo = "point --data (or data.path) at a folder with the four IDX files of MNIST or Fashion-MNIST";
        Error::input(dir.display(), format!("{detail}; {todo}"))
    })
}

impl Dataset for Images {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn fields(&self) -> Vec<Field> {
        let [h, w] = self.size;
        vec![Field::new("image", DType::F32, [self.channels, h, w]), Field::new("label", DType::I32, [])]
    }
    fn batch(&self, indices: &[usize], draw: Option<Draw>) -> Result<Vec<HostTensor>> {
        if let Some(bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::input("data set", format!("example {bad} does not exist, there are {}", self.len())));
        }
        let [h, w] = self.size;
        let reach = self.augment.shift;
        let mut out = Vec::with_capacity(indices.len() * self.channels * h * w);
        for &i in indices {
            let (down, right) = match draw {
                Some(d) if reach > 0 => {
                    // Keyed by the example, so that its shift depends neither on the batch nor on its neighbours.
                    let key = d.seed ^ (d.epoch << 32 | i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    let mut rng = Rng::new(key, stream_id("data/shift"));
                    let mut draw = || rng.below(2 * reach + 1) as isize - reach as isize;
                    (draw(), draw())
                }
                _ => (0, 0),
            };
            self.push(&mut out, i, down, right);
        }
        let labels = indices.iter().map(|&i| self.labels[i]).collect();
        Ok(vec![HostTensor::f32([indices.len(), self.channels, h, w], out)?, HostTensor::i32([indices.len()], labels)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Images {
        let images = Idx { dims: vec![2, 2, 2], data: vec![1, 2, 3, 4, 5, 6, 7, 8] };
        Images::from_idx(images, Idx { dims: vec![2], data: vec![0, 1] }, 2, 1.0, "tiny").unwrap()
    }

    #[test]
    fn shifts_move_zeros_in_and_depend_on_the_draw_alone() {
        let set = tiny();
        let mut out = Vec::new();
        set.push(&mut out, 0, 1, -1);
        assert_eq!(out, [0.0, 0.0, 2.0, 0.0]);
        let set = set.augmented(Augment { shift: 1 });
        let plain = set.batch(&[0, 1], None).unwrap();
        assert_eq!(plain[0].as_f32().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let of = |indices: &[usize], epoch| {
            set.batch(indices, Some(Draw { seed: 1, epoch, shuffled: true })).unwrap()[0].clone()
        };
        assert_eq!(of(&[0, 1], 3).as_f32().unwrap()[4..], *of(&[1], 3).as_f32().unwrap());
        assert!((0..20).any(|e| of(&[0], e) != of(&[0], e + 1)));
    }

    #[test]
    fn misfits_are_refused() {
        let images = || Idx { dims: vec![2, 2, 2], data: vec![0; 8] };
        let labels = |data: Vec<u8>| Idx { dims: vec![data.len()], data };
        let message = |l| Images::from_idx(images(), l, 2, 1.0, "file").unwrap_err().to_string();
        assert!(message(labels(vec![0, 2])).contains("label 2 of example 1 is out of range"));
        assert!(message(labels(vec![0])).contains("2 images, but labels of dimensions [1]"));
    }

    #[test]
    fn a_folder_without_the_files_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let e = Images::from_folder(dir.path(), MnistPart::Train, 10).unwrap_err().to_string();
        assert!(e.contains("train-images-idx3-ubyte") && e.contains("--data"), "{e}");
    }
}
