//! A map that a test unmaps on purpose, and that stays unmapped.
//!
//! Linux puts a new map where an old one was: the allocator of another thread would have the memory
//! back before the test has looked. So this map is where nobody asks for one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Far from where Linux puts maps, and from where AddressSanitizer keeps its shadow, which is at
/// 2^44.
const FAR: usize = 1 << 45;
/// From one map to the next; no test asks for more.
const STEP: usize = 1 << 30;

/// Memory that only the test uses, of zeroes.
pub struct Unmapped {
    memory: NonNull<[u8]>,
}

impl Unmapped {
    /// Mapped until [`Self::unmap`], or to the end of the process.
    pub fn new(len: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let at = FAR + STEP * NEXT.fetch_add(1, Ordering::Relaxed);
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        let flags = flags | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a new map, which replaces none; it is used through `memory` only.
        let map =
            unsafe { libc::mmap(std::ptr::without_provenance_mut(at), len, prot, flags, -1, 0) };
        assert_eq!(map.addr(), at, "{}", std::io::Error::last_os_error());
        let start = NonNull::new(map.cast()).expect("it is not at 0");
        Self { memory: NonNull::slice_from_raw_parts(start, len) }
    }

    pub fn memory(&self) -> NonNull<[u8]> {
        self.memory
    }

    /// # Safety
    /// Nobody of this process uses the memory any more. What the kernel has of it is the test's.
    pub unsafe fn unmap(self) {
        // SAFETY: the map of `new`, which nobody uses any more, as promised to `unmap`.
        let status = unsafe { libc::munmap(self.memory.as_ptr().cast(), self.memory.len()) };
        assert_eq!(status, 0);
    }
}
