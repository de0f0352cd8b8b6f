//! Runs: completions in adjacent slots, which go back to the kernel together.
//!
//! ```text
//!   │ 4 │ 5 │   │   │ 2 │ 3 │      next_run: 2, 3 up to the wrap; then next_run: 4, 5
//!   0                       7
//! ```
//!
//! For a loop of the caller's own, with one place that takes completions: a closure that is called
//! in one place is compiled into the loop. [`drain`](CompletionQueue::drain) calls its closure in
//! three.
//!
//! Keeps CQ3 and CQ4, and checks CQ2. Leaves to others: taking a single completion (`cq`).
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
use crate::orderings::Published;
use crate::process::Process;
use crate::slots::{Run, Slots};

impl CompletionQueue {
    /// The oldest completions that are in the queue now, up to where its slots wrap around: a
    /// second run has the rest. `None` on a ring whose completions are not all of 16 bytes, and in
    /// a forked child: use [`drain`](Self::drain) there.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn next_run(&mut self) -> Option<TakenRun<'_>> {
        // One load answers two questions: is the shape `Single`, and is this our process?
        let process = self.usual;
        if !process.is_this() {
            return None;
        }
        self.look_for_more();
        // SAFETY: ours: `tail` covers the slots (CQ3) and `head` has passed none (CQ4). They are
        // single, as was just checked. The run is gone before the queue, which it borrows.
        let run = unsafe { self.slots.run_apart(self.next, self.slots_ready()) };
        Some(TakenRun { queue: self, run, flags: CqeFlags::empty(), process })
    }

    /// The completion that is alone in the queue, without a run: the kernel gets its slot back at
    /// once. `None` if there are none or several, and where there are no [runs](Self::next_run).
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn next_alone(&mut self) -> Option<Cqe> {
        if !self.usual.is_this() {
            return None;
        }
        let end = self.tail.observe();
        let ready = end.distance_from(self.next);
        if ready != 1 {
            return None;
        }
        // CQ2, before the tail is used. One completion is in range, unless more were known.
        if self.next != self.known {
            self.check(end, ready);
        }
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4). It is
        // single, since `usual` is this process only if the shape is `CqeShape::Single`.
        let cqe = unsafe { self.slots.read_single(self.next) };
        (self.known, self.next, self.popped) = (end, end, self.popped + 1);
        self.more += u64::from(cqe.flags.contains(CqeFlags::MORE));
        self.head.publish(end); // CQ4
        Some(cqe)
    }

    /// Whether completions are known that the last run did not have.
    #[inline]
    pub fn has_known(&self) -> bool {
        self.next != self.known
    }

    /// Gives the slots of a run back, from which `count` completions with these flags were taken.
    #[inline]
    pub(super) fn took(&mut self, count: u32, flags: CqeFlags) {
        let from = self.next;
        self.next = from.advance(count);
        self.popped += u64::from(count);
        if !self.process.is_this() {
            return; // The slots are the parent's.
        }
        if flags.contains(CqeFlags::MORE) {
            // SAFETY: still ours, since they are not given back (CQ3, CQ4).
            self.more += unsafe { count_more(&self.slots, from, count) };
        }
        self.head.publish(self.next); // CQ4
    }

    /// [`took`](Self::took), while the caller's code panics.
    #[cold]
    #[inline(never)]
    fn took_some(&mut self, count: u32, flags: CqeFlags) {
        self.took(count, flags);
    }
}

/// Completions that are being taken: see [`CompletionQueue::next_run`]. The slots go back to the
/// kernel together, and count as popped, when this value is [finished](Self::finish) or dropped,
/// also while the caller's code panics. If it is forgotten, its completions come again.
#[derive(Debug)]
pub struct TakenRun<'a> {
    queue: &'a mut CompletionQueue,
    /// Single slots.
    run: Run<'a, Cqe>,
    /// All flags of the completions taken from the run, of which `MORE` matters.
    flags: CqeFlags,
    /// The process of the queue.
    process: Process,
}

impl TakenRun<'_> {
    /// The next completion, as `next` returns it, for a caller who looks at its flags in any case,
    /// and [notes](Self::note) those of each completion that has `MORE`.
    #[inline]
    pub fn next_unnoted(&mut self) -> Option<Cqe> {
        // The caller's code runs between two calls, and may have forked: the rest is the parent's.
        if !self.process.is_this() {
            return None;
        }
        self.run.next()
    }

    /// Notes flags of a completion that [`next_unnoted`](Self::next_unnoted) returned. If `MORE` is
    /// never noted, the completions of the run count as the last ones of their requests.
    #[inline]
    pub fn note(&mut self, flags: CqeFlags) {
        self.flags |= flags;
    }

    /// Gives the slots back, and returns how many completions were taken.
    #[inline]
    pub fn finish(self) -> u32 {
        let run = ManuallyDrop::new(self);
        let count = run.run.taken();
        // SAFETY: read once, since `run` is neither used nor dropped after.
        let queue = unsafe { core::ptr::read(&raw const run.queue) };
        queue.took(count, run.flags);
        count
    }
}

impl Iterator for TakenRun<'_> {
    type Item = Cqe;

    #[inline]
    fn next(&mut self) -> Option<Cqe> {
        let cqe = self.next_unnoted()?;
        self.note(cqe.flags);
        Some(cqe)
    }
}

impl Drop for TakenRun<'_> {
    #[inline]
    fn drop(&mut self) {
        self.queue.took_some(self.run.taken(), self.flags);
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
        let next = self.end.back(self.run.left());
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
            *self.next = self.end.back(self.run.left());
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
