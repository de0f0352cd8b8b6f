//! Epoll: sets of files that are watched together, changed and waited for through the ring.
//!
//! ```text
//!   EpollCtl::add(epoll, file, event) ──► EPOLL_CTL  ──► watched
//!   EpollWait::new(epoll, events) ──────► EPOLL_WAIT ──► so many events were added to `events`
//! ```
//!
//! | operation | what | since |
//! |---|---|---|
//! | [`EpollCtl`] | adds a file to an epoll, changes what it is watched for, or removes it | Linux 5.6 |
//! | [`EpollWait`] | completes when the epoll has events, and brings them | Linux 6.15 |
//!
//! A ring needs no epoll: each operation waits for its own file. These are for programs that have
//! one already, and move to a ring step by step.
//!
//! Keeps OP1: the event, and the vector that events are written to, belong to the operation. Leaves
//! to others: making an epoll (`epoll_create1(2)`), which no operation does.
#![allow(unsafe_code, reason = "writes entries that point to events")]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use annulus_sys::abi::Sqe;

use super::poll::PollEvents;
use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::prep;

/// What a file is watched for, or what happened to it, with a word of the caller's choice.
#[doc(alias("epoll_event", "EPOLLIN"))]
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct EpollEvent(libc::epoll_event);

impl EpollEvent {
    /// Watches for `events`; `ERR` and `HUP` besides. What happens is reported with `data`, as long
    /// as it lasts.
    pub const fn new(events: PollEvents, data: u64) -> Self {
        Self(libc::epoll_event { events: events.bits(), u64: data })
    }

    const fn with(self, flag: i32) -> Self {
        let Self(libc::epoll_event { events, u64 }) = self;
        Self(libc::epoll_event { events: events | flag.cast_unsigned(), u64 })
    }

    /// Reports what happens once each time it happens, not as long as it lasts.
    #[doc(alias = "EPOLLET")]
    pub const fn edge_triggered(self) -> Self {
        self.with(libc::EPOLLET)
    }

    /// Reports once, and then nothing before it is [modified](EpollCtl::modify).
    #[doc(alias = "EPOLLONESHOT")]
    pub const fn one_shot(self) -> Self {
        self.with(libc::EPOLLONESHOT)
    }

    /// Of several epolls that watch one file so, one or more are woken, not all. Only when it is
    /// [added](EpollCtl::add).
    #[doc(alias = "EPOLLEXCLUSIVE")]
    pub const fn exclusive(self) -> Self {
        self.with(libc::EPOLLEXCLUSIVE)
    }

    /// The system does not suspend between this event and the next wait, if the process may ask for
    /// that (`CAP_BLOCK_SUSPEND`).
    #[doc(alias = "EPOLLWAKEUP")]
    pub const fn keep_awake(self) -> Self {
        self.with(libc::EPOLLWAKEUP)
    }

    /// What the file is watched for, or what happened to it.
    pub const fn events(&self) -> PollEvents {
        PollEvents::from_bits(self.0.events)
    }

    /// The word.
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

/// Changes what an epoll knows of a file. Since Linux 5.6.
///
/// Both are descriptors, and no [`FixedFile`](crate::lease::FixedFile): the kernel looks neither up
/// in the ring's table, and would take a number of that for a descriptor.
///
/// The epoll does not keep the file open: what was added is watched until its last descriptor is
/// closed, or it is removed.
///
/// # Completion
///
/// Once, with nothing.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled; unless it was [`forced`](Op::forced) and has not
/// begun.
///
/// # Errors
///
/// Those of `epoll_ctl(2)`: `EEXIST` for a file that is watched already, `ENOENT` for one that is
/// not, `EPERM` for one that cannot be watched (a regular file, a directory), `EINVAL` when the
/// first is no epoll, `ELOOP` when an epoll would watch itself.
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
    /// `epoll` watches `file` for `event` from now on.
    #[doc(alias = "EPOLL_CTL_ADD")]
    pub fn add(epoll: E, file: F, event: EpollEvent) -> Self {
        Self { epoll, file, op: libc::EPOLL_CTL_ADD, event }
    }

    /// `epoll`, which watches `file`, watches it for `event` and nothing else from now on.
    #[doc(alias = "EPOLL_CTL_MOD")]
    pub fn modify(epoll: E, file: F, event: EpollEvent) -> Self {
        Self { epoll, file, op: libc::EPOLL_CTL_MOD, event }
    }

    /// `epoll` does not watch `file` any more.
    #[doc(alias = "EPOLL_CTL_DEL")]
    pub fn remove(epoll: E, file: F) -> Self {
        let event = EpollEvent::new(PollEvents::from_bits(0), 0);
        Self { epoll, file, op: libc::EPOLL_CTL_DEL, event }
    }
}

// SAFETY: OP1: the address is of `event`, and both descriptors of their owners in place. It
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

/// How many events the kernel is ready to write at once.
const MOST_EVENTS: usize = i32::MAX as usize / size_of::<EpollEvent>();

/// Waits until an epoll has events. Since Linux 6.15.
///
/// Events are added to the vector, at most as many as it has room for without growing: clear it
/// before it is used again.
///
/// # Completion
///
/// Once, with how many events were added, one at least.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; no event is lost.
///
/// # Errors
///
/// `EINVAL` when the vector has no room, or the file is no epoll.
#[doc(alias("IORING_OP_EPOLL_WAIT", "io_uring_prep_epoll_wait"))]
#[derive(Debug)]
pub struct EpollWait<F> {
    epoll: F,
    events: Vec<EpollEvent>,
    offered: u32,
}

impl<F> EpollWait<F> {
    /// Waits for events of `epoll`, for which `events` has room.
    pub fn new(epoll: F, events: Vec<EpollEvent>) -> Self {
        Self { epoll, events, offered: 0 }
    }
}

// SAFETY: OP1: the address is of the vector's spare room, which stays where it is while nobody
// touches the vector, and the descriptor of `epoll`. It completes once, and `count` bounds what
// counts as written.
unsafe impl<F: Target> Op for EpollWait<F> {
    type Output = Outcome<usize, F, Vec<EpollEvent>>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.epoll.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let room = self.events.spare_capacity_mut();
        self.offered = u32::try_from(room.len().min(MOST_EVENTS)).unwrap_or(0);
        let addr = room.as_mut_ptr().expose_provenance() as u64;
        self.epoll.aim(prep::epoll_wait(-1, addr, self.offered))
    }

    fn finish(mut self, done: Done) -> Self::Output {
        let result = done.count(self.offered);
        if let Ok(count) = result {
            let len = self.events.len() + count;
            // SAFETY: the kernel has written so many events behind those that were there, and no
            // more than there was room for (OP1).
            unsafe { self.events.set_len(len) };
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
