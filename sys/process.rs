//! Whether this is still the process that made something, at the price of a load.
//!
//! ```text
//!   parent │ 1 │      fork      child │ 0 │   │ 1 │      MADV_WIPEONFORK
//!            ▲ its page                         ▲ its page; the parent's says 0 here
//! ```
//!
//! What a process has with a ring is not its child's: the ring's memory is not inherited
//! (`MADV_DONTFORK`), and its descriptor, which is, leads to the parent's ring. The kernel wipes
//! the page for a child, which then takes another. A number would not do: process ids start again
//! in a new namespace, and what a thread counts while another forks, the child may see in part. A
//! page has one address: while a process is copied, nothing is mapped into it. A child that shares
//! its parent's memory (`vfork(2)`, `CLONE_VM`) shares the page too: to us it is the same process,
//! and one more of its threads.
//!
//! The word in it is stored once, before it is published where it lies; it has nothing of the
//! ring's.
//!
//! Keeps RG1's other half: a child gives nothing back that is its parent's.
#![allow(unsafe_code, reason = "keeps a word in a page that fork changes")]

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicPtr, AtomicU64};
use core::{mem, ptr};
use std::alloc::{Layout, handle_alloc_error};

use memmap2::{MmapOptions, MmapRaw};

use crate::map::{page_size, wipe_on_fork};

/// A process, among itself and those that it was forked from: its word, which says 1 in it, and 0
/// in all that it forks.
#[derive(Debug, Clone, Copy)]
pub struct Process(&'static AtomicU64);

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Process {}

/// The word of the process that was asked last for it; null before the first.
static HERE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

impl Process {
    /// The process that calls.
    #[inline]
    pub fn this() -> Self {
        let word = HERE.load(Acquire);
        if word.is_null() {
            return Self::named(word);
        }
        // SAFETY: valid for good, because what stands in `HERE` is never unmapped; and only ever
        // used as a word.
        let process = Self(unsafe { &*word });
        if process.is_this() { process } else { Self::named(word) }
    }

    /// Whether it is the process that calls, and not one that forked it.
    #[inline]
    pub fn is_this(self) -> bool {
        // A plain load, which a loop that cannot fork does once: only in a call that the compiler
        // does not see through can the word change.
        // SAFETY: a live word, to which nobody stores any more since it stands in `HERE`.
        unsafe { self.0.as_ptr().read() != 0 }
    }

    /// Makes the page of a process that has none yet; `before` is its parent's.
    #[cold]
    fn named(before: *mut AtomicU64) -> Self {
        /// Where nobody forks, and nothing can be mapped.
        static ALONE: AtomicU64 = AtomicU64::new(0);
        let page = if cfg!(miri) { None } else { Some(page()) };
        let word = match &page {
            Some(page) => page.as_mut_ptr().cast(),
            None => (&raw const ALONE).cast_mut(),
        };
        // SAFETY: mapped while `page` is, because that was just made; zeroed, which is a word.
        unsafe { &*word }.store(1, Relaxed);
        let here = match HERE.compare_exchange(before, word, AcqRel, Acquire) {
            Ok(_) => {
                mem::forget(page); // For good.
                word
            }
            Err(other) => other, // Another thread was first.
        };
        // SAFETY: valid for good, because what stands in `HERE` is never unmapped.
        Self(unsafe { &*here })
    }
}

/// A page that is wiped for a child.
fn page() -> MmapRaw {
    let page = MmapOptions::new().len(page_size()).map_anon().map(MmapRaw::from);
    let wiped = page.and_then(|page| wipe_on_fork(&page).map(|()| page));
    // `MADV_WIPEONFORK` is older than io_uring, so that memory is all that can be missing.
    wiped.unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; 4096]>()))
}

/// Numbers from 1 on, each of them given once: also by a child, which goes on from where its parent
/// was. No lock, which a child could find taken for good.
#[derive(Debug)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// Of which none is given yet.
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
