//! Looking at a submission queue that another value owns, perhaps on another thread.
//!
//! ```text
//!   head ◄── the kernel        tail ◄── SubmissionQueue        flags ◄── the kernel
//!     └───────────────────────────┴──── SqWatch: loads, never stores
//! ```
//!
//! For an API that submits by a shared reference while a queue is lent out. It sees what was
//! published, and not what was only written. Keeps SQ1, as its types have no store, and SQ5.
//!
//! Leaves to others: pushing, and what the numbers mean when both sides go on.
//!
//! # Safety
//!
//! Keeps the memory of the indices mapped, and looks at it only in the process that mapped it.
#![allow(unsafe_code, reason = "keeps the memory alive that it looks at")]

use std::sync::Arc;

use super::SubmissionQueue;
use crate::flags::SqRingFlags;
use crate::map::Map;
use crate::orderings::{Observed, ObservedFlags};
use crate::process::Process;

/// The indices and flags of a [`SubmissionQueue`], for reading.
#[derive(Debug)]
pub struct SqWatch {
    head: Observed,
    tail: Observed,
    flags: ObservedFlags,
    /// Keeps the memory of the indices mapped as long as this value exists.
    _memory: Arc<[Map]>,
    process: Process,
}

// SAFETY: every method only loads from atomics, so threads may call them at the same time.
unsafe impl Sync for SqWatch {}

impl SubmissionQueue {
    /// A value that looks at this queue. It sees nothing of a ring that is resized later.
    pub fn watch(&self) -> SqWatch {
        SqWatch {
            // SAFETY: valid while `_memory` exists, which the returned value keeps.
            head: unsafe { self.head.twin() },
            // SAFETY: valid, as just said.
            tail: unsafe { self.tail.watch() },
            // SAFETY: valid, as just said.
            flags: unsafe { self.flags.twin() },
            _memory: Arc::clone(&self.memory),
            process: self.process,
        }
    }
}

impl SqWatch {
    /// Whether the calling process made the ring, and is not a forked child of that process.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// How many published entries the kernel has yet to consume, and the kernel's flags. `None` in
    /// a forked child.
    #[inline]
    pub fn look(&self) -> Option<(u32, SqRingFlags)> {
        if !self.is_here() {
            return None;
        }
        // In this order: a head that is loaded later may have passed the tail.
        let head = self.head.observe();
        let published = self.tail.observe().distance_from(head);
        Some((published, SqRingFlags::from_bits_retain(self.flags.now())))
    }

    /// Whether the polling thread (`SQPOLL`) sleeps, for the thread that published (SQ5).
    pub fn needs_wakeup(&self) -> bool {
        let flags = || SqRingFlags::from_bits_retain(self.flags.after_publish());
        self.is_here() && flags().contains(SqRingFlags::NEED_WAKEUP)
    }
}
