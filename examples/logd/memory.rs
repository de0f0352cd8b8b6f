//! Memory that two processes share, as words that are touched by atomics only.
//!
//! ```text
//!   writer: memfd, sealed: it never shrinks ──► its descriptor, by a unix socket ──► logger
//!   mapped here as words                                       mapped there as words
//! ```
//!
//! The other process may do anything to the words. So a value that was loaded is checked by
//! whoever uses it, and is loaded once. What the other could do to us otherwise, to shorten the
//! file under our mapping, the seal forbids.
#![allow(unsafe_code, reason = "makes references to words of a mapping")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use annulus::op::FutexWord;
use memmap2::MmapRaw;
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};

/// The bytes of a word.
const WORD: usize = 4;

/// A mapping, and the file behind it.
#[derive(Debug)]
pub struct Memory {
    map: MmapRaw,
    file: File,
}

impl Memory {
    /// New memory of so many words, all 0.
    pub fn create(words: usize) -> io::Result<Self> {
        let fd = memfd_create("logd", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, (words * WORD) as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::adopt(fd)
    }

    /// The memory of another process.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let sealed = fcntl_get_seals(&fd)?.contains(SealFlags::SHRINK);
        let refuse = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
        if !sealed {
            return refuse("memory that may shrink is not mapped: seal it with F_SEAL_SHRINK");
        }
        let file = File::from(fd);
        if file.metadata()?.len() == 0 {
            return refuse("a file without bytes is no memory to share");
        }
        Ok(Self { map: MmapRaw::map_raw(&file)?, file })
    }

    /// How many words there are.
    pub fn words(&self) -> usize {
        self.map.len() / WORD
    }

    /// A word.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at < self.words(), "word {at} of {}", self.words());
        let start = self.map.as_mut_ptr().cast::<u32>();
        // SAFETY: within the mapping, because `at` was just compared with its length.
        let word = unsafe { start.add(at) };
        // SAFETY: aligned, since a mapping begins a page; it stays mapped as long as `self`, and
        // its file never shrinks: it is sealed. No other code of this process touches the mapping,
        // so every access is by atomics.
        unsafe { AtomicU32::from_ptr(word) }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// One word of shared memory, to wait at or to wake.
#[derive(Debug)]
pub struct Word(pub Arc<Memory>, pub usize);

impl FutexWord for Word {
    fn word(&self) -> &AtomicU32 {
        self.0.word(self.1)
    }
}
