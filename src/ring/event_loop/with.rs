//! An operation and its closure, side by side in a slot.
//!
//! ```text
//!   slot   │ With { op: Recv { fd, buf, .. }, then: closure } │
//!                   the kernel's meanwhile     ours alone
//! ```
//!
//! Keeps OP1: the operation lies at a fixed place, and a call of the closure touches no byte of it.
#![allow(unsafe_code, reason = "passes on the contract of the operation inside")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::Features;

use crate::lease::Source;
use crate::op::{Completions, Done, Op, PAYLOAD, ResultKind, RingId};

/// An operation, and what follows it.
#[derive(Debug)]
pub struct With<O, F> {
    pub(super) op: O,
    pub(super) then: F,
}

impl<O, F> With<O, F> {
    pub(super) fn new(op: O, then: F) -> Self {
        const {
            assert!(
                size_of::<Self>() <= PAYLOAD,
                "the operation and what its closure captures do not fit a slot of 256 bytes: \
                 capture a Box or an Rc of it"
            );
        }
        Self { op, then }
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the closure is not the kernel's.
unsafe impl<O: Op, F> Op for With<O, F> {
    type Output = (O::Output, F);
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = O::RESULT_KIND;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.op.refusal()
    }

    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        self.op.is_offered_whole()
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        self.op.prep()
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        (self.op.finish(done), self.then)
    }

    fn source(&self) -> Option<Source> {
        self.op.source()
    }

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.op.belongs_to(ring)
    }

    fn last_is_item(result: i32) -> bool {
        O::last_is_item(result)
    }
}
