//! Runs: completions in adjacent slots, which go back to the kernel together.
//!
//! ```text
//!   │ 4 │ 5 │   │   │ 2 │ 3 │      ready: 4; next_run: 2, 3 up to the wrap; next_run: 4, 5
//!   0                       7
//! ```
//!
//! For a loop of the caller's own, with one place that takes completions: a closure that is called
//! in one place is compiled into the loop. [`drain`](CompletionQueue::drain) calls its closure in
//! three.
//!
//! Keeps CQ3 and CQ4. Leaves to others: looking at the tail, and checking it (`cq`).
//!
//! # Safety
//!
//! Reads only slots in `head..tail`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

use super::CompletionQueue;
use crate::abi::Cqe;
use crate::flags::CqeFlags;
use crate::index::Index;
use crate::orderings::Published;
use crate::process::Process;
use crate::slots::{Run, Slots};

impl CompletionQueue {
    /// The oldest completions that the last look at the queue found ([`ready`](Self::ready)), up to
    /// where the slots wrap around: a second run has the rest. `None` if not all completions are of
    /// 16 bytes, and in a forked child: there, [`drain`](Self::drain).
    #[inline]
    pub fn next_run(&mut self) -> Option<TakenRun<'_>> {
        // One load answers two questions: is the shape `Single`, and is this our process?
        if !self.usual.is_this() {
            return None;
        }
        // SAFETY: ours: `tail` covers the slots (CQ3) and `head` has passed none (CQ4). They are
        // single, since `usual` is this process only if the shape is `CqeShape::Single`. The run is
        // gone before the queue, which it borrows.
        let run = unsafe { self.slots.run_apart(self.next, self.slots_ready()) };
        Some(TakenRun { len: run.left, queue: self, run, flags: CqeFlags::empty() })
    }

    /// Whether completions are known that no run has taken.
    #[inline]
    pub fn has_known(&self) -> bool {
        self.next != self.known
    }
}

/// Completions that are being taken: see [`CompletionQueue::next_run`]. None comes twice. Their
/// slots go back to the kernel together, and they count as popped, when this value is dropped, also
/// while the caller's code panics. If it is forgotten, they never count, and their slots go back
/// with the next ones.
#[derive(Debug)]
pub struct TakenRun<'a> {
    queue: &'a mut CompletionQueue,
    /// Single slots.
    run: Run<'a, Cqe>,
    /// How many slots the run had at first.
    len: u32,
    /// All flags of the completions taken from the run.
    flags: CqeFlags,
}

impl TakenRun<'_> {
    /// Gives the slots back, and returns how many completions were taken.
    #[inline]
    pub fn finish(self) -> u32 {
        self.len - self.run.left
    }
}

impl Iterator for TakenRun<'_> {
    type Item = Cqe;

    #[inline]
    fn next(&mut self) -> Option<Cqe> {
        // The caller's code runs between two calls, and may have forked: the rest is the parent's.
        if !self.queue.process.is_this() {
            return None;
        }
        let cqe = self.run.next()?;
        self.queue.next = self.queue.next.advance(1);
        self.flags |= cqe.flags;
        Some(cqe)
    }
}

impl Drop for TakenRun<'_> {
    #[inline]
    fn drop(&mut self) {
        let Self { queue, run, len, flags, .. } = self;
        let count = *len - run.left;
        queue.popped += u64::from(count);
        if !queue.process.is_this() {
            return; // The slots are the parent's.
        }
        if flags.contains(CqeFlags::MORE) {
            let from = queue.next.back(count);
            // SAFETY: still ours, since they are not given back (CQ3, CQ4).
            queue.more += unsafe { count_more(&queue.slots, from, count) };
        }
        queue.head.publish(queue.next); // CQ4
    }
}

/// Slots being taken. At the end, or when the caller's code panics, `next` moves past those that
/// were taken, and is published as `head`.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) head: &'a mut Published,
    pub(super) next: &'a mut Index,
    pub(super) more: &'a mut u64,
    pub(super) popped: &'a mut u64,
    pub(super) slots: &'a Slots<Cqe>,
    /// Where the run starts, and where it ends.
    pub(super) from: Index,
    pub(super) end: Index,
    pub(super) run: Run<'a, Cqe>,
    /// All flags of the completions taken.
    pub(super) flags: CqeFlags,
    pub(super) process: Process,
}

impl Taken<'_> {
    /// Gives the slots back, in the process that made the ring.
    #[inline]
    pub(super) fn finish(mut self) {
        self.record();
        self.head.publish(*self.next); // CQ4
        core::mem::forget(self);
    }

    /// Counts what was taken.
    #[inline]
    fn record(&mut self) {
        let next = self.end.back(self.run.left);
        let count = next.distance_from(self.from);
        if self.flags.contains(CqeFlags::MORE) {
            // SAFETY: still ours, since they are not given back (CQ3, CQ4).
            *self.more += unsafe { count_more(self.slots, self.from, count) };
        }
        *self.popped += u64::from(count);
        *self.next = next;
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.process.is_this() {
            self.record();
            self.head.publish(*self.next); // CQ4
        } else {
            // The slots are the parent's.
            *self.next = self.end.back(self.run.left);
        }
    }
}

/// How many of the `count` slots from `from` on have the flag `MORE`.
///
/// # Safety
///
/// The slots must be ours, and single.
#[cold]
unsafe fn count_more(slots: &Slots<Cqe>, from: Index, count: u32) -> u64 {
    let mut more = 0;
    for ahead in 0..count {
        // SAFETY: ours and single, as promised to `count_more`.
        let flags = unsafe { slots.read_single(from.advance(ahead)) }.flags;
        more += u64::from(flags.contains(CqeFlags::MORE));
    }
    more
}
