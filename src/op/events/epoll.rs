//! Epoll through the ring: changing the set of watched files, and waiting for events.
//!
//! ```text
//!   EpollCtl::add(epoll, file, event) ──► EPOLL_CTL  ──► watched
//!   EpollWait::new(epoll, events) ──────► EPOLL_WAIT ──► events are appended to `events`
//! ```
//!
//! | operation | does | since |
//! |---|---|---|
//! | [`EpollCtl`] | adds a file to an epoll, changes its events, or removes it | Linux 5.6 |
//! | [`EpollWait`] | completes when the epoll has events, and returns them | Linux 6.15 |
//!
//! A ring needs no epoll, because each operation waits for its own file. These operations are for
//! programs that already have an epoll, and move to a ring step by step.
//!
//! Keeps OP1: the operations own the event, and the vector that events are written to. Leaves to
//! others: creating an epoll (`epoll_create1(2)`), for which there is no operation.
#![allow(unsafe_code, reason = "writes entries that point to events")]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use annulus_sys::abi::Sqe;

use super::poll_events::PollEvents;
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// The events to watch a file for, or the events that happened, together with a value of the
/// caller's choice.
#[doc(alias("epoll_event", "EPOLLIN"))]
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct EpollEvent(libc::epoll_event);

impl EpollEvent {
    /// Watches for `events`, and always for `ERR` and `HUP`. Events are reported with `data`, as
    /// long as the file stays ready (level-triggered).
    pub const fn new(events: PollEvents, data: u64) -> Self {
        Self(libc::epoll_event { events: events.bits(), u64: data })
    }

    const fn with(self, flag: i32) -> Self {
        let Self(libc::epoll_event { events, u64 }) = self;
        Self(libc::epoll_event { events: events | flag.cast_unsigned(), u64 })
    }

    /// Reports an event each time that it happens, not as long as the file stays ready.
    #[doc(alias = "EPOLLET")]
    pub const fn edge_triggered(self) -> Self {
        self.with(libc::EPOLLET)
    }

    /// Reports once, then nothing until the event is [modified](EpollCtl::modify).
    #[doc(alias = "EPOLLONESHOT")]
    pub const fn one_shot(self) -> Self {
        self.with(libc::EPOLLONESHOT)
    }

    /// If several epolls watch one file like this, an event wakes one or more of them, not all.
    /// Only for [`EpollCtl::add`].
    #[doc(alias = "EPOLLEXCLUSIVE")]
    pub const fn exclusive(self) -> Self {
        self.with(libc::EPOLLEXCLUSIVE)
    }

    /// Keeps the system from suspending between this event and the next wait, if the process has
    /// `CAP_BLOCK_SUSPEND`.
    #[doc(alias = "EPOLLWAKEUP")]
    pub const fn keep_awake(self) -> Self {
        self.with(libc::EPOLLWAKEUP)
    }

    /// The events to watch for, or the events that happened.
    pub const fn events(&self) -> PollEvents {
        PollEvents::from_bits(self.0.events)
    }

    /// The caller's value.
    pub const fn data(&self) -> u64 {
        self.0.u64
    }
}

impl fmt::Debug for EpollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpollEvent({:?}, {:#x})", self.events(), self.data())
    }
}

impl PartialEq for EpollEvent {
    fn eq(&self, other: &Self) -> bool {
        (self.events(), self.data()) == (other.events(), other.data())
    }
}

impl Eq for EpollEvent {}

/// Adds a file to an epoll, changes its events, or removes it: `epoll_ctl(2)`. Since Linux 5.6.
///
/// Both arguments are descriptors, never a [`FixedFile`](crate::lease::FixedFile): the kernel does
/// not look in the ring's file table here, and would take its index for a descriptor.
///
/// The epoll does not keep the file open: it is watched until its last descriptor is closed, or it
/// is removed.
///
/// # Completion
///
/// Once, without a value.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled, unless it was [`forced`](Op::forced) and has not
/// begun.
///
/// # Errors
///
/// Those of `epoll_ctl(2)`: `EEXIST` for a file that is already watched, `ENOENT` for one that is
/// not, `EPERM` for one that cannot be watched (a regular file, a directory), `EINVAL` when the
/// first descriptor is not an epoll, `ELOOP` when an epoll would watch itself.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{EpollCtl, EpollEvent, PollEvents};
/// use std::os::fd::{AsFd, OwnedFd};
///
/// fn watch(epoll: OwnedFd, file: impl AsFd + 'static) -> Result<(), Box<dyn std::error::Error>> {
///     let mut ring = Setup::new(4).build()?;
///     let event = EpollEvent::new(PollEvents::IN, 7).one_shot();
///     let added = ring.submit(EpollCtl::add(epoll, file, event)).map_err(|full| full.why)?;
///     ring.wait(added).map_err(|unfinished| unfinished.why)?.result?;
///     Ok(())
/// }
/// ```
#[doc(alias("IORING_OP_EPOLL_CTL", "io_uring_prep_epoll_ctl"))]
#[derive(Debug)]
pub struct EpollCtl<E, F> {
    epoll: E,
    file: F,
    op: i32,
    event: EpollEvent,
}

impl<E: AsFd, F: AsFd> EpollCtl<E, F> {
    /// Makes `epoll` watch `file` for `event`.
    #[doc(alias = "EPOLL_CTL_ADD")]
    pub fn add(epoll: E, file: F, event: EpollEvent) -> Self {
        Self { epoll, file, op: libc::EPOLL_CTL_ADD, event }
    }

    /// Makes `epoll`, which already watches `file`, watch it for `event` instead.
    #[doc(alias = "EPOLL_CTL_MOD")]
    pub fn modify(epoll: E, file: F, event: EpollEvent) -> Self {
        Self { epoll, file, op: libc::EPOLL_CTL_MOD, event }
    }

    /// Makes `epoll` stop watching `file`.
    #[doc(alias = "EPOLL_CTL_DEL")]
    pub fn remove(epoll: E, file: F) -> Self {
        let event = EpollEvent::new(PollEvents::from_bits(0), 0);
        Self { epoll, file, op: libc::EPOLL_CTL_DEL, event }
    }
}

// SAFETY: OP1: the address is of `event`, and both descriptors are of their owners in place. It
// completes once, with a number.
unsafe impl<E: AsFd, F: AsFd> Op for EpollCtl<E, F> {
    type Output = Outcome<(), E, F>;

    fn prep(&mut self) -> Sqe {
        let event = (&raw const self.event).expose_provenance() as u64;
        let (epoll, file) = (self.epoll.as_fd().as_raw_fd(), self.file.as_fd().as_raw_fd());
        prep::epoll_ctl(epoll, file, self.op.cast_unsigned(), event)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.epoll, buf: self.file }
    }
}

/// The largest number of events that the kernel accepts: their bytes must fit in an `int`.
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<EpollEvent>();

/// Waits until an epoll has events: `epoll_wait(2)`. Since Linux 6.15.
///
/// The vector is filled from the front, over its whole capacity, as a buffer is: its length is then
/// the number of events. So it can be used again as it is.
///
/// # Completion
///
/// Once, with the number of events, at least one.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; no event is lost.
///
/// # Errors
///
/// `EINVAL` when the vector has no capacity, or the file is not an epoll; and before Linux 6.15.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{EpollCtl, EpollEvent, EpollWait, PollEvents};
///
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::EPOLL_WAIT) {
/// #     return Ok(());
/// # }
/// # use std::io::Write;
/// # use std::os::fd::{FromRawFd, OwnedFd};
/// # use std::rc::Rc;
/// # // SAFETY: it takes only a number.
/// # let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
/// # assert!(epoll >= 0);
/// # // SAFETY: the descriptor is new, and nothing else owns it.
/// # let epoll = Rc::new(unsafe { OwnedFd::from_raw_fd(epoll) });
/// # let (reader, mut writer) = std::io::pipe()?;
/// let mut ring = Setup::new(4).build()?;
/// // `epoll` is an `Rc<OwnedFd>` of `epoll_create1(2)`; `reader` and `writer` are of a pipe.
/// let event = EpollEvent::new(PollEvents::IN, 7);
/// let added = ring.submit(EpollCtl::add(Rc::clone(&epoll), reader, event))?;
/// let added = ring.wait(added)?; // It has the reader, which must stay open.
/// added.result?;
/// writer.write_all(b"x")?;
/// let wait = ring.submit(EpollWait::new(epoll, Vec::with_capacity(16)))?;
/// let (count, events) = ring.wait(wait)?.ok()?;
/// assert_eq!((count, events[0].data()), (1, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_EPOLL_WAIT", "io_uring_prep_epoll_wait"))]
#[derive(Debug)]
pub struct EpollWait<F> {
    epoll: F,
    events: Vec<EpollEvent>,
    offered: u32,
}

impl<F> EpollWait<F> {
    /// Waits for events of `epoll`; `events` must have capacity.
    pub fn new(epoll: F, events: Vec<EpollEvent>) -> Self {
        Self { epoll, events, offered: 0 }
    }
}

// SAFETY: OP1: the address is of the vector's allocation, which stays in place as long as the
// vector is not touched, and the descriptor is of `epoll`. It completes once, and `count` bounds
// how many events count as written.
unsafe impl<F: Target> Op for EpollWait<F> {
    type Output = Outcome<usize, F, Vec<EpollEvent>>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.epoll.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.offered = u32::try_from(self.events.capacity().min(MAX_EVENTS)).unwrap_or(0);
        let addr = self.events.as_mut_ptr().expose_provenance() as u64;
        self.epoll.aim(prep::epoll_wait(-1, addr, self.offered))
    }

    fn finish(mut self, done: Done) -> Self::Output {
        let result = done.count(self.offered);
        if let Ok(count) = result {
            // SAFETY: the kernel has written this many events from the front, and no more than
            // there is capacity for (OP1).
            unsafe { self.events.set_len(count) };
        }
        Outcome { result, fd: self.epoll, buf: self.events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_word_whatever_it_is_told_besides() {
        let event = EpollEvent::new(PollEvents::IN, u64::MAX).edge_triggered().one_shot();
        let bits = (libc::EPOLLIN | libc::EPOLLET | libc::EPOLLONESHOT).cast_unsigned();
        assert_eq!((event.events().bits(), event.data()), (bits, u64::MAX));
        let other = EpollEvent::new(PollEvents::IN, 7).exclusive().keep_awake();
        let bits = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP).cast_unsigned();
        assert_eq!(other, EpollEvent::new(PollEvents::from_bits(bits), 7));
        assert_eq!(
            format!("{:?}", EpollEvent::new(PollEvents::OUT, 7)),
            "EpollEvent(PollEvents(OUT), 0x7)"
        );
    }

    #[test]
    fn no_more_events_are_offered_than_there_is_room_for() {
        let mut wait = EpollWait::new(std::io::stdin(), Vec::with_capacity(3));
        let room = u32::try_from(wait.events.capacity()).expect("a few");
        let sqe = wait.prep();
        assert_eq!((sqe.len, wait.offered), (room, room));
    }
}
