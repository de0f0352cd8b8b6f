//! Wrappers that give one operation a priority, or other credentials.
//!
//! | made by | for | sets the entry's |
//! |---|---|---|
//! | [`Transfer::priority`] | reads and writes | `ioprio` |
//! | [`Op::acting_as`] | any operation | `personality` |
//!
//! Both wrap an operation, so that an operation without them pays nothing.
//!
//! Leaves to others: registering credentials
//! ([`Ring::register_personality`](crate::Ring::register_personality)).
#![allow(unsafe_code, reason = "changes entries of the operations inside")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::Features;

use crate::lease::Source;
use crate::op::{
    Completion, Completions, Done, Multishot, Op, Read, ReadV, ResultKind, RingId, Write, WriteV,
};
use crate::op::{ReadFixed, WriteFixed};
use crate::raw::register::Personality;

mod sealed {
    pub trait Sealed {}
}

/// The priority of a read or a write at its device, as in `ioprio_set(2)`. I/O schedulers may
/// honour it. Since Linux 5.1.
#[doc(alias = "IOPRIO_PRIO_VALUE")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoPriority(u16);

/// The bit at which the class begins (`IOPRIO_CLASS_SHIFT`); the level is below it.
const CLASS_SHIFT: u16 = 13;
/// The lowest level of a class; levels go from 0, the highest, to 7.
const LAST_LEVEL: u16 = 7;

impl IoPriority {
    /// Only when no other process uses the device.
    #[doc(alias = "IOPRIO_CLASS_IDLE")]
    pub const IDLE: Self = Self(3 << CLASS_SHIFT);

    const fn with(class: u16, level: u8) -> Self {
        let level = if level as u16 > LAST_LEVEL { LAST_LEVEL } else { level as u16 };
        Self(class << CLASS_SHIFT | level)
    }

    /// In turn with other processes, at a level from 0, the highest, to 7; a process that never
    /// chose a level has 4. Larger numbers count as 7.
    #[doc(alias = "IOPRIO_CLASS_BE")]
    pub const fn best_effort(level: u8) -> Self {
        Self::with(2, level)
    }

    /// Before all others, at a level from 0, the highest, to 7. Needs `CAP_SYS_NICE`; otherwise the
    /// operation ends with `EPERM`. Larger numbers count as 7.
    #[doc(alias = "IOPRIO_CLASS_RT")]
    pub const fn real_time(level: u8) -> Self {
        Self::with(1, level)
    }

    /// The priority with these bits: class, hint and level. The kernel refuses values that it does
    /// not know with `EINVAL`.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bits that the kernel sees.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// Reads and writes, which can have a priority. Sealed: only this crate implements it.
pub trait Transfer: Op + sealed::Sealed {
    /// Returns the operation with its own priority; otherwise it has that of the thread.
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
/// Only the scheduler of a disk looks at it, and not each one does. What comes from the page cache,
/// a pipe or a socket is not affected.
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
/// `EPERM` for a priority that the process may not use, and `EINVAL` for one that does not exist.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{IoPriority, Read, Transfer as _};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let program = File::open("/proc/self/exe")?;
/// let read = Read::new(program, [0; 4]).at(0).priority(IoPriority::IDLE);
/// let read = ring.submit(read)?;
/// assert_eq!(ring.wait(read)?.result?, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Prioritized<O> {
    op: O,
    priority: IoPriority,
}

// SAFETY: OP1 to OP3 as the operation inside keeps them: it is a transfer, which uses this field
// for its priority only.
unsafe impl<O: Transfer> Op for Prioritized<O> {
    type Output = O::Output;
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = O::RESULT_KIND;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.op.belongs_to(ring)
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.op.refusal()
    }

    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        self.op.is_offered_whole()
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

/// An operation that runs with other credentials: made by [`Op::acting_as`]. It is accepted only on
/// the ring that the credentials are registered with. Since Linux 5.6.
///
/// The credentials are those at the moment when they were registered, whatever has become of the
/// thread's since then.
///
/// # Completion
///
/// As the operation inside; `EINVAL` when the credentials were unregistered.
///
/// # Cancellation
///
/// As the operation inside.
///
/// # Errors
///
/// As the operation inside, for these credentials: `EACCES` where they are not enough.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, How, Op as _, OpenAt};
///
/// let mut ring = Setup::new(4).build()?;
/// let who = ring.register_personality()?; // The credentials of now, before they are given up.
/// let open = OpenAt::new(Cwd, c"/proc/self/comm", How::read()).acting_as(who);
/// let open = ring.submit(open)?;
/// assert!(ring.wait(open)?.result.is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "personality")]
#[derive(Debug)]
pub struct ActingAs<O> {
    op: O,
    who: Personality,
}

impl<O> ActingAs<O> {
    pub(in crate::op) fn new(op: O, who: Personality) -> Self {
        Self { op, who }
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the field only selects the credentials,
// and its number is of the ring that `belongs_to` compares.
unsafe impl<O: Op> Op for ActingAs<O> {
    type Output = O::Output;
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = O::RESULT_KIND;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.who.is_of(ring) && self.op.belongs_to(ring)
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.op.refusal()
    }

    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        self.op.is_offered_whole()
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

    fn last_is_item(result: i32) -> bool {
        O::last_is_item(result)
    }
}

impl<O: Multishot> Multishot for ActingAs<O> {
    type Item = O::Item;

    fn item(completion: Completion) -> Self::Item {
        O::item(completion)
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
