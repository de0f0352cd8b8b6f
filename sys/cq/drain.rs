//! Draining: every completion that is ready, oldest first, and the slots given back together.
//!
//! ```text
//!   single slots   │ 0 │ 1 │ 2 │ 3 │      a run up to the wrap, then a run from slot 0
//!   others         │ 0     │ 1 │ 2     │  one step after the other
//! ```
//!
//! The flags of a run are gathered, and looked at one by one only if `MORE` is among them. A
//! completion that is alone is taken without a run.
//!
//! Keeps CQ3 and CQ4, and checks CQ2. Leaves to others: taking a single completion (`cq`).
//!
//! # Safety
//!
//! Reads only slots in `head..tail`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

use super::CompletionQueue;
use super::run::Taken;
use crate::abi::{Cqe, Cqe32};
use crate::flags::{CqeFlags, SqRingFlags};

impl CompletionQueue {
    /// Takes every completion that is in the queue now, oldest first. Returns how many there were,
    /// and the kernel's hints.
    ///
    /// A completion counts as popped before `each` sees it, even if `each` panics. The kernel gets
    /// the slots back together at the end, or in two steps if the completions wrap around to slot
    /// 0. If there is only one completion, it gets that slot back before `each` sees it.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> Batch {
        // One load answers two questions: is the shape `Single`, and is this our process?
        let process = self.usual;
        if !process.is_this() {
            // In place, and not in a function that `each` is passed to: so what it captures
            // stays in registers.
            let mut steps = Steps::of(self);
            let mut count = 0;
            while let Some(wide) = steps.next() {
                count += 1;
                each(wide.first);
            }
            return Batch::of(count, steps.hints());
        }
        let (mut at, end) = (self.next, self.tail.observe());
        let count = end.distance_from(at);
        // CQ2, before the tail is used. A single completion is always in range.
        if at != self.known {
            self.check(end, count);
        }
        if count != 1 && count > self.entries() {
            self.check(end, count);
        }
        self.known = end;
        let Self { head, next, slots, more, popped, hints, .. } = self;
        if count == 1 {
            // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4). It is
            // single, since `usual` is this process only if the shape is `CqeShape::Single`.
            let cqe = unsafe { slots.read_single(at) };
            (*next, *popped) = (end, *popped + 1);
            if cqe.flags.contains(CqeFlags::MORE) {
                *more += 1;
            }
            head.publish(end); // CQ4
            each(cqe);
            let hints = if process.is_this() { hints.now() } else { 0 };
            return Batch::of(count, SqRingFlags::from_bits_retain(hints));
        }
        if count == 0 {
            return Batch::of(count, SqRingFlags::from_bits_retain(hints.now()));
        }
        loop {
            // SAFETY: ours: `tail` covers the slots (CQ3) and `head` has passed none (CQ4). They
            // are single, since `usual` is this process only if the shape is `CqeShape::Single`.
            let run = unsafe { slots.run(at, end.distance_from(at)) };
            let from = at;
            at = from.advance(run.left());
            let flags = CqeFlags::empty();
            let mut taken =
                Taken { head, next, more, popped, slots, from, end: at, run, flags, process };
            for cqe in taken.run.by_ref() {
                taken.flags |= cqe.flags;
                each(cqe);
                if !process.is_this() {
                    drop(taken);
                    // We are in a forked child: the other completions belong to its parent.
                    let left = end.distance_from(*next);
                    return Batch::of(count - left, SqRingFlags::empty());
                }
            }
            taken.finish();
            if at == end {
                return Batch::of(count, SqRingFlags::from_bits_retain(hints.now()));
            }
        }
    }

    /// [`drain`](Self::drain), with the second 16 bytes of each completion.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    pub fn drain_wide(&mut self, mut each: impl FnMut(Cqe32)) -> Batch {
        let mut steps = Steps::of(self);
        let mut count = 0;
        while let Some(wide) = steps.next() {
            count += 1;
            each(wide);
        }
        Batch::of(count, steps.hints())
    }
}

/// What a drain found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many completions it took.
    pub count: u32,
    /// The kernel's hints when they were taken, as [`CompletionQueue::hints`].
    pub hints: SqRingFlags,
}

impl Batch {
    #[inline]
    pub(super) fn of(count: u32, hints: SqRingFlags) -> Self {
        Self { count, hints }
    }
}

/// What is ready, taken one completion after the other, of any width. In a forked child there is
/// nothing. Publishes `head` when dropped: at the end of a drain, or when the caller's code panics.
struct Steps<'a>(&'a mut CompletionQueue);

impl<'a> Steps<'a> {
    #[cold]
    fn of(ring: &'a mut CompletionQueue) -> Self {
        if ring.is_here() {
            ring.look_for_more();
        }
        Self(ring)
    }

    #[cold]
    fn next(&mut self) -> Option<Cqe32> {
        if self.0.is_here() { self.0.take_wide() } else { None }
    }

    fn hints(&self) -> SqRingFlags {
        self.0.hints()
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        if self.0.is_here() {
            self.0.head.publish(self.0.next); // CQ4
        }
    }
}
