//! Operations with the credentials of somebody else: made by [`Op::on_behalf_of`].
//!
//! ```text
//!   Personal { op, who } ── prep ──► the entry of op, with `personality` set
//! ```
//!
//! The kernel takes the credentials on while it runs the request, and nowhere else. What it checks
//! is what the operation checks: permissions of paths when it opens them, not of files that are
//! open already.
//!
//! Leaves to others: registering credentials ([`Ring::register_personality`]).
//!
//! [`Ring::register_personality`]: crate::Ring::register_personality
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;

use super::{Brings, Done, Multishot, Op, RingId, Shot, Shots, Source};
use crate::register::Personality;

/// An operation with other credentials. It is accepted on the ring only that they are registered
/// with. Since Linux 5.6.
///
/// # Completion
///
/// As the operation inside; with `EINVAL` when the credentials were unregistered.
///
/// # Cancellation
///
/// As the operation inside.
#[derive(Debug)]
pub struct Personal<O> {
    op: O,
    who: Personality,
}

impl<O> Personal<O> {
    /// `op`, as `who`.
    pub(super) fn new(op: O, who: Personality) -> Self {
        Self { op, who }
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the number only says whose credentials it
// has.
unsafe impl<O: Op> Op for Personal<O> {
    type Output = O::Output;
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = O::BRINGS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.who.is_of(ring) && self.op.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        Sqe { personality: self.who.id(), ..self.op.prep() }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.op.finish(done)
    }

    fn source(&self) -> Option<Source> {
        self.op.source()
    }

    fn last_is_shot(result: i32) -> bool {
        O::last_is_shot(result)
    }
}

impl<O: Multishot> Multishot for Personal<O> {
    type Item = O::Item;

    fn item(shot: Shot) -> Self::Item {
        O::item(shot)
    }
}
