//! Whether this is still the process that made something, at the price of a load.
//!
//! ```text
//!   parent │ word: 7 │          fork          child │ word: 0 │     MADV_WIPEONFORK
//! ```
//!
//! What a process has with a ring is not its child's: the ring's memory is not inherited
//! (`MADV_DONTFORK`), and its descriptor, which is, leads to the parent's ring. The kernel wipes
//! the word for a child, which then takes the next number. A process id would not do: in a new
//! namespace they start again.
//!
//! The word orders nothing, so that `Relaxed` will do; it has nothing of the ring's. Where it lies
//! is published once.
//!
//! Keeps RG1's other half: a child gives nothing back that is its parent's.
#![allow(unsafe_code, reason = "keeps a word in a page that fork changes")]

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicPtr, AtomicU64};
use core::{mem, ptr};
use std::alloc::{Layout, handle_alloc_error};

use memmap2::{MmapOptions, MmapRaw};

use crate::map::page_size;

/// A process, among itself and those that it was forked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u64);

impl Process {
    /// The process that calls.
    #[inline]
    pub fn this() -> Self {
        match word().load(Relaxed) {
            0 => Self::named(),
            number => Self(number),
        }
    }

    /// Whether it is the process that calls, and not one that forked it.
    #[inline]
    pub fn is_this(self) -> bool {
        word().load(Relaxed) == self.0
    }

    /// Names a process that has no number yet.
    #[cold]
    fn named() -> Self {
        /// Ordinary memory, so that a child goes on from where its parent was.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Relaxed) + 1;
        match word().compare_exchange(0, number, Relaxed, Relaxed) {
            Ok(_) => Self(number),
            Err(other) => Self(other), // Another thread was first.
        }
    }
}

/// This process's number; 0 while it has none.
#[inline]
fn word() -> &'static AtomicU64 {
    static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
    let word = PAGE.load(Acquire);
    let word = if word.is_null() { first(&PAGE) } else { word };
    // SAFETY: valid for good, because what `first` stores is never unmapped; and only ever used as
    // this word.
    unsafe { &*word }
}

/// Makes the page, unless another thread was first, and returns where it is.
#[cold]
fn first(place: &AtomicPtr<AtomicU64>) -> *mut AtomicU64 {
    /// Where nobody forks, and nothing can be mapped.
    static ALONE: AtomicU64 = AtomicU64::new(0);
    let page = if cfg!(miri) { None } else { Some(page()) };
    let word = match &page {
        Some(page) => page.as_mut_ptr().cast(),
        None => (&raw const ALONE).cast_mut(),
    };
    match place.compare_exchange(ptr::null_mut(), word, AcqRel, Acquire) {
        Ok(_) => {
            mem::forget(page); // For good.
            word
        }
        Err(other) => other,
    }
}

/// A page that is wiped for a child.
fn page() -> MmapRaw {
    let page = MmapOptions::new().len(page_size()).map_anon().map(MmapRaw::from);
    let wiped = page.and_then(|page| {
        let (start, len) = (page.as_mut_ptr().cast(), page.len());
        // SAFETY: the page just mapped, and advice that changes nothing in this process, because it
        // says what a child is to see.
        if unsafe { libc::madvise(start, len, libc::MADV_WIPEONFORK) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(page)
    });
    // `MADV_WIPEONFORK` is older than io_uring, so that memory is all that can be missing.
    wiped.unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; 4096]>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_on_every_thread() {
        let process = Process::this();
        assert!(process.is_this());
        let other = std::thread::spawn(Process::this).join().unwrap();
        assert_eq!(process, other);
    }

    #[test]
    fn a_child_is_neither_its_parent_nor_its_own_child() {
        let parent = Process::this();
        // SAFETY: the child only loads, stores, forks and exits, because a lock could be held.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let own = Process::this();
            let right = own != parent && !parent.is_this() && own.is_this();
            // SAFETY: as for the child, because that holds for its own child too.
            let grandchild = unsafe { libc::fork() };
            if grandchild == 0 {
                let right = !own.is_this() && !parent.is_this() && Process::this() != own;
                // SAFETY: ends the process, because nothing else is to run in it.
                unsafe { libc::_exit(i32::from(!right)) };
            }
            // SAFETY: ends the process, because nothing else is to run in it.
            unsafe { libc::_exit(i32::from(!right || status_of(grandchild) != 0)) };
        }
        assert_eq!(status_of(child), 0);
        assert!(parent.is_this());
    }

    /// Waits for a child and returns its status.
    fn status_of(child: libc::pid_t) -> i32 {
        let mut status = -1;
        // SAFETY: writes a status to a live number, because `waitpid(2)` says so.
        let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(ended, child);
        status
    }
}
