//! Folders of PNG and JPEG files: one folder per class, named as the class. All pictures are brought to one size and to
//! grey or colour while they are read.

use crate::data::images::Images;
use crate::error::{Error, Result};
use image::imageops::FilterType;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// What pictures become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Height and width.
    pub size: [usize; 2],
    /// 1 for grey, 3 for colour.
    pub channels: usize,
}

/// Images, class names, and for each image its file.
pub struct Pictures {
    /// The images.
    pub images: Images,
    /// Names of the classes, sorted.
    pub names: Vec<String>,
    /// The files, in the order of the images.
    pub files: Vec<PathBuf>,
}

/// Reads all pictures below `dir`, class folders and files in the order of their names. `classes`: the names that there
/// must be (of the training part); empty takes the folders' own. Errors name the file.
pub fn open(dir: &Path, shape: Shape, classes: &[String]) -> Result<Pictures> {
    let folders: Vec<PathBuf> = list(dir)?.into_iter().filter(|p| p.is_dir()).collect();
    let own: Vec<String> = folders.iter().map(|p| base(p)).collect();
    let names = if classes.is_empty() { own.clone() } else { classes.to_vec() };
    if own.is_empty() {
        return Err(Error::input(dir.display(), "has no folders; it needs one per class with PNG or JPEG files in it"));
    }
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (folder, name) in folders.iter().zip(&own) {
        let Some(class) = names.iter().position(|n| n == name) else {
            let detail = format!("the class {name:?} is not one of the training part's: {}", names.join(", "));
            return Err(Error::input(folder.display(), detail));
        };
        let pictures: Vec<PathBuf> = list(folder)?.into_iter().filter(|p| is_picture(p)).collect();
        if pictures.is_empty() {
            return Err(Error::input(folder.display(), "holds no .png, .jpg or .jpeg file"));
        }
        labels.extend(vec![class as i32; pictures.len()]);
        files.extend(pictures);
    }
    let pixels = files.par_iter().map(|f| read(f, shape)).collect::<Result<Vec<Vec<u8>>>>()?.concat();
    let images = Images::from_bytes(pixels, labels, shape.channels, shape.size, names.len());
    Ok(Pictures { images, names, files })
}

/// One picture as bytes [channels, height, width].
pub fn read(path: &Path, shape: Shape) -> Result<Vec<u8>> {
    let bad = |e: String| Error::input(path.display(), format!("cannot read the picture: {e}"));
    let reader = image::ImageReader::open(path).map_err(|e| bad(e.to_string()))?;
    let picture =
        reader.with_guessed_format().map_err(|e| bad(e.to_string()))?.decode().map_err(|e| bad(e.to_string()))?;
    let [h, w] = shape.size;
    let same = (picture.height() as usize, picture.width() as usize) == (h, w);
    let picture = if same { picture } else { picture.resize_exact(w as u32, h as u32, FilterType::Triangle) };
    if shape.channels == 1 {
        return Ok(picture.into_luma8().into_raw());
    }
    let interleaved = picture.into_rgb8().into_raw();
    Ok((0..3).flat_map(|c| interleaved.iter().skip(c).step_by(3).copied()).collect())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::input(dir.display(), format!("cannot list the folder: {e}"));
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort_unstable();
    Ok(paths)
}

fn base(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["png", "jpg", "jpeg"].contains(&extension.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    fn save(path: &Path, size: u32, color: [u8; 3]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(size, size, image::Rgb(color)).save(path).unwrap();
    }

    #[test]
    fn classes_are_folders_and_sizes_are_made_equal() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        save(&d.join("red/a.png"), 4, [255, 0, 0]);
        save(&d.join("blue/b.png"), 8, [0, 0, 255]);
        save(&d.join("blue/c.jpg"), 8, [0, 0, 255]);
        std::fs::write(d.join("blue/notes.txt"), "no picture").unwrap();
        let shape = Shape { size: [4, 4], channels: 3 };
        let p = open(d, shape, &[]).unwrap();
        assert_eq!((p.names.clone(), p.images.labels()), (vec!["blue".into(), "red".into()], &[0, 0, 1][..]));
        let b = p.images.batch(&[0, 2], None).unwrap();
        assert_eq!(b[0].shape.0, [2, 3, 4, 4]);
        let x = b[0].as_f32().unwrap();
        assert_eq!((x[0], x[32], x[48], x[80]), (0.0, 1.0, 1.0, 0.0));
        let grey = open(d, Shape { size: [2, 3], channels: 1 }, &[]).unwrap();
        assert_eq!(grey.images.batch(&[0], None).unwrap()[0].shape.0, [1, 1, 2, 3]);
        std::fs::write(d.join("red/broken.png"), "not a picture").unwrap();
        let m = open(d, shape, &[]).err().unwrap().to_string();
        assert!(m.contains("broken.png") && m.contains("cannot read the picture"), "{m}");
        let m = open(d, shape, &["red".to_string()]).err().unwrap().to_string();
        assert!(m.contains("\"blue\"") && m.contains("red"), "{m}");
    }
}
