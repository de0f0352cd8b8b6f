//! The steps of a hostile history: what the kernel stores, and what we call.
#![allow(unsafe_code, reason = "plays the kernel, and pushes entries that point to nothing")]

use annulus_sys::abi::{Cqe, Sqe, Sqe128};
use annulus_sys::cq::{CompletionQueue, CqeShape};
use annulus_sys::flags::CqRingFlags;
use annulus_sys::index::Index;
use annulus_sys::sq::{SqeShape, SubmissionQueue};

use crate::support::fake_kernel::{FakeKernel, Shape};
use crate::support::panics::{OWN, survives};

/// What the kernel does between two of our calls.
#[derive(Debug, Clone, Copy)]
pub enum Theirs {
    SqHead(Aim),
    CqTail(Aim),
    SqFlags(u32),
    Counters(u32),
    /// Writes to a completion slot, without posting it.
    Cqe(u32, Cqe),
    /// Posts the completions that are in the slots already.
    Advance(u32),
}

/// Where the kernel moves an index.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    Anywhere(u32),
    /// So far behind our index, or ahead of it where the number wraps.
    Near(u32),
}

/// A call on one of our halves.
#[derive(Debug, Clone, Copy)]
pub enum Ours {
    Push,
    PushWith,
    PushWide,
    /// Reserves, then pushes so many entries, then as many wide ones.
    Reserve {
        count: u32,
        pushes: u32,
        wide: u32,
        commit: bool,
    },
    Flush,
    Consumed(u32),
    LookAtSq,
    Pop,
    PopWide,
    Drain,
    DrainWide,
    Runs(usize),
    Alone,
    Each(usize),
    /// Drains, and panics at this completion.
    DrainInto(u32),
    Ready,
    IterReady,
    LookAtCq,
    SetFlags(u32),
}

/// Does it.
pub fn theirs(what: Theirs, shape: Shape, kernel: &mut FakeKernel) {
    match what {
        Theirs::SqHead(aim) => {
            let ours = kernel.sq_tail.observe();
            kernel.sq_head.publish(at(aim, ours));
        }
        Theirs::CqTail(aim) => {
            let ours = kernel.cq_head.observe();
            kernel.cq_tail.publish(at(aim, ours));
        }
        Theirs::SqFlags(bits) => kernel.sq_flags.store(bits),
        Theirs::Counters(count) => {
            kernel.dropped.publish(Index::from_raw(count));
            kernel.overflow.publish(Index::from_raw(!count));
        }
        Theirs::Cqe(slot, cqe) => {
            let slot = Index::from_raw(slot);
            // SAFETY: no thread reads meanwhile, since there is one thread.
            unsafe { kernel.cqes.write(slot, cqe) };
            if shape.cqe == CqeShape::Double {
                // SAFETY: no thread reads meanwhile, since there is one thread; a wide entry.
                unsafe { kernel.cqes.write_rest(slot, cqe) };
            }
        }
        Theirs::Advance(count) => {
            let tail = kernel.cq_tail.last().advance(count);
            kernel.cq_tail.publish(tail);
        }
    }
}

fn at(aim: Aim, ours: Index) -> Index {
    match aim {
        Aim::Anywhere(raw) => Index::from_raw(raw),
        Aim::Near(distance) => ours.advance(distance),
    }
}

fn ours(what: Ours, sq: &mut SubmissionQueue, cq: &mut CompletionQueue) {
    match what {
        Ours::Push => {
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            let _ = unsafe { sq.push(Sqe::ZERO) };
        }
        Ours::PushWith => {
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            let _ = unsafe { sq.push_with(|sqe| sqe.user_data = 7) };
        }
        Ours::PushWide => {
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            let _ = unsafe { sq.push_wide(Sqe128::ZERO) };
        }
        Ours::Reserve { count, pushes, wide, commit } => {
            let Ok(mut reservation) = sq.reserve(count) else { return };
            for _ in 0..pushes {
                // SAFETY: the entry is a NOP, which points to nothing (OP1).
                let _ = unsafe { reservation.push(Sqe::ZERO) };
            }
            for _ in 0..wide {
                // SAFETY: the entry is a NOP, which points to nothing (OP1).
                let _ = unsafe { reservation.push_wide(Sqe128::ZERO) };
            }
            assert!(reservation.left() <= count);
            if commit {
                reservation.commit();
            }
        }
        Ours::Flush => assert!(sq.flush() <= sq.entries()),
        Ours::Consumed(count) => sq.consumed(count),
        Ours::LookAtSq => {
            let _ = (sq.indices(), sq.pushed(), sq.dropped(), sq.flags(), sq.needs_wakeup());
            let _ = (sq.entries(), sq.shape(), sq.memory(), format!("{sq:?}"));
            assert!(sq.unconsumed() <= sq.entries());
            assert!(sq.room() <= sq.entries());
        }
        Ours::Pop => {
            let _ = cq.pop().map(|cqe| cqe.result());
        }
        Ours::PopWide => {
            let _ = cq.pop_wide().map(|wide| wide.first.buffer_id());
        }
        Ours::Drain => assert!(cq.drain(|_| ()).count <= cq.entries()),
        Ours::DrainWide => assert!(cq.drain_wide(|_| ()).count <= cq.entries()),
        Ours::Alone => {
            let _ = cq.next_alone().map(|cqe| cqe.result());
        }
        Ours::Each(most) => assert!(cq.completions().take(most).count() <= most),
        Ours::Runs(most) => assert!(cq.next_run().is_none_or(|run| run.take(most).count() <= most)),
        Ours::DrainInto(most) => {
            let mut left = most;
            cq.drain(|_| {
                assert!(left > 0, "{OWN}");
                left -= 1;
            });
        }
        Ours::Ready => assert!(cq.ready() <= cq.entries()),
        Ours::IterReady => {
            let most = cq.entries() as usize;
            assert!(cq.iter_ready().count() <= most);
        }
        Ours::LookAtCq => {
            let _ = (cq.indices(), cq.ended(), cq.popped(), cq.overflow(), cq.hints());
            let _ = (cq.flags(), cq.shape(), cq.memory(), format!("{cq:?}"));
            let most = cq.entries() + u32::from(cq.shape() == CqeShape::Mixed);
            assert!(cq.slots_ready() <= most);
        }
        Ours::SetFlags(bits) => assert!(cq.set_flags(CqRingFlags::from_bits_retain(bits))),
    }
}

/// Like [`ours`]. Besides:
///
/// - A reservation that is not committed never was, even when the call unwinds (SQ3).
/// - A wide entry on a mixed ring does not go over its end (SQ2).
/// - What was ready stays so until it is popped, however far back the kernel goes (CQ2).
pub fn checked(what: Ours, sq: &mut SubmissionQueue, cq: &mut CompletionQueue) {
    let before = sq.indices().written;
    let tail = known(cq);
    let mut ended = false;
    survives(|| {
        ours(what, sq, cq);
        ended = true;
    });
    let after = sq.indices().written;
    let reserves = matches!(what, Ours::Reserve { .. });
    let commits = matches!(what, Ours::Reserve { commit: true, .. });
    if reserves && !(commits && ended) {
        assert_eq!(after, before, "what was not committed is kept");
    }
    let is_wide = matches!(what, Ours::PushWide) && sq.shape() == SqeShape::Mixed;
    if is_wide && after != before {
        let last = after.back(1).to_raw();
        assert_ne!(last & (sq.entries() - 1), 0, "a wide entry goes over the end of the ring");
    }
    let on = known(cq).distance_from(tail).cast_signed();
    // A mixed ring may be told of one half of a wide completion, which is named when it is popped.
    let is_plain = cq.shape() != CqeShape::Mixed;
    assert!(on >= 0 || !is_plain, "what was ready is not any more: {what:?}, {on}");
}

/// The last `tail` of the kernel's that was believed.
fn known(cq: &CompletionQueue) -> Index {
    cq.indices().head.advance(cq.slots_ready())
}

/// Reserves, and pushes while the kernel's head is elsewhere: what is not committed never was, even
/// when a push unwinds (SQ3).
pub fn meddled(
    (count, pushes): (u32, u32),
    aim: Aim,
    sq: &mut SubmissionQueue,
    kernel: &mut FakeKernel,
) {
    let (head, before) = (kernel.sq_head.last(), sq.indices().written);
    survives(|| {
        let Ok(mut reservation) = sq.reserve(count) else { return };
        // SAFETY: the entry is a NOP, which points to nothing (OP1).
        let _ = unsafe { reservation.push(Sqe::ZERO) };
        let ours = kernel.sq_tail.observe();
        kernel.sq_head.publish(at(aim, ours));
        for _ in 0..pushes {
            survives(|| {
                // SAFETY: the entry is a NOP, which points to nothing (OP1).
                let _ = unsafe { reservation.push(Sqe::ZERO) };
            });
            survives(|| {
                // SAFETY: the entry is a NOP, which points to nothing (OP1).
                let _ = unsafe { reservation.push_wide(Sqe128::ZERO) };
            });
        }
    });
    kernel.sq_head.publish(head);
    assert_eq!(sq.indices().written, before, "what was not committed is kept");
}
