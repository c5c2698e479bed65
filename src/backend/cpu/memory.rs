//! Buffers of the CPU path: 64-byte aligned words with interior mutability, and the pointers that jobs hold on them.
//!
//! All unsafety of sharing is argued here once. Contents are only touched while the backend's run lock is held (by
//! `write`, `read` and `run`), and within one run the jobs follow each other; inside a job, threads write disjoint
//! ranges. Every view is checked against its buffer's length when a job is built.

use crate::backend::BufferId;
use crate::error::{Error, Result};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Alignment of every buffer: one cache line, and one AVX-512 register.
const ALIGN: usize = 64;

/// Alignment of large buffers: the pages that the system gives if asked, of which a buffer of 16 MiB needs 8 instead of
/// 4096, so that a stream through it misses no translations.
const HUGE: usize = 2 << 20;

/// Where the system's pages are, for buffers of so many bytes.
fn layout(bytes: usize) -> Option<Layout> {
    let align = if bytes >= 2 * HUGE { HUGE } else { ALIGN };
    Layout::from_size_align(bytes.max(1).checked_next_multiple_of(ALIGN)?, align).ok()
}

/// Asks for huge pages where the system gives them to who asks. A refusal changes nothing.
fn prefer_huge_pages(start: *mut u8, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() == HUGE {
        unsafe extern "C" {
            fn madvise(start: *mut u8, bytes: usize, advice: std::ffi::c_int) -> std::ffi::c_int;
        }
        const MADV_HUGEPAGE: std::ffi::c_int = 14;
        // SAFETY: the C library's function; advice on whole pages of memory that we have just been given.
        unsafe { madvise(start, layout.size() / HUGE * HUGE, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, layout);
}

/// Memory of a fixed size, zeroed when made.
#[derive(Debug)]
pub(super) struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is plain words owned by the buffer; who reads and writes when is ordered by the run lock and by
// the jobs' disjoint ranges (see the module's text).
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn zeroed(bytes: usize) -> Result<Buffer> {
        let layout = layout(bytes).ok_or_else(|| Error::device("cpu", format!("cannot address {bytes} bytes")))?;
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc(layout) };
        if !start.is_null() {
            prefer_huge_pages(start, layout);
            // SAFETY: as many bytes as were allocated.
            unsafe { start.write_bytes(0, layout.size()) };
        }
        match NonNull::new(start) {
            Some(start) => Ok(Buffer { start, bytes }),
            None => Err(Error::device(
                "cpu",
                format!("out of memory: {bytes} bytes were refused; use a smaller batch or model"),
            )),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn words_ptr(&self) -> Words {
        Words(self.start.as_ptr().cast())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(layout) = layout(self.bytes) {
            // SAFETY: made by `zeroed` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// A pointer to words of a buffer that may cross threads. Jobs keep the buffer alive by its `Arc`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words(pub(super) *mut u32);

// SAFETY: see the module's text; whoever dereferences argues disjointness.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// The pointer `n` words further.
    #[inline(always)]
    pub(super) fn at(self, n: usize) -> Words {
        Words(self.0.wrapping_add(n))
    }

    /// The pointer `n` words further, or back.
    #[inline(always)]
    pub(super) fn by(self, n: isize) -> Words {
        Words(self.0.wrapping_offset(n))
    }

    /// `len` words from here, for reading.
    ///
    /// # Safety
    /// They lie in one live buffer, and nobody writes them while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn u32s<'a>(self, len: usize) -> &'a [u32] {
        // SAFETY: by the caller's promise; buffers are initialised and aligned.
        unsafe { std::slice::from_raw_parts(self.0, len) }
    }

    /// As [`Words::u32s`], read as floats.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(super) unsafe fn f32s<'a>(self, len: usize) -> &'a [f32] {
        // SAFETY: by the caller's promise; every word is a valid f32.
        unsafe { std::slice::from_raw_parts(self.0.cast(), len) }
    }

    /// `len` words from here, for writing.
    ///
    /// # Safety
    /// They lie in one live buffer, and nobody else touches them while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn u32s_mut<'a>(self, len: usize) -> &'a mut [u32] {
        // SAFETY: by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0, len) }
    }

    /// As [`Words::u32s_mut`], as floats.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(super) unsafe fn f32s_mut<'a>(self, len: usize) -> &'a mut [f32] {
        // SAFETY: by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.cast(), len) }
    }
}

/// The buffers of one backend by id.
#[derive(Debug, Default)]
pub(super) struct Table {
    inner: Mutex<(u64, HashMap<BufferId, Arc<Buffer>>)>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<BufferId, Arc<Buffer>>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, buffer: Buffer) -> BufferId {
        let mut inner = self.lock();
        inner.0 += 1;
        let id = BufferId(inner.0);
        inner.1.insert(id, Arc::new(buffer));
        id
    }

    pub(super) fn remove(&self, id: BufferId) {
        self.lock().1.remove(&id);
    }

    pub(super) fn get(&self, id: BufferId) -> Result<Arc<Buffer>> {
        self.lock()
            .1
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::internal("cpu memory", format!("buffer {} does not exist (freed?)", id.0)))
    }
}
