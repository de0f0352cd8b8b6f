//! Polls: requests that complete when a file is ready, without reading or writing it.
//!
//! | operation | completes | since |
//! |---|---|---|
//! | [`Poll`] | once, when one of the events is there | Linux 5.1 |
//! | [`PollMulti`] | each time that one of the events happens | Linux 5.13 |
//! | [`PollUpdate`] | once, after changing the events of either | Linux 5.13 |
//! | [`PollRemove`] | once, after ending either | Linux 5.1 |
//!
//! Reads, writes and other operations that wait for a file poll it themselves. A poll is for files
//! that other code will read or write. On a ring with `IOPOLL` it fails with `EINVAL`.
//!
//! Keeps OP2: no poll is given another `user_data`, and no update loses it. Leaves to others: what
//! to do with a file that is ready.
//!
//! `IORING_POLL_ADD_LEVEL` is left out, because the kernel defines it and refuses it (seen from
//! 5.10 to 7.3). To see that a file stays ready, submit one [`Poll`] after the other.
#![allow(unsafe_code, reason = "writes entries; asks whether a file can be waited for")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{PollFlags, SqeFlags};

use super::poll_events::PollEvents;
use crate::lease::ticket::Ticket;
use crate::op::ring::cancel::{CancelOutcome, Name, UpdateOutcome};
use crate::op::target::{Target, looks_again};
use crate::op::{
    Completion, Completions, Done, Ended, Ending, Forced, Multishot, Op, Outcome, RingId,
};
use crate::prep;

/// Wakes one of several polls of a file that have this flag. It is above the 16 bits of events.
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE.cast_unsigned();

/// Completes once, when a file is ready: `poll(2)`. Since Linux 5.1.
///
/// It reads nothing: when you look, the event may be gone, because somebody else was quicker. An
/// empty pipe whose other end is closed reports [`HUP`](PollEvents::HUP) without
/// [`IN`](PollEvents::IN), so test for both before you read the end.
///
/// # Completion
///
/// Once, with the events that are there, of those that were asked for and `ERR`, `HUP` and `RDHUP`.
/// At once if they are there already; a regular file is always ready.
///
/// # Cancellation
///
/// At once, by [`PollRemove`] or any other cancel.
///
/// # Errors
///
/// `ECANCELED` when it was removed or cancelled. `EINVAL` on a ring with `IOPOLL`.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Poll, PollEvents};
/// use std::io::Write;
///
/// let mut ring = Setup::new(4).build()?;
/// let (reader, mut writer) = std::io::pipe()?;
/// let poll = ring.submit(Poll::new(reader, PollEvents::IN))?;
/// writer.write_all(b"ready")?;
/// let polled = ring.wait(poll)?;
/// assert!(polled.result?.contains(PollEvents::IN));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_POLL_ADD")]
#[doc(alias = "io_uring_prep_poll_add")]
#[derive(Debug)]
pub struct Poll<F> {
    fd: F,
    mask: u32,
}

impl<F> Poll<F> {
    /// Waits for one of `events` on `fd`.
    pub fn new(fd: F, events: PollEvents) -> Self {
        Self { fd, mask: events.bits() & !EXCLUSIVE }
    }

    /// Of all exclusive waits for one file, in this ring or elsewhere, an event wakes only one
    /// (`EPOLLEXCLUSIVE`). Since Linux 5.9.
    pub fn exclusive(self) -> Self {
        Self { mask: self.mask | EXCLUSIVE, ..self }
    }
}

/// Makes a set of events from a result.
fn events(result: io::Result<u32>) -> io::Result<PollEvents> {
    result.map(PollEvents::from_bits)
}

// SAFETY: OP1: the entry points to nothing, and its descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Poll<F> {
    type Output = Outcome<PollEvents, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::poll_add(-1, self.mask))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: events(done.result()), fd: self.fd, buf: () }
    }
}

/// Completes each time that a file becomes ready. Since Linux 5.13.
///
/// It tells what is new, as an edge-triggered epoll does, and does not repeat itself for what was
/// left: read until there is nothing. The operations of the ring wait by themselves, so a poll
/// before each read only costs more.
///
/// # Completion
///
/// An item with the events that are there, each time that one of them happens, and once at the
/// beginning if one is there already. Several events close together may come as one item. While
/// nothing new happens there is no item, even if data is left to read. Then once more at the end,
/// with an [`Ending`].
///
/// A file that cannot be waited for, such as a regular file or `/dev/null`, is always ready, and
/// the kernel ends its poll at once, with success. That is reported as [`Ending::Failed`] with a
/// message, because submitting it again would loop forever. For a
/// [`FixedFile`](crate::lease::FixedFile) this case cannot be told from a full completion queue,
/// since there is no descriptor to ask with; it is reported as [`Ending::Stopped`]. Do not register
/// files that cannot be waited for.
///
/// # Cancellation
///
/// At once, by [`PollRemove`] or any other cancel. Items that were not taken are in
/// [`Ended::remaining`].
///
/// # Errors
///
/// [`Ending::Failed`] as above, and with `EINVAL` on a ring with `IOPOLL`.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{PollEvents, PollMulti};
/// use std::io::Write;
///
/// let mut ring = Setup::new(4).build()?;
/// let (reader, mut writer) = std::io::pipe()?;
/// let polls = ring.submit(PollMulti::new(reader, PollEvents::IN))?;
/// for _ in 0..2 {
///     writer.write_all(b"x")?;
///     let Some(events) = ring.next(&polls)? else { break }; // Linux 5.13
///     assert!(events.contains(PollEvents::IN));
/// }
/// ring.cancel(&polls)?;
/// println!("{:?}", ring.wait(polls)?.how);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_POLL_ADD", "IORING_POLL_ADD_MULTI"))]
#[doc(alias = "io_uring_prep_poll_multishot")]
#[derive(Debug)]
pub struct PollMulti<F> {
    fd: F,
    mask: u32,
}

impl<F> PollMulti<F> {
    /// Waits for `events` on `fd`, again and again.
    pub fn new(fd: F, events: PollEvents) -> Self {
        Self { fd, mask: events.bits() & !EXCLUSIVE }
    }

    /// As [`Poll::exclusive`].
    pub fn exclusive(self) -> Self {
        Self { mask: self.mask | EXCLUSIVE, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and its descriptor is of `fd`, which stays until the
// completion without `F_MORE`.
unsafe impl<F: Target> Op for PollMulti<F> {
    type Output = Ended<F, PollEvents>;
    const COMPLETIONS: Completions = Completions::Multishot;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        looks_again(&self.fd)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::poll_multishot(-1, self.mask))
    }

    fn finish(self, done: Done) -> Self::Output {
        let how = match Ending::of_things(&done) {
            // This is rare, so a few system calls for a correct answer are affordable.
            Ending::Stopped if never_waits(&self.fd) => {
                Ending::Failed(io::Error::new(io::ErrorKind::InvalidInput, ALWAYS_READY))
            }
            how => how,
        };
        Ended::new(how, self.fd, done, Self::item)
    }
}

/// Why a file that is always ready cannot be polled repeatedly.
const ALWAYS_READY: &str = "this file is always ready and cannot be waited for, as regular files \
    and /dev/null cannot; read or write it without a poll";

/// Whether `file` is known to be a file that cannot be waited for: `epoll_ctl(2)` refuses exactly
/// those files with `EPERM`.
fn never_waits(file: &impl Target) -> bool {
    let aimed = file.aim(Sqe::ZERO);
    if aimed.flags.contains(SqeFlags::FIXED_FILE) {
        return false;
    }
    // SAFETY: `epoll_create1` takes only numbers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return false;
    }
    // SAFETY: success means a new descriptor, which nothing else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let (watch, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: `event` is a local, so the pointer is to one live `struct epoll_event`; `file` keeps
    // its descriptor open (OP1).
    let added = unsafe { libc::epoll_ctl(watch, add, aimed.fd, &raw mut event) };
    added < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

impl<F: Target> Multishot for PollMulti<F> {
    type Item = PollEvents;

    fn item(completion: Completion) -> PollEvents {
        PollEvents::from_bits(completion.result().unwrap_or(0))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// The polls that a [`PollRemove`] can end: [`Poll`] and [`PollMulti`], also forced. A drained poll
/// is not one: later entries wait for it, and so would its removal.
pub trait AnyPoll: sealed::Sealed {}

impl<F> sealed::Sealed for Poll<F> {}
impl<F> sealed::Sealed for PollMulti<F> {}
impl<P: AnyPoll> sealed::Sealed for Forced<P> {}
impl<F> AnyPoll for Poll<F> {}
impl<F> AnyPoll for PollMulti<F> {}
impl<P: AnyPoll> AnyPoll for Forced<P> {}

/// Ends a poll. Since Linux 5.1.
///
/// It races with the event: what became of the poll, only the poll's own output tells.
///
/// # Completion
///
/// Once, with a [`CancelOutcome`]. The poll that it found completes with `ECANCELED`.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// None of its own: [`CancelOutcome::NotFound`] for a poll that has ended,
/// [`CancelOutcome::TooLate`] for one that is just completing.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Poll, PollEvents, PollRemove};
///
/// let mut ring = Setup::new(4).build()?;
/// let (silent, _writer) = std::io::pipe()?;
/// let poll = ring.submit(Poll::new(silent, PollEvents::IN))?;
/// let remove = ring.submit(PollRemove::new(&poll))?;
/// assert_eq!(ring.wait(remove)?.count(), 1);
/// assert!(ring.wait(poll)?.result.is_err()); // ECANCELED
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_POLL_REMOVE")]
#[doc(alias = "io_uring_prep_poll_remove")]
#[derive(Debug)]
pub struct PollRemove(Name);

impl PollRemove {
    /// Ends the poll of `ticket`. Accepted only on the ring of that poll.
    pub fn new<P: AnyPoll>(ticket: &Ticket<P>) -> Self {
        Self(Name::of(ticket))
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; `belongs_to` checks that the poll
// that it names is on this ring (OP2).
unsafe impl Op for PollRemove {
    type Output = CancelOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::poll_remove(self.0.user_data)
    }

    fn finish(self, done: Done) -> CancelOutcome {
        CancelOutcome::of_one(&done)
    }
}

/// Changes the events of a [`PollMulti`]. Since Linux 5.13. If one of the new events is there
/// already, the poll posts an item at once.
///
/// To change a [`Poll`], which completes once, see [`Ring::poll_update`](crate::Ring::poll_update):
/// some kernels would forget it.
///
/// # Completion
///
/// Once, with an [`UpdateOutcome`].
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
///
/// # Errors
///
/// [`UpdateOutcome::NotFound`] for a poll that has ended, [`UpdateOutcome::TooLate`] for one that
/// is just completing, [`UpdateOutcome::Failed`] with `EINVAL` before Linux 5.13.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{PollEvents, PollMulti, PollUpdate, UpdateOutcome};
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(4).build()?;
/// let (ours, _theirs) = UnixStream::pair()?;
/// let polls = ring.submit(PollMulti::new(ours, PollEvents::IN))?;
/// let update = ring.submit(PollUpdate::new(&polls, PollEvents::OUT))?;
/// if let UpdateOutcome::Updated = ring.wait(update)? { // Linux 5.13
///     let events = ring.next(&polls)?.expect("there is room to write");
///     assert!(events.contains(PollEvents::OUT));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_POLL_REMOVE", "IORING_POLL_UPDATE_EVENTS"))]
#[doc(alias = "io_uring_prep_poll_update")]
#[derive(Debug)]
pub struct PollUpdate {
    name: Name,
    events: PollEvents,
    flags: PollFlags,
}

impl PollUpdate {
    /// Makes the poll of `ticket` wait for `events` from now on. Accepted only on the ring of that
    /// poll.
    pub fn new<F>(ticket: &Ticket<PollMulti<F>>, events: PollEvents) -> Self {
        // io_uring_prep_poll_update(3) asks callers to repeat the multishot flag; the kernel keeps
        // it in any case.
        let flags = PollFlags::UPDATE_EVENTS | PollFlags::ADD_MULTI;
        Self { name: Name::of(ticket), events, flags }
    }

    /// The same for a poll that completes once, on a kernel that does not forget it.
    pub(crate) fn single<F>(ticket: &Ticket<Poll<F>>, events: PollEvents) -> Self {
        Self { name: Name::of(ticket), events, flags: PollFlags::UPDATE_EVENTS }
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; `belongs_to` checks that the poll
// that it names is on this ring, and the poll keeps its `user_data` (OP2).
unsafe impl Op for PollUpdate {
    type Output = UpdateOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.name.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::poll_update(self.name.user_data, 0, self.events.bits(), self.flags)
    }

    fn finish(self, done: Done) -> UpdateOutcome {
        UpdateOutcome::of(&done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op2_an_update_changes_events_and_no_word() {
        let ticket = Ticket::<PollMulti<()>>::new(7, RingId(std::num::NonZero::<u32>::MIN));
        let sqe = PollUpdate::new(&ticket, PollEvents::OUT).prep();
        let flags = PollFlags::from_bits_retain(sqe.len);
        assert_eq!((sqe.addr, sqe.off, sqe.op_flags), (ticket.user_data(), 0, 4));
        assert!(!flags.contains(PollFlags::UPDATE_USER_DATA));
        let ticket = Ticket::<Poll<()>>::new(7, RingId(std::num::NonZero::<u32>::MIN));
        let sqe = PollUpdate::single(&ticket, PollEvents::OUT).prep();
        let flags = PollFlags::from_bits_retain(sqe.len);
        assert_eq!((sqe.addr, flags), (ticket.user_data(), PollFlags::UPDATE_EVENTS));
    }
}
