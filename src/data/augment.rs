//! Random changes of training examples (augmentation) around any data set. Every draw is keyed by seed, epoch and example,
//! so that an example changes in the same way whatever batch it is in, and a resumed run sees the same changes.

use crate::data::dataset::{Dataset, Draw, Field};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::{Rng, stream_id};
use crate::tensor::{Data, HostTensor};
use crate::train::config::AugmentConfig;
use std::sync::Arc;

/// A data set whose batches are changed at random where a draw is given. The first field is what changes; if mixing is on,
/// the last field, a class, becomes shares of all classes, f32 (classes).
pub struct Augmented {
    inner: Arc<dyn Dataset>,
    how: AugmentConfig,
    part: Vec<usize>,
    classes: usize,
}

impl Augmented {
    /// Changes examples of `inner`; those of `part` are mixed with one another. Errors if the data are not what the
    /// changes are for.
    pub fn new(inner: Arc<dyn Dataset>, how: AugmentConfig, part: &[usize], classes: usize) -> Result<Augmented> {
        let fields = inner.fields();
        let bad = |key: &str, what: &str| Err(Error::input(format!("augment.{key}"), what.to_string()));
        let is_float = fields.first().is_some_and(|f| f.dtype == DType::F32);
        if is_spatial(&how) && !(is_float && fields.first().is_some_and(|f| f.shape.len() == 3)) {
            return bad("", "flips, crop, shift, rotate, scale and cutout are for images; this data set has none");
        }
        if (how.noise > 0.0 || how.mixup > 0.0) && !is_float {
            return bad("noise", "noise and mixup are for numbers; the inputs of this data set are tokens");
        }
        let one_class = fields.last().is_some_and(|f| f.dtype == DType::I32 && f.shape.is_empty());
        if how.mixup > 0.0 && (!one_class || part.is_empty()) {
            return bad("mixup", "mixup is for examples with one class each");
        }
        Ok(Augmented { inner, how, part: part.to_vec(), classes })
    }

    /// The first field of one example, changed by its own draw.
    fn changed(&self, index: usize, draw: Draw) -> Result<Vec<f32>> {
        let batch = self.inner.batch(&[index], Some(draw))?;
        let mut x = batch[0].as_f32()?.to_vec();
        let mut rng = keyed(draw, index, "data/augment");
        if is_spatial(&self.how)
            && let [_, _, h, w] = batch[0].shape[..]
        {
            x = spatial(&self.how, &x, [h, w], &mut rng);
        }
        if self.how.noise > 0.0 {
            x.iter_mut().for_each(|v| *v += (self.how.noise * rng.normal()) as f32);
        }
        Ok(x)
    }
}

/// Random numbers of one example in one epoch.
fn keyed(draw: Draw, index: usize, stream: &str) -> Rng {
    let key = draw.seed ^ (draw.epoch << 32 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Rng::new(key, stream_id(stream))
}

/// True if images are changed as images.
fn is_spatial(a: &AugmentConfig) -> bool {
    let reals = [a.flip_horizontal, a.flip_vertical, a.shift, a.rotate, a.scale];
    reals.iter().any(|x| *x > 0.0) || a.crop > 0 || a.cutout > 0
}

/// Planes of one image, moved by one draw and cut out. What comes from outside is zero; places between pixels are
/// interpolated linearly.
fn spatial(a: &AugmentConfig, planes: &[f32], [h, w]: [usize; 2], rng: &mut Rng) -> Vec<f32> {
    // All draws are made, whatever is on: a changed setting does not move the others.
    let flip = [a.flip_vertical, a.flip_horizontal].map(|p| rng.uniform_f64() < p);
    let crop = [0, 1].map(|_| rng.below(2 * a.crop + 1) as f64 - a.crop as f64);
    let shift = [h, w].map(|n| rng.range(-1.0, 1.0) * a.shift * n as f64);
    let angle = (rng.range(-1.0, 1.0) * a.rotate).to_radians();
    let zoom = 1.0 + rng.range(-1.0, 1.0) * a.scale;
    let hole = [h, w].map(|n| rng.below(n) as isize);
    let (sin, cos) = angle.sin_cos();
    let center = [(h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0];
    let half = a.cutout as isize;
    let mut out = Vec::with_capacity(planes.len());
    for plane in planes.chunks_exact(h * w) {
        for y in 0..h {
            for x in 0..w {
                let inside = |at: usize, mid: isize| (2 * (at as isize - mid)).abs() < half;
                if a.cutout > 0 && inside(y, hole[0]) && inside(x, hole[1]) {
                    out.push(0.0);
                    continue;
                }
                // Backwards: where in the old image this place came from.
                let dy = y as f64 - center[0] - shift[0] - crop[0];
                let dx = x as f64 - center[1] - shift[1] - crop[1];
                let (ry, rx) = ((cos * dy - sin * dx) / zoom, (sin * dy + cos * dx) / zoom);
                let turned = [if flip[0] { -ry } else { ry }, if flip[1] { -rx } else { rx }];
                out.push(at(plane, [h, w], [turned[0] + center[0], turned[1] + center[1]]));
            }
        }
    }
    out
}

/// The value of a plane at a place, linear between pixels, zero outside.
fn at(plane: &[f32], [h, w]: [usize; 2], [y, x]: [f64; 2]) -> f32 {
    let (y0, x0) = (y.floor(), x.floor());
    let (fy, fx) = ((y - y0) as f32, (x - x0) as f32);
    let pixel = |y: f64, x: f64| match y >= 0.0 && x >= 0.0 && y < h as f64 && x < w as f64 {
        true => plane[y as usize * w + x as usize],
        false => 0.0,
    };
    let row = |y: f64| match fx {
        0.0 => pixel(y, x0),
        _ => pixel(y, x0) * (1.0 - fx) + pixel(y, x0 + 1.0) * fx,
    };
    match fy {
        0.0 => row(y0),
        _ => row(y0) * (1.0 - fy) + row(y0 + 1.0) * fy,
    }
}

/// A draw from Beta(a, a), as the share of one of two draws from Gamma(a).
fn beta(a: f64, rng: &mut Rng) -> f64 {
    let (x, y) = (gamma(a, rng), gamma(a, rng));
    // For tiny a both may underflow: then one of the ends, evenly.
    if x + y > 0.0 { x / (x + y) } else { f64::from(rng.below(2) as u32) }
}

/// A draw from Gamma(a, 1): Marsaglia and Tsang, "A simple method for generating gamma variables" (2000).
fn gamma(a: f64, rng: &mut Rng) -> f64 {
    if a < 1.0 {
        let u = 1.0 - rng.uniform_f64();
        return gamma(a + 1.0, rng) * u.powf(1.0 / a);
    }
    let d = a - 1.0 / 3.0;
    loop {
        let x = rng.normal();
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        let u = 1.0 - rng.uniform_f64();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

impl Dataset for Augmented {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn fields(&self) -> Vec<Field> {
        let mut fields = self.inner.fields();
        if self.how.mixup > 0.0
            && let Some(last) = fields.last_mut()
        {
            *last = Field::new(last.name.clone(), DType::F32, [self.classes]);
        }
        fields
    }
    fn batch(&self, indices: &[usize], draw: Option<Draw>) -> Result<Vec<HostTensor>> {
        let mut tensors = self.inner.batch(indices, draw)?;
        let mut shares = vec![0.0; if self.how.mixup > 0.0 { indices.len() * self.classes } else { 0 }];
        let mut add = |row: usize, index: usize, share: f64| -> Result<()> {
            let label = self.inner.batch(&[index], None)?.pop();
            let class = label.as_ref().map_or(Ok(0), |t| t.as_i32().map(|c| c[0]))?;
            shares[row * self.classes + class as usize] += share as f32;
            Ok(())
        };
        let mut all = Vec::new();
        for (row, &i) in indices.iter().enumerate() {
            let Some(draw) = draw else {
                if self.how.mixup > 0.0 {
                    add(row, i, 1.0)?;
                }
                continue;
            };
            let mut x = self.changed(i, draw)?;
            if self.how.mixup > 0.0 {
                let mut rng = keyed(draw, i, "data/mixup");
                let other = self.part[rng.below(self.part.len())];
                let share = beta(self.how.mixup, &mut rng);
                let mixed = |(a, b): (&f32, &f32)| (share * f64::from(*a) + (1.0 - share) * f64::from(*b)) as f32;
                x = x.iter().zip(&self.changed(other, draw)?).map(mixed).collect();
                add(row, i, share)?;
                add(row, other, 1.0 - share)?;
            }
            all.extend(x);
        }
        if draw.is_some() {
            tensors[0] = HostTensor::new(tensors[0].shape.clone(), Data::F32(all))?;
        }
        if self.how.mixup > 0.0
            && let Some(last) = tensors.last_mut()
        {
            *last = HostTensor::f32([indices.len(), self.classes], shares)?;
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Arrays;

    fn images() -> Arc<dyn Dataset> {
        let x = HostTensor::f32([6, 1, 4, 4], (0..96).map(|i| i as f32 + 1.0).collect()).unwrap();
        let y = HostTensor::i32([6], vec![0, 1, 2, 0, 1, 2]).unwrap();
        Arc::new(Arrays::new(vec![("x", x), ("y", y)]).unwrap())
    }

    fn with(how: AugmentConfig) -> Augmented {
        Augmented::new(images(), how, &[0, 1, 2, 3, 4, 5], 3).unwrap()
    }

    fn x(set: &dyn Dataset, indices: &[usize], epoch: u64) -> Vec<f32> {
        set.batch(indices, Some(Draw { seed: 7, epoch, shuffled: true })).unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn flips_and_crops_move_pixels_exactly() {
        let plain: Vec<f32> = (1..=16).map(|i| i as f32).collect();
        let set = with(AugmentConfig { flip_horizontal: 1.0, ..Default::default() });
        let mirrored: Vec<f32> = plain.chunks(4).flat_map(|r| r.iter().rev().copied()).collect();
        assert_eq!(x(&set, &[0], 0), mirrored);
        let set = with(AugmentConfig { flip_vertical: 1.0, ..Default::default() });
        assert_eq!(x(&set, &[0], 0), plain.chunks(4).rev().flatten().copied().collect::<Vec<_>>());
        let set = with(AugmentConfig { crop: 1, ..Default::default() });
        for epoch in 0..20 {
            // Each pixel is an old one or zero, and neighbours stay neighbours.
            let got = x(&set, &[0], epoch);
            assert!(got.iter().all(|v| *v == 0.0 || plain.contains(v)), "{got:?}");
            assert!(got.windows(2).filter(|p| p[0] != 0.0 && p[1] != 0.0).all(|p| p[1] - p[0] == 1.0 || p[1] > p[0]));
        }
        assert_eq!(set.batch(&[0], None).unwrap()[0].as_f32().unwrap(), plain);
    }

    #[test]
    fn rotation_keeps_the_middle_and_cutout_cuts() {
        let mut rng = Rng::named(0, "test");
        let quarter = |planes: &[f32], rng: &mut Rng| {
            spatial(&AugmentConfig { rotate: 30.0, ..Default::default() }, planes, [5, 5], rng)
        };
        let mut dot = vec![0.0; 25];
        dot[12] = 1.0;
        let turned = quarter(&dot, &mut rng);
        assert!((turned[12] - 1.0).abs() < 1e-6, "{turned:?}");
        let set = with(AugmentConfig { cutout: 3, ..Default::default() });
        let zeros = x(&set, &[0], 0).iter().filter(|v| **v == 0.0).count();
        assert!((4..=9).contains(&zeros), "{zeros}");
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_example_alone() {
        let how = AugmentConfig { shift: 0.3, rotate: 20.0, scale: 0.2, noise: 0.1, mixup: 0.4, ..Default::default() };
        let set = with(how);
        assert_eq!(x(&set, &[0, 1, 2], 3)[32..], x(&set, &[2], 3));
        assert_ne!(x(&set, &[2], 3), x(&set, &[2], 4));
    }

    #[test]
    fn mixed_targets_are_shares() {
        let set = with(AugmentConfig { mixup: 0.5, ..Default::default() });
        assert_eq!(set.fields()[1], Field::new("y", DType::F32, [3]));
        let b = set.batch(&[0, 1, 2, 3], Some(Draw { seed: 1, epoch: 2, shuffled: true })).unwrap();
        for (row, label) in b[1].as_f32().unwrap().chunks(3).zip([0, 1, 2, 0]) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6 && row[label] > 0.0, "{row:?}");
        }
        let plain = set.batch(&[1], None).unwrap();
        assert_eq!(plain[1].as_f32().unwrap(), [0.0, 1.0, 0.0]);
        let mut rng = Rng::named(3, "beta");
        let draws: Vec<f64> = (0..4000).map(|_| beta(0.5, &mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        let var = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 4000.0;
        // Beta(1/2, 1/2) has mean 1/2 and variance 1/8; five deviations of 4,000 draws.
        assert!((mean - 0.5).abs() < 0.028 && (var - 0.125).abs() < 0.01, "{mean} {var}");
    }

    #[test]
    fn changes_that_do_not_fit_are_refused() {
        let x = HostTensor::f32([2, 3], vec![0.0; 6]).unwrap();
        let y = HostTensor::f32([2, 1], vec![0.0; 2]).unwrap();
        let table: Arc<dyn Dataset> = Arc::new(Arrays::new(vec![("x", x), ("y", y)]).unwrap());
        let refused = |how| Augmented::new(table.clone(), how, &[0], 1).err().unwrap().to_string();
        assert!(refused(AugmentConfig { crop: 1, ..Default::default() }).contains("images"));
        assert!(refused(AugmentConfig { mixup: 1.0, ..Default::default() }).contains("one class"));
    }
}
