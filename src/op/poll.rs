//! Polls: requests that complete when a file is ready, and leave it as it is.
//!
//! | operation | completes | since |
//! |---|---|---|
//! | [`Poll`] | once, when one of the events is there | Linux 5.1 |
//! | [`PollMulti`] | each time that one of them comes | Linux 5.13 |
//! | [`PollUpdate`] | changes the events of a `PollMulti` | Linux 5.13 |
//! | [`PollRemove`] | ends either | Linux 5.1 |
//!
//! Reads, writes and what else waits for a file poll it themselves: a poll is for files that
//! somebody else is to read. On a ring with `IOPOLL` it fails with `EINVAL`.
//!
//! Keeps OP2: no poll is given another word, and no update loses one. Leaves to others: what to do
//! with a file that is ready.
//!
//! Not here: `IORING_POLL_ADD_LEVEL`, which the kernel defines and refuses (seen from 5.10 to 7.3).
//! A level that stays is seen by a [`Poll`] at a time.
#![allow(unsafe_code, reason = "writes entries; asks whether a file can be waited for")]

use std::fmt;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{PollFlags, SqeFlags};

use super::cancel::{CancelOutcome, Name, UpdateOutcome};
use super::target::Target;
use super::{Done, Ended, Ending, Forced, Multishot, Op, Outcome, RingId, Shot, Shots};
use crate::prep;
use crate::ticket::Ticket;

/// What a file may be ready for: `POLLIN` and the others. A set; unknown bits stay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PollEvents(u32);

impl PollEvents {
    /// There is something to read, or the end.
    #[doc(alias = "POLLIN")]
    pub const IN: Self = Self(libc::EPOLLIN.cast_unsigned());
    /// There is something urgent to read.
    #[doc(alias = "POLLPRI")]
    pub const PRI: Self = Self(libc::EPOLLPRI.cast_unsigned());
    /// There is room to write.
    #[doc(alias = "POLLOUT")]
    pub const OUT: Self = Self(libc::EPOLLOUT.cast_unsigned());
    /// Something is wrong with it. Never needs to be asked for.
    #[doc(alias = "POLLERR")]
    pub const ERR: Self = Self(libc::EPOLLERR.cast_unsigned());
    /// The other side is gone. Never needs to be asked for.
    #[doc(alias = "POLLHUP")]
    pub const HUP: Self = Self(libc::EPOLLHUP.cast_unsigned());
    /// There is something to read; a second name for [`IN`](Self::IN), which Linux up to 5.13
    /// reports beside it.
    #[doc(alias = "POLLRDNORM")]
    pub const RDNORM: Self = Self(libc::EPOLLRDNORM.cast_unsigned());
    /// There is room to write; a second name for [`OUT`](Self::OUT).
    #[doc(alias = "POLLWRNORM")]
    pub const WRNORM: Self = Self(libc::EPOLLWRNORM.cast_unsigned());
    /// The other side will write no more. Never needs to be asked for.
    #[doc(alias = "POLLRDHUP")]
    pub const RDHUP: Self = Self(libc::EPOLLRDHUP.cast_unsigned());

    /// The names, for [`Debug`](fmt::Debug).
    const NAMES: [(&str, Self); 8] = [
        ("IN", Self::IN),
        ("PRI", Self::PRI),
        ("OUT", Self::OUT),
        ("ERR", Self::ERR),
        ("HUP", Self::HUP),
        ("RDNORM", Self::RDNORM),
        ("WRNORM", Self::WRNORM),
        ("RDHUP", Self::RDHUP),
    ];

    /// The events of these bits, of `poll(2)`.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits, of `poll(2)`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Those of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for PollEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Debug for PollEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = Self::NAMES.into_iter().filter(|(_, event)| self.contains(*event));
        let unnamed = here.clone().fold(self.0, |bits, (_, event)| bits & !event.0);
        let mut names: Vec<String> = here.map(|(name, _)| name.to_owned()).collect();
        if unnamed != 0 {
            names.push(format!("{unnamed:#x}"));
        }
        write!(f, "PollEvents({})", names.join(" | "))
    }
}

/// Of several polls that have it on one file, one is woken. Above the sixteen bits that are events.
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE.cast_unsigned();

/// Completes when a file is ready. Since Linux 5.1.
///
/// # Completion
///
/// Once, with the events that are there: of those that were asked for, and `ERR`, `HUP` and `RDHUP`
/// besides. At once if they are there already; a regular file is always ready.
///
/// # Cancellation
///
/// At once, by [`PollRemove`] as by any other cancel.
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
        Self { fd, mask: events.0 & !EXCLUSIVE }
    }

    /// Of all who wait so for one file, in this ring or elsewhere, only one is woken at a time
    /// (`EPOLLEXCLUSIVE`). Since Linux 5.9.
    pub fn exclusive(self) -> Self {
        Self { mask: self.mask | EXCLUSIVE, ..self }
    }
}

/// The events of a result.
fn events(result: io::Result<u32>) -> io::Result<PollEvents> {
    result.map(PollEvents)
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
/// # Completion
///
/// With the events that are there, each time that one of them comes, and once at the beginning if
/// one is there already. Several that come close together may come as one; and while nothing new
/// comes, it stays silent, whatever is left to read. At last with the reason.
///
/// A file that cannot be waited for, such as a regular one or `/dev/null`, is always ready, and the
/// kernel ends the poll of one at once, with success. That is [`Ending::Failed`] here, with words;
/// to submit it anew would be a loop without end. Of a [`FixedFile`](crate::lease::FixedFile),
/// which only the ring can look up, and where no descriptor is left to ask with, it cannot be told
/// from a full completion ring, and is [`Ending::Stopped`]: do not register what cannot be waited
/// for.
///
/// # Cancellation
///
/// At once, by [`PollRemove`] as by any other cancel. What had come and nobody took is in
/// [`Ended::left`].
#[doc(alias = "IORING_POLL_ADD_MULTI")]
#[doc(alias = "io_uring_prep_poll_multishot")]
#[derive(Debug)]
pub struct PollMulti<F> {
    fd: F,
    mask: u32,
}

impl<F> PollMulti<F> {
    /// Waits for `events` on `fd`, again and again.
    pub fn new(fd: F, events: PollEvents) -> Self {
        Self { fd, mask: events.0 & !EXCLUSIVE }
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
    const SHOTS: Shots = Shots::Many;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::poll_multishot(-1, self.mask))
    }

    fn finish(self, done: Done) -> Self::Output {
        let how = match Ending::of_things(&done) {
            // Rare, so what is right for the caller may cost a few calls.
            Ending::Stopped if never_waits(&self.fd) => {
                Ending::Failed(io::Error::new(io::ErrorKind::InvalidInput, ALWAYS_READY))
            }
            how => how,
        };
        Ended::new(how, self.fd, done, Self::item)
    }
}

/// Why a file that is always ready is polled once at most.
const ALWAYS_READY: &str = "this file is always ready and cannot be waited for, as regular files \
    and /dev/null cannot; read or write it without a poll";

/// Whether `file` is known to be one that cannot be waited for: `epoll_ctl(2)` refuses exactly
/// those with `EPERM`.
fn never_waits(file: &impl Target) -> bool {
    let aimed = file.aim(Sqe::ZERO);
    if aimed.flags.contains(SqeFlags::FIXED_FILE) {
        return false;
    }
    // SAFETY: takes numbers only, because that is its signature.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return false;
    }
    // SAFETY: a new descriptor that nobody else owns, because that is what success means.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let (watch, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: one live `struct epoll_event`, because `event` is a local; `file` keeps its
    // descriptor open (OP1).
    let added = unsafe { libc::epoll_ctl(watch, add, aimed.fd, &raw mut event) };
    added < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

impl<F: Target> Multishot for PollMulti<F> {
    type Item = PollEvents;

    fn item(shot: Shot) -> PollEvents {
        PollEvents(shot.result().unwrap_or(0))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// [`Poll`] and [`PollMulti`], also forced: what can be removed as a poll. Not a drained one: what
/// comes after it waits for it, and its removal would.
pub trait AnyPoll: sealed::Sealed {}

impl<F> sealed::Sealed for Poll<F> {}
impl<F> sealed::Sealed for PollMulti<F> {}
impl<P: AnyPoll> sealed::Sealed for Forced<P> {}
impl<F> AnyPoll for Poll<F> {}
impl<F> AnyPoll for PollMulti<F> {}
impl<P: AnyPoll> AnyPoll for Forced<P> {}

/// Ends a poll. Since Linux 5.1.
///
/// # Completion
///
/// Once, with a [`CancelOutcome`]. What it found completes with `ECANCELED`.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
#[doc(alias = "IORING_OP_POLL_REMOVE")]
#[doc(alias = "io_uring_prep_poll_remove")]
#[derive(Debug)]
pub struct PollRemove(Name);

impl PollRemove {
    /// Ends the poll that `ticket` is of. It is accepted on that one's ring only.
    pub fn new<P: AnyPoll>(ticket: &Ticket<P>) -> Self {
        Self(Name::of(ticket))
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; what it names is of this ring, which
// `belongs_to` sees to (OP2).
unsafe impl Op for PollRemove {
    type Output = CancelOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::poll_remove(self.0.word)
    }

    fn finish(self, done: Done) -> CancelOutcome {
        CancelOutcome::of_one(&done)
    }
}

/// Lets a [`PollMulti`] wait for other events. Since Linux 5.13. It completes at once for those
/// that are there already.
///
/// A [`Poll`] cannot be changed, only removed: when the new events are there already, kernels from
/// 6.0 on forget it, and it never completes (seen up to 6.16; mended in 6.18 and in later releases
/// of older series).
///
/// # Completion
///
/// Once, with an [`UpdateOutcome`].
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
#[doc(alias = "IORING_POLL_UPDATE_EVENTS")]
#[doc(alias = "io_uring_prep_poll_update")]
#[derive(Debug)]
pub struct PollUpdate {
    name: Name,
    events: PollEvents,
}

impl PollUpdate {
    /// Lets the poll that `ticket` is of wait for `events` from now on. It is accepted on that
    /// one's ring only.
    pub fn new<F>(ticket: &Ticket<PollMulti<F>>, events: PollEvents) -> Self {
        Self { name: Name::of(ticket), events }
    }
}

// SAFETY: OP1: the entry points to nothing. It completes once; what it names is of this ring, which
// `belongs_to` sees to, and keeps its word (OP2).
unsafe impl Op for PollUpdate {
    type Output = UpdateOutcome;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.name.ring == ring
    }

    fn prep(&mut self) -> Sqe {
        // io_uring_prep_poll_update(3) wants it said anew that it completes many times; the kernel
        // keeps that in any case.
        let flags = PollFlags::UPDATE_EVENTS | PollFlags::ADD_MULTI;
        prep::poll_update(self.name.word, 0, self.events.0, flags)
    }

    fn finish(self, done: Done) -> UpdateOutcome {
        UpdateOutcome::of(&done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_by_name_and_unknown_ones_by_number() {
        let events = PollEvents::IN | PollEvents::RDHUP | PollEvents::from_bits(0x800);
        assert_eq!(format!("{events:?}"), "PollEvents(IN | RDHUP | 0x800)");
        assert_eq!(format!("{:?}", PollEvents::default()), "PollEvents()");
    }

    #[test]
    fn a_set_tells_all_from_any() {
        let both = PollEvents::IN | PollEvents::OUT;
        assert!(both.contains(PollEvents::OUT) && !PollEvents::OUT.contains(both));
        assert!(both.intersects(PollEvents::OUT) && !both.intersects(PollEvents::PRI));
        assert!(PollEvents::default().is_empty() && !both.is_empty());
    }

    #[test]
    fn op2_an_update_changes_events_and_no_word() {
        let ticket = Ticket::<PollMulti<()>>::new(7, RingId(std::num::NonZero::<u32>::MIN));
        let sqe = PollUpdate::new(&ticket, PollEvents::OUT).prep();
        let flags = PollFlags::from_bits_retain(sqe.len);
        assert_eq!((sqe.addr, sqe.off, sqe.op_flags), (ticket.word(), 0, 4));
        assert!(!flags.contains(PollFlags::UPDATE_USER_DATA));
    }
}
