//! Tells with one load whether the calling process is still the one that made a value.
//!
//! ```text
//!   parent │ 1 │      fork      child │ 0 │   │ 1 │      MADV_WIPEONFORK
//!            ▲ its page                         ▲ its page; its copy of the parent's page says 0
//! ```
//!
//! A forked child must not use its parent's ring: it does not inherit the ring's memory
//! (`MADV_DONTFORK`), and the descriptor, which it does inherit, leads to the parent's ring. So
//! each process has a page with an atomic that is 1. In a child the kernel wipes that page to 0
//! (`MADV_WIPEONFORK`), and the child maps a page of its own.
//!
//! A number would not be enough. Process ids start again in a new namespace, and a child may see a
//! counter that another thread was changing during the fork. The address of a page is unique:
//! nothing is mapped into a process while it is copied. A child that shares its parent's memory
//! (`vfork(2)`, `CLONE_VM`) shares the page too; for us it is another thread of the same process.
//!
//! The atomic is stored once, before its address is published. It synchronises nothing of a ring.
//!
//! Keeps the other half of RG1: a child frees nothing that belongs to its parent.
#![allow(unsafe_code, reason = "keeps an atomic in a page that fork wipes")]

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicPtr, AtomicU64};
use core::{mem, ptr};
use std::alloc::{Layout, handle_alloc_error};

use memmap2::{MmapOptions, MmapRaw};

use crate::page::{page_size, wipe_on_fork};

/// Identifies a process among its ancestors and children: its atomic is 1 in that process, and 0 in
/// every child.
#[derive(Debug, Clone, Copy)]
pub struct Process(&'static AtomicU64);

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Process {}

/// The atomic of the process that called [`Process::this`] last; null before the first call.
static HERE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

impl Process {
    /// The calling process.
    #[inline]
    pub fn this() -> Self {
        let word = HERE.load(Acquire);
        if word.is_null() {
            return Self::named(word);
        }
        // SAFETY: valid forever, because the page that `HERE` points to is never unmapped; and only
        // ever used as an atomic.
        let process = Self(unsafe { &*word });
        if process.is_this() { process } else { Self::named(word) }
    }

    /// No process: never the calling one.
    pub fn none() -> Self {
        static NONE: AtomicU64 = AtomicU64::new(0);
        Self(&NONE)
    }

    /// Whether this is the calling process, and not one that forked it.
    #[inline]
    pub fn is_this(self) -> bool {
        // A plain load, so that the compiler can hoist it out of a loop that cannot fork: the value
        // changes only in a call that the compiler cannot see through.
        // SAFETY: a live atomic. That of `none` is never stored to, and no other is stored to again
        // once its address is in `HERE`.
        unsafe { self.0.as_ptr().read() != 0 }
    }

    /// Makes the page of a process that has none yet. `before` is its parent's atomic, or null.
    #[cold]
    fn named(before: *mut AtomicU64) -> Self {
        /// Used under Miri, where nothing forks and nothing can be mapped.
        static ALONE: AtomicU64 = AtomicU64::new(0);
        let page = if cfg!(miri) { None } else { Some(page()) };
        let word = match &page {
            Some(page) => page.as_mut_ptr().cast(),
            None => (&raw const ALONE).cast_mut(),
        };
        // SAFETY: mapped as long as `page` exists, because that was just made; all zeroes, which is
        // a valid atomic.
        unsafe { &*word }.store(1, Relaxed);
        let here = match HERE.compare_exchange(before, word, AcqRel, Acquire) {
            Ok(_) => {
                mem::forget(page); // It stays mapped forever.
                word
            }
            Err(other) => other, // Another thread was first.
        };
        // SAFETY: valid forever, because the page that `HERE` points to is never unmapped.
        Self(unsafe { &*here })
    }
}

/// Maps a page that the kernel wipes in a forked child.
fn page() -> MmapRaw {
    let page = MmapOptions::new().len(page_size()).map_anon().map(MmapRaw::from);
    let wiped = page.and_then(|page| wipe_on_fork(&page).map(|()| page));
    // `MADV_WIPEONFORK` is older than io_uring, so this fails only for lack of memory.
    wiped.unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; 4096]>()))
}

/// Gives each number from 1 on once. A forked child continues from its parent's number. There is no
/// lock, which a child could find locked forever.
#[derive(Debug)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// A counter that has given no number yet.
    #[expect(clippy::new_without_default, reason = "made for a static")]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The next one.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }
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
        // SAFETY: the child only loads, stores, forks and exits, because a lock may be held.
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
