//! Looking at a completion queue that another value owns, perhaps on another thread.
//!
//! ```text
//!   head ◄── CompletionQueue        tail ◄── the kernel        our flags ◄── both
//!     └───────────────────────────────┴──── CqWatch: loads        └── stores, all bits at once
//! ```
//!
//! Whether something is ready, for whoever takes no completions. Keeps CQ1, as the types of the
//! indices have no store, and reads no slot.
//!
//! Leaves to others: taking completions.
//!
//! # Safety
//!
//! Keeps the memory of the indices mapped, and looks at it only in the process that mapped it.
#![allow(unsafe_code, reason = "keeps the memory alive that it looks at")]

use std::sync::Arc;

use super::CompletionQueue;
use crate::flags::CqRingFlags;
use crate::map::Map;
use crate::orderings::{Observed, PublishedFlags};
use crate::process::Process;

/// The indices of a [`CompletionQueue`], for reading.
#[derive(Debug)]
pub struct CqWatch {
    head: Observed,
    tail: Observed,
    /// The flags that we store; absent before Linux 5.8.
    flags: Option<PublishedFlags>,
    /// Keeps the memory of the indices mapped as long as this value exists.
    _memory: Arc<[Map]>,
    process: Process,
}

// SAFETY: every method only loads from atomics, or stores to one, so threads may call them at the
// same time.
unsafe impl Sync for CqWatch {}

impl CompletionQueue {
    /// A value that looks at this queue. It sees nothing of a ring that is resized later.
    pub fn watch(&self) -> CqWatch {
        CqWatch {
            // SAFETY: valid while `_memory` exists, which the returned value keeps.
            head: unsafe { self.head.watch() },
            // SAFETY: valid, as just said.
            tail: unsafe { self.tail.twin() },
            // SAFETY: valid, as just said.
            flags: self.flags.as_ref().map(|flags| unsafe { flags.twin() }),
            _memory: Arc::clone(&self.memory),
            process: self.process,
        }
    }
}

impl CqWatch {
    /// As [`CompletionQueue::set_flags`]. Who stores last, here or there, decides all of them.
    #[must_use]
    pub fn set_flags(&self, to: CqRingFlags) -> bool {
        if !self.process.is_this() {
            return false;
        }
        if let Some(flags) = &self.flags {
            flags.store_before_loads(to.bits());
        }
        self.flags.is_some()
    }

    /// How many slots hold completions that were posted and are not given back. A completion of 32
    /// bytes takes two of them where widths are mixed (`CQE_MIXED`). `None` in a forked child.
    #[inline]
    pub fn look(&self) -> Option<u32> {
        if !self.process.is_this() {
            return None;
        }
        // In this order: a head that is loaded later may have passed the tail.
        let head = self.head.observe();
        Some(self.tail.observe().distance_from(head))
    }
}
