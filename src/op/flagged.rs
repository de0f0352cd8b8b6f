//! Wrappers that set a flag of the entry: drained operations, and operations for a worker thread.
//!
//! | made by | flag | the operation begins |
//! |---|---|---|
//! | [`Op::drained`] | `IOSQE_IO_DRAIN` | when all earlier operations have completed |
//! | [`Op::forced`] | `IOSQE_ASYNC` | in a worker thread of the kernel (io-wq) |
//!
//! Leaves to others: chains (`ring::link`), and whether the ring may accept these (`ring`).
#![allow(unsafe_code, reason = "passes on the contract of the operation inside")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, SqeFlags};

use super::{Completion, Completions, Done, Multishot, Op, ResultKind, RingId};
use crate::lease::Source;

/// An operation that waits for all earlier ones: made by [`Op::drained`].
///
/// # Completion
///
/// As the operation inside.
///
/// # Cancellation
///
/// Not possible while it waits for other operations; see [`Op::drained`].
///
/// # Errors
///
/// As the operation inside.
#[derive(Debug)]
pub struct Drained<O>(O);

impl<O> Drained<O> {
    pub(super) fn new(op: O) -> Self {
        Self(op)
    }
}

/// An operation that runs in a worker thread: made by [`Op::forced`].
///
/// In a chain, the worker thread that ran it also runs the next step, and waits in it if that
/// blocks (seen on 6.18). On Linux 6.1 it may end with `ECANCELED` although nobody cancelled it, if
/// a signal is pending while its worker thread is made: submit it again.
///
/// # Completion
///
/// As the operation inside.
///
/// # Cancellation
///
/// As the operation inside, once the worker thread has begun it; a call that blocks there is
/// interrupted.
///
/// # Errors
///
/// As the operation inside, and `EINTR` where a cancel interrupts a call that blocks.
#[derive(Debug)]
pub struct Forced<O>(O);

impl<O> Forced<O> {
    pub(super) fn new(op: O) -> Self {
        Self(op)
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the flag only affects when it begins.
unsafe impl<O: Op> Op for Drained<O> {
    type Output = O::Output;
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = O::RESULT_KIND;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = true;

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.0.refusal()
    }

    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        self.0.is_offered_whole()
    }

    fn prep(&mut self) -> Sqe {
        let sqe = self.0.prep();
        Sqe { flags: sqe.flags | SqeFlags::IO_DRAIN, ..sqe }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.0.finish(done)
    }

    fn source(&self) -> Option<Source> {
        self.0.source().map(Source::behind)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    fn last_is_item(result: i32) -> bool {
        O::last_is_item(result)
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the flag only affects which thread runs
// it.
unsafe impl<O: Op> Op for Forced<O> {
    type Output = O::Output;
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = O::RESULT_KIND;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.0.refusal()
    }

    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        self.0.is_offered_whole()
    }

    fn prep(&mut self) -> Sqe {
        let sqe = self.0.prep();
        Sqe { flags: sqe.flags | SqeFlags::ASYNC, ..sqe }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.0.finish(done)
    }

    fn source(&self) -> Option<Source> {
        self.0.source().map(Source::forced)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    fn last_is_item(result: i32) -> bool {
        O::last_is_item(result)
    }
}

impl<O: Multishot> Multishot for Drained<O> {
    type Item = O::Item;

    fn item(completion: Completion) -> Self::Item {
        O::item(completion)
    }
}

impl<O: Multishot> Multishot for Forced<O> {
    type Item = O::Item;

    fn item(completion: Completion) -> Self::Item {
        O::item(completion)
    }
}
