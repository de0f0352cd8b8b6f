//! Taking completions in an iterator, whose slots go back to the kernel together.
//!
//! ```text
//!   │ 4 │ 5 │   │   │ 2 │ 3 │      2, 3, 4, 5, then `None`; dropped: head = 6
//!   0                       7
//! ```
//!
//! A step keeps where it is in registers. Completions that are not all of 16 bytes are popped, one
//! by one.
//!
//! Keeps CQ3 and CQ4, and checks CQ2. Leaves to others: loops that call a closure (`drain`, `run`).
//!
//! # Safety
//!
//! Reads only slots in `head..tail`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

use core::mem::ManuallyDrop;

use super::CompletionQueue;
use crate::abi::Cqe;
use crate::flags::CqeFlags;
use crate::index::Index;
use crate::process::Process;

/// Completions that are taken one by one: see [`CompletionQueue::completions`].
#[derive(Debug)]
pub struct TakenCqes<'a> {
    queue: &'a mut CompletionQueue,
    /// The next completion, and where those end that were there at first. Equal on a queue whose
    /// slots are not all single.
    at: Index,
    end: Index,
    /// All flags of the completions taken, of which `MORE` matters.
    flags: CqeFlags,
    /// The process of a queue of single slots.
    process: Process,
}

impl CompletionQueue {
    /// Takes the completions that are in the queue now, oldest first. Their slots go back to the
    /// kernel together, when the iterator is dropped, so drop it before you wait; those that it did
    /// not return stay in the queue. If it is forgotten, all of them come again.
    ///
    /// Of a completion of 32 bytes, the second half is discarded; its slots go back at once.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn completions(&mut self) -> TakenCqes<'_> {
        let process = self.usual;
        if process.is_this() {
            self.look_for_more();
        }
        let at = self.next;
        let end = if process.is_this() { self.known } else { at };
        TakenCqes { queue: self, at, end, flags: CqeFlags::empty(), process }
    }

    /// The next completion where they are not all of 16 bytes. In a forked child there is none.
    #[cold]
    fn pop_unusual(&mut self) -> Option<Cqe> {
        self.pop_wide().map(|wide| wide.first)
    }
}

impl<'a> TakenCqes<'a> {
    /// Gives the slots back, and returns the queue.
    #[inline]
    pub fn finish(self) -> &'a mut CompletionQueue {
        let mut this = ManuallyDrop::new(self);
        this.give_back();
        // SAFETY: read once, since `this` is neither used nor dropped after.
        unsafe { core::ptr::read(&raw const this.queue) }
    }

    #[inline]
    fn give_back(&mut self) {
        let count = self.at.distance_from(self.queue.next);
        if count != 0 {
            self.queue.took(count, self.flags);
        }
    }
}

impl Iterator for TakenCqes<'_> {
    type Item = Cqe;

    #[inline]
    fn next(&mut self) -> Option<Cqe> {
        // The caller's code runs between two calls, and may have forked: the rest is the parent's.
        if !self.process.is_this() {
            let popped = self.queue.pop_unusual();
            (self.at, self.end) = (self.queue.next, self.queue.next);
            // In parts, so that the usual step does not go through memory either.
            let Cqe { user_data, res, flags } = popped?;
            return Some(Cqe { user_data, res, flags });
        }
        if self.at == self.end {
            return None;
        }
        // SAFETY: ours: `tail` covers the slots up to `end` (CQ3), and `head` has passed none of
        // them (CQ4). They are single, since `process` is this one only if the shape is
        // `CqeShape::Single`.
        let cqe = unsafe { self.queue.slots.read_single(self.at) };
        self.at = self.at.advance(1);
        self.flags |= cqe.flags;
        Some(cqe)
    }
}

impl Drop for TakenCqes<'_> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}
