//! Cancelling at once: without an entry, and with a wait for the end of what was found.
//!
//! ```text
//!   CancelNow::fd(socket).all().within(1 s) ─► the kernel looks, and interrupts ─┬─ Ended(n)
//!                                              waits for what runs in a worker   ├─ NotFound
//!                                                                                └─ TimedOut
//! ```
//!
//! An entry that cancels waits in the submission ring for its turn, and behind one that waits for
//! all before it (`IO_DRAIN`) for very long. This goes past the ring. What it found completes all
//! the same, with `ECANCELED` or with what it had done: only that completion gives memory back.
//!
//! | finds | by | since |
//! |---|---|---|
//! | [`CancelNow::word`] | `user_data` | Linux 6.0 |
//! | [`CancelNow::fd`], [`CancelNow::fixed`] | file | Linux 6.0 |
//! | [`CancelNow::any`] | nothing: all of them | Linux 6.0 |
//! | [`CancelNow::opcode`] | what it does | Linux 6.6 |
//!
//! Leaves to others: cancelling by an entry ([`Cancel`](crate::op::Cancel)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use annulus_sys::abi::Timespec;
use annulus_sys::abi_register::SyncCancelReg;
use annulus_sys::errno::Errno;
use annulus_sys::flags::CancelFlags;
use annulus_sys::opcode::{Opcode, RegisterOp};

use super::call::Call;
use crate::error::{EnterCause, EnterError};
use crate::lease::RegisterError;
use crate::raw::RawRing;
use crate::ring::Ring;
use crate::ticket::Ticket;

/// In both fields of the time: for ever.
const FOR_EVER: Timespec = Timespec { tv_sec: -1, tv_nsec: -1 };

/// Which requests are to end, and how long to wait for that: for ever, unless it is said.
#[doc(alias = "io_uring_sync_cancel_reg")]
#[derive(Debug, Clone, Copy)]
pub struct CancelNow<'f> {
    reg: SyncCancelReg,
    file: PhantomData<BorrowedFd<'f>>,
}

/// What became of it. On a ring with a polling thread, of what that thread's workers run, only
/// [`Ring::cancel_now`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what did not end still uses its memory"]
pub enum EndedNow {
    /// So many were found, and are about to complete. When [all](CancelNow::all) were meant, 0 may
    /// also say that some were found and have ended meanwhile.
    Ended(u32),
    /// There was none: it has ended, or was not submitted. Nor is found what waits because of a
    /// [drained](crate::op::Op::drained) one, or is just being handed to a worker.
    NotFound,
    /// One was found and interrupted, and did not end in time; or it has ended, and that is held
    /// back until the ring asks for it (`DEFER_TASKRUN`, unless [`Ring::cancel_now`] says it).
    TimedOut,
}

impl<'f> CancelNow<'f> {
    const fn new(flags: CancelFlags) -> Self {
        let reg = SyncCancelReg {
            addr: 0,
            fd: -1,
            flags,
            timeout: FOR_EVER,
            opcode: Opcode(0),
            pad: [0; 7],
            pad2: [0; 3],
        };
        Self { reg, file: PhantomData }
    }

    /// The first request that is found with this `user_data`.
    pub const fn word(word: u64) -> Self {
        let new = Self::new(CancelFlags::empty());
        Self { reg: SyncCancelReg { addr: word, ..new.reg }, ..new }
    }

    /// The first that is found on the file behind `fd`, however it names the file.
    #[doc(alias = "IORING_ASYNC_CANCEL_FD")]
    pub fn fd(fd: BorrowedFd<'f>) -> Self {
        let new = Self::new(CancelFlags::FD);
        Self { reg: SyncCancelReg { fd: fd.as_raw_fd(), ..new.reg }, ..new }
    }

    /// The first that is found on the file at this place in the table of files.
    #[doc(alias = "IORING_ASYNC_CANCEL_FD_FIXED")]
    pub const fn fixed(index: u32) -> Self {
        let new = Self::new(CancelFlags::FD.union(CancelFlags::FD_FIXED));
        Self { reg: SyncCancelReg { fd: index.cast_signed(), ..new.reg }, ..new }
    }

    /// The first that is found of this operation. Since Linux 6.6.
    #[doc(alias = "IORING_ASYNC_CANCEL_OP")]
    pub const fn opcode(opcode: Opcode) -> Self {
        let new = Self::new(CancelFlags::OP);
        Self { reg: SyncCancelReg { opcode, ..new.reg }, ..new }
    }

    /// All that there are.
    #[doc(alias = "IORING_ASYNC_CANCEL_ANY")]
    pub const fn any() -> Self {
        Self::new(CancelFlags::ANY.union(CancelFlags::ALL))
    }

    /// Not only the first: all that are found so.
    #[doc(alias = "IORING_ASYNC_CANCEL_ALL")]
    #[must_use]
    pub const fn all(self) -> Self {
        let flags = self.reg.flags.union(CancelFlags::ALL);
        Self { reg: SyncCancelReg { flags, ..self.reg }, ..self }
    }

    /// How long to wait for one that runs already. Zero does not wait.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        // The kernel takes no wait for one that is over: the shortest that there is.
        let timeout = Timespec::from(time.max(Duration::from_nanos(1)));
        Self { reg: SyncCancelReg { timeout, ..self.reg }, ..self }
    }
}

impl RawRing {
    /// Asks for the end of requests, at once. It finds those only that were submitted, by whichever
    /// thread; and of those that a worker of a polling thread runs, none. Since Linux 6.0.
    ///
    /// With `DEFER_TASKRUN` a worker's request that ends does not end this call: use short waits,
    /// and [`get_events`](Self::get_events) between them.
    ///
    /// # Errors
    ///
    /// `EINTR` when a signal ended the wait; `EBADF` for a place without a file.
    #[doc(alias = "IORING_REGISTER_SYNC_CANCEL")]
    #[doc(alias = "io_uring_register_sync_cancel")]
    pub fn cancel_now(&self, what: &CancelNow<'_>) -> Result<EndedNow, RegisterError> {
        let mut reg = what.reg;
        let reason = "this kernel does not find by that: by operation needs Linux 6.6";
        let call = Call::new(RegisterOp::SYNC_CANCEL, 1, reason);
        // SAFETY: a live `struct io_uring_sync_cancel_reg`, which the kernel copies, because it
        // says so.
        match unsafe { call.make(self.base(), &raw mut reg) } {
            Ok(count) if reg.flags.contains(CancelFlags::ALL) => Ok(EndedNow::Ended(count)),
            Ok(_) => Ok(EndedNow::Ended(1)),
            Err(RegisterError::Other(errno)) if errno.is(libc::ENOENT) => Ok(EndedNow::NotFound),
            Err(RegisterError::Other(errno)) if errno.is(libc::ETIME) => Ok(EndedNow::TimedOut),
            Err(error) => Err(error),
        }
    }
}

/// How long to let the kernel wait before we look ourselves: it does not see all that ends.
const LOOK: Duration = Duration::from_millis(1);

impl<U: Default> Ring<U> {
    /// Asks for the end of an operation, past all that is queued, and waits for it for at most
    /// `time`. It completes all the same: keep its ticket. What else completes meanwhile is kept
    /// for [`reap`](Self::reap). Since Linux 6.0.
    ///
    /// On a ring with a polling thread, what the kernel does not find so is cancelled by an entry
    /// as well, in its turn: it may be in a worker of that thread. So there, of an operation in
    /// flight, [`EndedNow::TimedOut`] is said and never [`EndedNow::NotFound`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::cancel_now`], which finds by other things than tickets; and what the kernel
    /// says when it is entered.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn cancel_now<O>(
        &mut self,
        ticket: &Ticket<O>,
        time: Duration,
    ) -> Result<EndedNow, RegisterError> {
        self.check(ticket);
        let until = Instant::now().checked_add(time);
        let what = CancelNow::word(ticket.word());
        let (mut interrupted, mut asked) = (false, false);
        loop {
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
            match self.raw.cancel_now(&what.within(left.min(LOOK)))? {
                EndedNow::Ended(count) => return Ok(EndedNow::Ended(count)),
                EndedNow::TimedOut => interrupted = true,
                EndedNow::NotFound if interrupted => return Ok(EndedNow::Ended(1)),
                EndedNow::NotFound => {
                    self.look()?;
                    if !self.raw.gate().polls() || self.slab.is_done(ticket) {
                        let asked = self.slab.is_done(ticket) && asked;
                        return Ok(if asked { EndedNow::Ended(1) } else { EndedNow::NotFound });
                    }
                    asked = true;
                    let cancelled = self.cancel(ticket);
                    self.go_on(cancelled)?;
                    let waited = self.wait_a_little(left.min(LOOK));
                    self.go_on(waited)?;
                }
            }
            self.look()?;
            if self.slab.is_done(ticket) {
                return Ok(EndedNow::Ended(1));
            }
            if left.is_zero() {
                return Ok(EndedNow::TimedOut);
            }
        }
    }

    /// Takes what has completed, also what is held back until one asks.
    fn look(&mut self) -> Result<(), RegisterError> {
        let looked = self.raw.get_events().and_then(|()| self.pull(None));
        self.go_on(looked)
    }

    /// Goes on after an error where entering again can help.
    fn go_on(&mut self, entered: Result<(), EnterError>) -> Result<(), RegisterError> {
        let Err(error) = entered.or_else(|error| self.bear(error)) else { return Ok(()) };
        let errno = match error.cause {
            EnterCause::Refused(errno) | EnterCause::Other(errno) => errno,
            EnterCause::OutOfRequests => Errno::new(libc::EAGAIN),
            EnterCause::CompletionsLost => Errno::new(libc::EBADR),
            EnterCause::PollerDied => Errno::new(libc::EOWNERDEAD),
            EnterCause::OtherProcess => Errno::new(libc::ECHILD),
            _ => Errno::new(libc::EIO),
        };
        Err(RegisterError::other(errno))
    }
}
