//! Transposed copies, by tiles: a matrix whose rows are a power of two apart shares few lines of the caches, so each line
//! is read once and used whole.

use super::simd::simd_fn;

/// Rows and columns of a tile.
const TILE: usize = 8;

#[inline(always)]
fn pairs(a: [f32; 8], b: [f32; 8]) -> [[f32; 8]; 2] {
    [[a[0], b[0], a[1], b[1], a[4], b[4], a[5], b[5]], [a[2], b[2], a[3], b[3], a[6], b[6], a[7], b[7]]]
}

#[inline(always)]
fn fours(a: [f32; 8], b: [f32; 8]) -> [[f32; 8]; 2] {
    [[a[0], a[1], b[0], b[1], a[4], a[5], b[4], b[5]], [a[2], a[3], b[2], b[3], a[6], a[7], b[6], b[7]]]
}

#[inline(always)]
fn halves(a: [f32; 8], b: [f32; 8]) -> [[f32; 8]; 2] {
    [[a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]], [a[4], a[5], a[6], a[7], b[4], b[5], b[6], b[7]]]
}

/// The columns of a tile as rows.
#[inline(always)]
fn turned(x: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let [[a0, a1], [b0, b1]] = [pairs(x[0], x[1]), pairs(x[2], x[3])];
    let [[c0, c1], [d0, d1]] = [pairs(x[4], x[5]), pairs(x[6], x[7])];
    let ([e0, e1], [e2, e3]) = (fours(a0, b0), fours(a1, b1));
    let ([f0, f1], [f2, f3]) = (fours(c0, d0), fours(c1, d1));
    let [[y0, y4], [y1, y5]] = [halves(e0, f0), halves(e1, f1)];
    let [[y2, y6], [y3, y7]] = [halves(e2, f2), halves(e3, f3)];
    [y0, y1, y2, y3, y4, y5, y6, y7]
}

simd_fn! {
    /// `to[j * step + i]` = `from[i * stride + j]` for i below `rows` and j below `columns`.
    pub(super) fn turn(from: &[f32], stride: usize, rows: usize, columns: usize, to: &mut [f32], step: usize) {
        let (high, wide) = (rows / TILE * TILE, columns / TILE * TILE);
        let mut i = 0;
        while i < high {
            let mut j = 0;
            while j < wide {
                let mut tile = [[0f32; TILE]; TILE];
                for (r, row) in tile.iter_mut().enumerate() {
                    let at = (i + r) * stride + j;
                    row.copy_from_slice(&from[at..at + TILE]);
                }
                for (c, row) in turned(tile).iter().enumerate() {
                    let at = (j + c) * step + i;
                    to[at..at + TILE].copy_from_slice(row);
                }
                j += TILE;
            }
            i += TILE;
        }
        for i in 0..rows {
            for j in (if i < high { wide } else { 0 })..columns {
                to[j * step + i] = from[i * stride + j];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows() {
        for (rows, columns, stride, step) in
            [(1, 1, 1, 1), (8, 8, 8, 8), (19, 35, 40, 21), (7, 64, 64, 7), (64, 5, 9, 70)]
        {
            let from: Vec<f32> = (0..rows * stride).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * step];
            turn(&from, stride, rows, columns, &mut to, step);
            for (at, &v) in to.iter().enumerate() {
                let (j, i) = (at / step, at % step);
                assert_eq!(v, if i < rows { from[i * stride + j] } else { -1.0 });
            }
        }
    }
}
