//! The raw API of a ring: push entries, submit them, take completions.
//!
//! ```text
//!   push ─► push ─► push ─► submit ─►  kernel  ─► wait ─► pop ─► pop ─► pop
//!   └──────── unsafe: OP1 ───────┘               └───────── safe ─────────┘
//! ```
//!
//! In a forked child, calls fail, or find the submission queue full and the completion queue empty:
//! see [fork](crate#fork).
//!
//! A ring belongs to one thread. To make a ring on one thread and use it on another, see
//! [`DisabledRing`](crate::DisabledRing). To submit on one thread and reap on another, see
//! [`RawRing::split`]; to submit beside whoever pushes, [`RawRing::handle`]; to use all of it on
//! several threads, one at a time, [`RawRing::into_send`].
//!
//! Leaves to others: the safe API, which owns the memory and files that the kernel uses.
#![allow(unsafe_code, reason = "its entries point to memory")]

// The page of `RawRing` shows the impl blocks of these modules in this order, and then those of
// this file. The blank lines keep rustfmt from sorting them.
mod submitting;

mod waiting;

mod turn;

mod reap;

mod completions;

pub mod inspect;

mod notify;

pub mod handle;

pub mod register;

mod resize;

pub mod moving;

pub mod adopt;

// These have no public methods of `RawRing`.
mod can_end;
pub mod capabilities;
pub mod chain;
mod clock;
pub(crate) mod disabled;
pub(crate) mod enter;
mod fast_path;
mod id;
mod mode;
mod pause;
pub(crate) mod pending;
pub mod split;
mod wait_end;
pub mod wait_options;

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use clock::Clock;
pub use completions::Completions;
pub(crate) use fast_path::Coming;
pub use handle::RingHandle;
pub use id::RingId;
pub(crate) use reap::Rounds;
use turn::Turn;

use annulus_sys::abi::Sqe;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use annulus_sys::rings::{Base, Rings};
use annulus_sys::sq::Full;
use annulus_sys::syscall::{EnterArg, RingFd};

use crate::raw::enter::Driver;
use crate::raw::pending::{Pending, modulo};
use crate::raw::register::region::names_a_slot;
use crate::raw::split::{Reaper, Submitter};
use crate::raw::wait_end::max_awaited;
use crate::setup::enter_error::{EnterCause, EnterError};

/// The flags that a caller of [`RawRing::enter`] may pass. The other flags describe the argument,
/// or say how the ring is named.
const ENTER_FLAGS: EnterFlags = EnterFlags::GETEVENTS
    .union(EnterFlags::SQ_WAKEUP)
    .union(EnterFlags::SQ_WAIT)
    .union(EnterFlags::ABS_TIMER)
    .union(EnterFlags::NO_IOWAIT);

/// A submission queue and a completion queue, and the kernel behind them. The caller owns the
/// memory that entries point to.
///
/// | to do this | call | enters the kernel |
/// |---|---|---|
/// | write an entry | [`push`](Self::push), [`push_with`](Self::push_with), [`push_wide`](Self::push_wide), [`pusher`](Self::pusher) | no |
/// | write a chain | [`reserve`](Self::reserve) | only to make room |
/// | submit entries | [`submit`](Self::submit) | if there are any |
/// | … and wait | [`submit_and_wait`](Self::submit_and_wait) | if it must |
/// | … and take | [`turn`](Self::turn) | if it must |
/// | wait | [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout), [`wait_min`](Self::wait_min) | if too few are ready |
/// | take a completion | [`pop`](Self::pop) | no |
/// | … each that is there | [`completions`](Self::completions) | no |
/// | … including those that the kernel holds back | [`peek`](Self::peek), [`drain`](Self::drain) | if it holds some back (CQ5) |
/// | register memory and files | [`register_buffers`](Self::register_buffers), [`register_files`](Self::register_files) and others | yes |
/// | restrict a disabled ring, and enable it | [`restrict`](Self::restrict), [`enable`](Self::enable) | yes |
/// | ask which operations there are | [`probe`](Self::probe) | yes |
/// | send it to another thread | [`into_send`](Self::into_send), [`split`](Self::split) | no |
///
/// [`prep`](crate::prep) has a function for each operation that returns its entry.
///
/// # Example
///
/// ```
/// use annulus::sys::abi::Sqe;
/// use annulus::sys::opcode::Opcode;
///
/// let mut ring = annulus::Setup::new(8).build_raw()?;
/// let nop = Sqe { opcode: Opcode::NOP, user_data: 7, ..Sqe::ZERO };
/// // SAFETY: a NOP points to nothing (OP1).
/// unsafe { ring.push(nop)? };
/// ring.submit_and_wait(1)?;
/// assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RawRing {
    rings: Rings,
    driver: Driver,
    pending: Pending,
    /// `No` after a failed resize: our mapping is no longer the memory that the kernel uses.
    mapped: Mapped,
    /// The error with which the turn that runs is to end: see `turn`.
    turn_error: Option<EnterError>,
    /// A turn in its second round, or a later one.
    turn: Turn,
    /// A registered ring descriptor belongs to a thread, and so does a ring with `SINGLE_ISSUER`:
    /// see `moving`.
    not_send: PhantomData<*mut ()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapped {
    Yes,
    No,
}

impl RawRing {
    pub(crate) fn over(rings: Rings) -> Self {
        let driver = Driver::new(Arc::clone(rings.base()));
        Self::assemble(rings, driver, Pending::default())
    }

    pub(crate) fn assemble(rings: Rings, driver: Driver, pending: Pending) -> Self {
        let (mapped, turn_error, turn) = (Mapped::Yes, None, Turn::NONE);
        Self { rings, driver, pending, mapped, turn_error, turn, not_send: PhantomData }
    }

    /// Whether a slot is free.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.rings.sq().has_room()
    }

    /// Like [`push`](Self::push), for an entry whose completions the caller counts.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    #[inline]
    pub(crate) unsafe fn push_known(&mut self, sqe: Sqe) -> Result<(), Full> {
        // SAFETY: as promised to `RawRing::push_known`.
        unsafe { self.rings.sq().push(sqe) }
    }
}

/// # Wait loops of your own, and the parts of a ring
impl RawRing {
    /// Whether the polling thread (`SQPOLL`) sleeps. Ask after [`flush`](Self::flush); if it
    /// sleeps, enter with `SQ_WAKEUP` (SQ5).
    pub fn needs_wakeup(&self) -> bool {
        self.driver.polls() && self.rings.halves().0.needs_wakeup()
    }

    /// Enters the kernel exactly once, with these arguments, for callers that have their own wait
    /// loop. Never submits more than was pushed, whatever `to_submit` says.
    ///
    /// # Errors
    ///
    /// The kernel's error; in that case nothing was consumed.
    ///
    /// - `EINVAL` for flags other than `GETEVENTS`, `SQ_WAKEUP`, `SQ_WAIT`, `ABS_TIMER` and
    ///   `NO_IOWAIT`. The other flags follow from `arg`, or from how the ring is named.
    /// - `EINVAL` for an [`EnterArg::Registered`] that is not a multiple of 64 bytes, and so is not
    ///   a [slot](crate::raw::register::WaitRegion::arg).
    /// - `EBADFD` while the ring is disabled ([`enable`](Self::enable)), or after a failed resize.
    /// - `ECHILD` in a forked child.
    pub fn enter(
        &mut self,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        if self.mapped == Mapped::No {
            return Err(Errno::new(libc::EBADFD));
        }
        if !ENTER_FLAGS.contains(flags) || !names_a_slot(&arg) {
            return Err(Errno::new(libc::EINVAL));
        }
        // A kernel that rewinds reads as many slots as it is told to, even slots of an earlier lap
        // (OP1).
        let to_submit = to_submit.min(self.rings.sq().unconsumed());
        let min_complete = min_complete.min(max_awaited(self.rings.cq()));
        let count = self.driver.enter(to_submit, min_complete, flags, arg)?;
        if !self.driver.polls() {
            self.rings.sq().consumed(count);
            self.driver.count(count);
        }
        Ok(count)
    }

    /// If the submission queue is full, waits until the polling thread (`SQPOLL`) has consumed at
    /// least one entry. Returns at once if a slot is free.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from waiting or submitting.
    pub fn wait_for_room(&mut self) -> Result<(), EnterError> {
        self.check_mapped()?;
        if self.driver.polls() {
            self.driver.wait_for_room(self.rings.sq(), 1)
        } else if self.rings.sq().room() == 0 {
            self.submit().map(drop)
        } else {
            Ok(())
        }
    }

    /// Tells the ring to expect completions that no push announced: messages from other rings,
    /// resource tags, completions of a command. From then on, no wait fails with
    /// [`NothingComing`](EnterCause::NothingComing), and the ring asks the kernel whenever it may
    /// hold a completion back. Call this before others can send to this ring.
    pub fn expect_others(&mut self) {
        self.pending.open();
    }

    /// How many requests were pushed whose last completion has not been popped yet. This is an
    /// estimate once entries with `CQE_SKIP_SUCCESS` were pushed. It is too low once completions
    /// arrived that no push announced, since each one looks like the end of a request (see
    /// [`expect_others`](Self::expect_others)).
    #[inline]
    pub fn in_flight(&self) -> u32 {
        let (sq, cq) = self.rings.halves();
        self.pending.in_flight(sq.pushed(), modulo(cq.ended()))
    }

    /// The ring's base, for calls to `io_uring_register(2)` that have no method here yet.
    pub fn base(&self) -> &Arc<Base> {
        self.rings.base()
    }

    /// The ring's descriptor, which polls as readable when completions are ready. `None` with
    /// `REGISTERED_FD_ONLY`, since such a ring has no descriptor.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self.rings.base().fd() {
            RingFd::Owned(fd) => Some(fd.as_fd()),
            RingFd::Registered(_) => None,
        }
    }

    /// Splits the ring into a half that submits and a half that reaps. Each half can go to its own
    /// thread.
    ///
    /// # Errors
    ///
    /// Returns the ring if it was set up for one thread (`SINGLE_ISSUER`, or `REGISTERED_FD_ONLY`),
    /// and in a forked child.
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn split(mut self) -> Result<(Submitter, Reaper), Self> {
        let one_thread = SetupFlags::SINGLE_ISSUER | SetupFlags::REGISTERED_FD_ONLY;
        if self.flags().intersects(one_thread) || self.check_mapped().is_err() {
            return Err(self);
        }
        if self.driver.registered().is_some() && self.unregister_ring_fd().is_err() {
            return Err(self);
        }
        let whole = ManuallyDrop::new(self);
        // SAFETY: read once, since `whole` is neither used nor dropped after.
        let rings = unsafe { ptr::read(&raw const whole.rings) };
        // SAFETY: read once, since `whole` is neither used nor dropped after.
        let driver = unsafe { ptr::read(&raw const whole.driver) };
        Ok(crate::raw::split::split(rings, driver, whole.pending))
    }

    /// The time by the clock of the ring's kernel.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.driver.kernel().now()
    }

    /// Lets time pass by that clock.
    pub(crate) fn sleep(&self, span: Duration) {
        self.driver.kernel().sleep(span);
    }

    pub(crate) fn driver_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn parts(&mut self) -> (&mut Rings, &mut Driver) {
        (&mut self.rings, &mut self.driver)
    }

    pub(crate) fn pending(&self) -> Pending {
        self.pending
    }

    #[inline]
    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }

    pub(crate) fn rings_mut(&mut self) -> &mut Rings {
        &mut self.rings
    }

    #[inline]
    pub(crate) fn check_mapped(&self) -> Result<(), EnterError> {
        self.check_process()?;
        match self.mapped {
            Mapped::Yes => Ok(()),
            Mapped::No => Err(EnterError::new(0, EnterCause::Unmapped)),
        }
    }
}

impl Drop for RawRing {
    /// Releases the ring. Requests in flight go on, and keep using the memory they point to.
    fn drop(&mut self) {
        let idle = self.pending <= Pending::Repeating && self.in_flight() == 0;
        if idle && !self.driver.polls() {
            // SAFETY: no thread polls, nothing can be submitted any more, and as far as pushes tell
            // every request has ended (RG1). If completions came that no push announced, the count
            // may be too low. Then the kernel still has the pages pinned, and they outlive the
            // mapping.
            unsafe { self.rings.found_idle() };
        }
    }
}
