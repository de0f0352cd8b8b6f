//! How one operation differs from others of its kind: its priority, and in whose name it runs.
//!
//! | made by | for | the entry's |
//! |---|---|---|
//! | [`Transfer::priority`] | reads and writes | `ioprio` |
//! | [`Op::acting_as`] | any operation | `personality` |
//!
//! Both stand around an operation, so that one without them pays nothing.
//!
//! Leaves to others: registering credentials
//! ([`Ring::register_personality`](crate::Ring::register_personality)).
#![allow(unsafe_code, reason = "hands on the entries of operations")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::Features;

use super::{Brings, Done, Multishot, Op, Read, ReadV, RingId, Shot, Shots, Write, WriteV};
use super::{ReadFixed, WriteFixed};
use crate::lease::Source;
use crate::register::Personality;

mod sealed {
    pub trait Sealed {}
}

/// The priority of a read or a write at its device, as in `ioprio_set(2)`. Schedulers of devices
/// may heed it. Since Linux 5.1.
#[doc(alias = "IOPRIO_PRIO_VALUE")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoPriority(u16);

/// Where in a priority the class begins.
const CLASS_SHIFT: u16 = 13;
/// The last of the levels of a class, which are 0, the highest, to 7.
const LAST_LEVEL: u16 = 7;

impl IoPriority {
    /// Only when nobody else uses the device.
    #[doc(alias = "IOPRIO_CLASS_IDLE")]
    pub const IDLE: Self = Self(3 << CLASS_SHIFT);

    const fn with(class: u16, level: u8) -> Self {
        let level = if level as u16 > LAST_LEVEL { LAST_LEVEL } else { level as u16 };
        Self(class << CLASS_SHIFT | level)
    }

    /// In turn with others, at a level of 0, the highest, to 7; 4 is what a process has that never
    /// chose. Larger numbers are taken for 7.
    #[doc(alias = "IOPRIO_CLASS_BE")]
    pub const fn best_effort(level: u8) -> Self {
        Self::with(2, level)
    }

    /// Before all others, at a level of 0, the highest, to 7. Needs `CAP_SYS_NICE`; `EPERM`
    /// otherwise. Larger numbers are taken for 7.
    #[doc(alias = "IOPRIO_CLASS_RT")]
    pub const fn real_time(level: u8) -> Self {
        Self::with(1, level)
    }

    /// The priority of these bits: class, hint and level. The kernel refuses what it does not know
    /// with `EINVAL`.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// As the kernel is told.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// Reads and writes, which have a priority. Implemented here only.
pub trait Transfer: Op + sealed::Sealed {
    /// The same, with a priority of its own; without, it has that of the thread.
    fn priority(self, priority: IoPriority) -> Prioritized<Self> {
        Prioritized { op: self, priority }
    }
}

impl<F, B> sealed::Sealed for Read<F, B> {}
impl<F, B> sealed::Sealed for Write<F, B> {}
impl<F, B> sealed::Sealed for ReadV<F, B> where Self: Op {}
impl<F, B> sealed::Sealed for WriteV<F, B> where Self: Op {}
impl<F> sealed::Sealed for ReadFixed<F> {}
impl<F> sealed::Sealed for WriteFixed<F> {}

impl<O: Op + sealed::Sealed> Transfer for O {}

/// A read or a write with a priority: made by [`Transfer::priority`]. Since Linux 5.1.
///
/// # Completion
///
/// As the operation inside.
///
/// # Cancellation
///
/// As the operation inside.
///
/// # Errors
///
/// `EPERM` for a priority that the process may not have, and `EINVAL` for one that there is not.
#[derive(Debug)]
pub struct Prioritized<O> {
    op: O,
    priority: IoPriority,
}

// SAFETY: OP1 to OP3 as the operation inside keeps them: a transfer, for which the field is a
// priority and nothing else.
unsafe impl<O: Transfer> Op for Prioritized<O> {
    type Output = O::Output;
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = O::BRINGS;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.op.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        Sqe { ioprio: self.priority.0, ..self.op.prep() }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.op.finish(done)
    }

    fn source(&self) -> Option<Source> {
        self.op.source()
    }
}

/// An operation that runs with other credentials: made by [`Op::acting_as`]. It is accepted on the
/// ring only that they are registered with. Since Linux 5.6.
///
/// # Completion
///
/// As the operation inside; with `EINVAL` when the credentials were unregistered.
///
/// # Cancellation
///
/// As the operation inside.
#[derive(Debug)]
pub struct ActingAs<O> {
    op: O,
    who: Personality,
}

impl<O> ActingAs<O> {
    pub(super) fn new(op: O, who: Personality) -> Self {
        Self { op, who }
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the field only says with whose rights it
// runs, and its number is of the ring that `belongs_to` compares.
unsafe impl<O: Op> Op for ActingAs<O> {
    type Output = O::Output;
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = O::BRINGS;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

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

impl<O: Multishot> Multishot for ActingAs<O> {
    type Item = O::Item;

    fn item(shot: Shot) -> Self::Item {
        O::item(shot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_class_and_a_level() {
        assert_eq!(IoPriority::real_time(0).bits(), 0x2000);
        assert_eq!(IoPriority::best_effort(4).bits(), 0x4004);
        assert_eq!(IoPriority::best_effort(u8::MAX), IoPriority::best_effort(7));
        assert_eq!(IoPriority::IDLE.bits(), 0x6000);
        assert_eq!(IoPriority::from_bits(u16::MAX).bits(), u16::MAX);
    }
}
