//! `KernelCall`: one dispatch as plain data. What kernel selection returns and the recorder turns into device objects.

use bytemuck::Pod;
use std::sync::Arc;

/// What is bound at one binding of group 0. Bindings are numbered 0, 1, .. in the order of [`KernelCall::bindings`];
/// the uniform `Params` follow at the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bind {
    /// The buffer of this argument, `var<storage, read>`.
    Arg(usize),
    /// The buffer of this result, `var<storage, read_write>`.
    Out(usize),
    /// The one buffer of argument `.0` and result `.1`, `var<storage, read_write>`.
    InPlace(usize, usize),
    /// Space that the calls of one region share and nobody else sees.
    Scratch {
        /// Which one, among those of the region.
        id: usize,
        /// Its size; the calls of a region agree on it.
        bytes: u64,
        /// `read_write` if true, else `read`.
        write: bool,
    },
    /// Space as [`Bind::Scratch`], but a storage texture of [`IMAGE_WIDTH`] texels a row, four f32 each, for kernels that read more
    /// than they compute: some adapters read a texel in a fraction of the time that a vec4 of a buffer takes.
    Image {
        /// Which one, among those of the region.
        id: usize,
        /// How many texels at least; the recorder takes the largest of all regions.
        texels: u64,
        /// `write` if true, else `read`.
        write: bool,
    },
    /// The device's status record (`common/status.wgsl`), `var<storage, read_write>`.
    Status,
}

impl Bind {
    /// True if the binding is `read_write`.
    pub fn writes(&self) -> bool {
        match self {
            Bind::Arg(_) | Bind::Scratch { write: false, .. } | Bind::Image { write: false, .. } => false,
            Bind::Out(_) | Bind::InPlace(..) | Bind::Scratch { .. } | Bind::Image { .. } | Bind::Status => true,
        }
    }
}

/// Texels in a row of a [`Bind::Image`]; texel i lies at (i % IMAGE_WIDTH, i / IMAGE_WIDTH).
pub const IMAGE_WIDTH: u32 = 2048;

/// Workgroups along x, y and z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid(pub [u32; 3]);

impl Grid {
    /// At least `groups` workgroups, folded so that no dimension exceeds `max`. The kernel computes its number with
    /// `group_index` of `common/index.wgsl` and returns if that is not below the count in its `Params`.
    pub fn linear(groups: u64, max: u32) -> Result<Grid, String> {
        let max = u64::from(max.max(1));
        let x = groups.min(max);
        let y = if x == 0 { 1 } else { groups.div_ceil(x).min(max) };
        let z = if x == 0 { 1 } else { groups.div_ceil(x * y) };
        if z > max || x * y * z > u64::from(u32::MAX) {
            return Err(format!("{groups} workgroups exceed what one dispatch can have"));
        }
        Ok(Grid([x as u32, y as u32, z as u32]))
    }
    /// Number of workgroups.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&n| u64::from(n)).product()
    }
}

/// A host struct that is the WGSL struct `Params` of a kernel. Made by the `params!` macro.
pub trait ParamStruct: Pod {
    /// Name and byte offset of each field, in order.
    const FIELDS: &'static [(&'static str, usize)];
}

/// Declares a `#[repr(C)]` struct that mirrors a kernel's WGSL `Params`, with its field offsets for the reflection test.
/// Uniform rules: arrays have elements of 16 bytes (`[[u32; 4]; N]` is `array<vec4<u32>, N>`), the size is a multiple of 16.
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fm:meta])* $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($(#[$fm])* $field: $ty,)* }
        impl $crate::backend::gpu::kernels::ParamStruct for $name {
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*];
        }
    };
}
pub(crate) use params;

/// The bytes of a kernel's `Params` with their layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// What the uniform buffer holds.
    pub bytes: Vec<u8>,
    /// Name and offset of each field, for the reflection test.
    pub fields: &'static [(&'static str, usize)],
}

impl Params {
    /// The bytes of a host struct.
    pub fn of<P: ParamStruct>(p: &P) -> Params {
        Params { bytes: bytemuck::bytes_of(p).to_vec(), fields: P::FIELDS }
    }
    /// The bytes of an array of host structs.
    pub fn many<P: ParamStruct>(all: &[P]) -> Params {
        Params { bytes: bytemuck::cast_slice(all).to_vec(), fields: P::FIELDS }
    }
}

/// One dispatch: which text, with what bound, over which grid.
#[derive(Debug, Clone)]
pub struct KernelCall {
    /// Stem of the .wgsl file, or of files that are its parts; names the kernel in profiles and errors.
    pub label: &'static str,
    /// Which variant of the kernel.
    pub variant: &'static str,
    /// The whole WGSL text; its entry point is `main`.
    pub source: Arc<str>,
    /// Values of the text's `override` constants.
    pub overrides: Vec<(&'static str, f64)>,
    /// What is bound, in the order of the bindings of group 0. `Params` are bound after the last.
    pub bindings: Vec<Bind>,
    /// The uniform `Params`.
    pub params: Params,
    /// How many workgroups. A grid with a zero dimension is skipped.
    pub grid: Grid,
    /// Floating-point operations, about.
    pub flops: u64,
    /// Bytes read and written, at least.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_fold() {
        assert_eq!(Grid::linear(0, 65_535).unwrap().count(), 0);
        assert_eq!(Grid::linear(7, 65_535).unwrap().0, [7, 1, 1]);
        for n in [65_535u64, 65_536, 1 << 20, 60_000 * 65_535, 1 << 31] {
            let g = Grid::linear(n, 65_535).unwrap();
            assert!(g.count() >= n && g.0.iter().all(|&d| d <= 65_535), "{n} gives {g:?}");
        }
        assert!(Grid::linear(1 << 40, 65_535).is_err());
    }
}
