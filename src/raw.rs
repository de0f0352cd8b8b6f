//! The ring, raw face: push entries, submit them, take completions.
//!
//! ```text
//!   push ─► push ─► push ─► submit ─►  kernel  ─► wait ─► pop ─► pop ─► pop
//!   └──────── unsafe: OP1 ───────┘               └───────── safe ─────────┘
//! ```
//!
//! | to do this | call | enters the kernel |
//! |---|---|---|
//! | write an entry | [`push`](RawRing::push), [`push_with`](RawRing::push_with), [`push_wide`](RawRing::push_wide) | no |
//! | write a chain | [`reserve`](RawRing::reserve) | only to make room |
//! | hand entries over | [`submit`](RawRing::submit) | if there are any |
//! | … and wait | [`submit_and_wait`](RawRing::submit_and_wait) | if it must |
//! | wait | [`wait`](RawRing::wait), [`wait_timeout`](RawRing::wait_timeout), [`wait_min`](RawRing::wait_min) | if too few are ready |
//! | take a completion | [`pop`](RawRing::pop) | no |
//! | … also one that the kernel holds back | [`peek`](RawRing::peek), [`drain`](RawRing::drain) | if it says so (CQ5) |
//!
//! A forked child is refused, or finds the ring full and nothing in it: see [fork](crate#fork).
//!
//! A ring belongs to one thread. To make it on one and use it on another, see
//! [`DisabledRing`](crate::DisabledRing); to submit on one and reap on another, [`RawRing::split`].
//!
//! Leaves to others: the safe face, which owns what the kernel has.
//!
//! # Example
//!
//! ```
//! use annulus::sys::abi::Sqe;
//! use annulus::sys::opcode::Opcode;
//!
//! let mut ring = annulus::Setup::new(8).build_raw()?;
//! let nop = Sqe { opcode: Opcode::NOP, user_data: 7, ..Sqe::ZERO };
//! // SAFETY: a NOP points to nothing (OP1).
//! unsafe { ring.push(nop)? };
//! ring.submit_and_wait(1)?;
//! assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "its entries point to memory")]

mod hope;

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use annulus_sys::rings::{Base, ResizeFailure, Rings};
use annulus_sys::sq::{Full, PushWideError};
use annulus_sys::syscall::{EnterArg, RingFd};

use crate::chain::Chain;
use crate::enter::Gate;
use crate::error::{EnterCause, EnterError, Woken};
use crate::forecast::Forecast;
use crate::patience::Patience;
use crate::register::region::names_a_slot;
use crate::split::{Reaper, Submitter};
use crate::wait::most_awaited;

/// What a caller of [`RawRing::enter`] may say. The other flags say what the argument is, or how
/// the ring is named.
const ENTER_FLAGS: EnterFlags = EnterFlags::GETEVENTS
    .union(EnterFlags::SQ_WAKEUP)
    .union(EnterFlags::SQ_WAIT)
    .union(EnterFlags::ABS_TIMER)
    .union(EnterFlags::NO_IOWAIT);

/// A pair of rings, and the kernel behind them.
#[derive(Debug)]
pub struct RawRing {
    rings: Rings,
    gate: Gate,
    forecast: Forecast,
    /// After a failed resize: what we have mapped is no longer what the kernel uses.
    mapped: Mapped,
    /// A registered ring descriptor, and a ring of one issuer, belong to a thread.
    not_send: PhantomData<*mut ()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapped {
    Yes,
    No,
}

impl RawRing {
    pub(crate) fn over(rings: Rings) -> Self {
        let gate = Gate::new(Arc::clone(rings.base()));
        Self::assemble(rings, gate, Forecast::default())
    }

    pub(crate) fn assemble(rings: Rings, gate: Gate, forecast: Forecast) -> Self {
        Self { rings, gate, forecast, mapped: Mapped::Yes, not_send: PhantomData }
    }

    /// Writes `sqe` into the next free slot. The kernel sees it at the next submit.
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free: submit, then push again.
    ///
    /// # Safety
    ///
    /// Whatever `sqe` points to must stay valid, and be touched by nobody else where the kernel
    /// writes, until the request's last completion is popped: the one without `F_MORE` (OP1). Not
    /// an error of submit, nor dropping the ring, ends that. Its file must be the caller's to use.
    /// And this must not be a process that the ring's forked, which has other memory where the ring
    /// was.
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        self.forecast.note(&sqe);
        // SAFETY: as promised to `RawRing::push`.
        unsafe { self.rings.sq().push(sqe) }
    }

    /// Whether a slot is free.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.rings.sq().has_room()
    }

    /// [`push`](Self::push), of an entry whose completions the caller counts.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    #[inline]
    pub(crate) unsafe fn push_known(&mut self, sqe: Sqe) -> Result<(), Full> {
        // SAFETY: as promised to `RawRing::push_known`.
        unsafe { self.rings.sq().push(sqe) }
    }

    /// Fills the next free slot in place: `fill` gets a blank entry where the kernel will read it.
    /// When it unwinds, nothing was pushed.
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free; `fill` was not called.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push), for the entry as `fill` leaves it.
    #[inline]
    pub unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) -> Result<(), Full> {
        let forecast = &mut self.forecast;
        let fill = |sqe: &mut Sqe| {
            fill(sqe);
            forecast.note(sqe);
        };
        // SAFETY: as promised to `RawRing::push_with`.
        unsafe { self.rings.sq().push_with(fill) }
    }

    /// Writes a 128-byte entry, on a ring with `SQE128` or `SQE_MIXED`.
    ///
    /// # Errors
    ///
    /// [`PushWideError::Full`] when too few slots are free, [`PushWideError::Narrow`] on a ring of
    /// 64-byte entries.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        self.forecast.note(&sqe.first);
        // SAFETY: as promised to `RawRing::push_wide`.
        unsafe { self.rings.sq().push_wide(sqe) }
    }

    /// Sets `count` slots aside for entries that must be handed over together, such as a chain.
    /// Submits what was pushed before when that makes the room.
    ///
    /// # Errors
    ///
    /// What submitting can fail with, or [`EnterCause::OutOfRequests`] when the kernel made too
    /// little room. A ring shorter than `count` never has the room.
    pub fn reserve(&mut self, count: u32) -> Result<Chain<'_>, EnterError> {
        self.check_process()?;
        crate::chain::check_size(count, self.rings.sq().entries())?;
        let mut submitted = 0;
        if self.rings.sq().room() < count {
            submitted = self.submit()?;
            if self.gate.polls() {
                self.gate.wait_for_room(self.rings.sq(), count)?;
            }
        }
        let Self { rings, forecast, .. } = self;
        match rings.sq().reserve(count) {
            Ok(slots) => Ok(Chain::new(slots, forecast)),
            Err(Full) => Err(EnterError::new(submitted, EnterCause::OutOfRequests)),
        }
    }

    /// Hands everything pushed to the kernel, and returns how many entries it consumed; with
    /// `SQE_MIXED`, how many slots. Makes no system call when there is nothing to submit.
    ///
    /// An entry that is wrong does not fail the submit: its completion carries the error. On a ring
    /// without `SUBMIT_ALL` it cuts the batch there; then we enter again, for the rest.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; entries that were not consumed stay queued, for the next submit.
    #[inline]
    pub fn submit(&mut self) -> Result<u32, EnterError> {
        self.check_mapped()?;
        let (sq, cq) = self.rings.both();
        self.gate.submit(sq, Some(cq))
    }

    /// Submits everything pushed, and waits until `want` completions are ready to pop, those that
    /// are ready already included. Returns how many entries were submitted.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; [`EnterCause::NothingComing`] when that many can never come, and
    /// [`EnterCause::Interrupted`] when a signal ended the wait: then wait again. What went in
    /// until then, it says.
    #[inline]
    pub fn submit_and_wait(&mut self, want: u32) -> Result<u32, EnterError> {
        if want > self.in_flight() {
            self.forecast_of(want, 0)?;
        }
        self.submit_and_wait_unasked(want)
    }

    /// As [`submit_and_wait`](Self::submit_and_wait), for at most `timeout`. Says how it ended.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait), but it is never refused: a wait with a limit
    /// ends also when nothing comes. Needs Linux 5.11.
    pub fn submit_and_wait_timeout(
        &mut self,
        want: u32,
        timeout: Duration,
    ) -> Result<(u32, Woken), EnterError> {
        self.submit_and_wait_with(want, &Patience::at_most(timeout))
    }

    /// As [`submit_and_wait`](Self::submit_and_wait), with `patience`. Says how it ended.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait), and [`EnterCause::Unsupported`] for what this
    /// kernel cannot.
    pub fn submit_and_wait_with(
        &mut self,
        want: u32,
        patience: &Patience,
    ) -> Result<(u32, Woken), EnterError> {
        let needed = patience.insists_on(want);
        if needed > self.in_flight() {
            self.forecast_of(needed, 0)?;
        }
        self.submit_and_wait_with_unasked(want, patience)
    }

    /// Waits until `want` completions are ready to pop. Submits nothing, and makes no system call
    /// when they are ready already.
    ///
    /// # Errors
    ///
    /// [`EnterCause::NothingComing`] when that many can never come, because too little was
    /// submitted; [`EnterCause::Interrupted`] when a signal ended the wait.
    pub fn wait(&mut self, want: u32) -> Result<(), EnterError> {
        self.bounded_wait(want, &Patience::FOREVER).map(drop)
    }

    /// As [`wait`](Self::wait), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), but it is never refused. Needs Linux 5.11.
    pub fn wait_timeout(&mut self, want: u32, timeout: Duration) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &Patience::at_most(timeout))
    }

    /// As [`wait_timeout`](Self::wait_timeout), but content with a single completion once
    /// [`min_wait`](Patience::min_wait) has passed: few wake-ups under load, and no long wait
    /// without.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). Needs Linux 6.12 (`IORING_FEAT_MIN_TIMEOUT`).
    pub fn wait_min(
        &mut self,
        want: u32,
        min_wait: Duration,
        timeout: Duration,
    ) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &Patience::at_most(timeout).min_wait(min_wait))
    }

    /// Publishes everything pushed, without entering the kernel, and returns how many entries it
    /// has yet to consume: the `to_submit` of [`enter`](Self::enter).
    pub fn flush(&mut self) -> u32 {
        self.rings.sq().flush()
    }

    /// Whether the polling thread (`SQPOLL`) sleeps, asked after [`flush`](Self::flush): then enter
    /// with `SQ_WAKEUP` (SQ5).
    pub fn needs_wakeup(&self) -> bool {
        self.gate.polls() && self.rings.halves().0.needs_wakeup()
    }

    /// Enters the kernel exactly once, with what is asked, for callers with a wait loop of their
    /// own. Submits no more than was pushed, whatever `to_submit` says.
    ///
    /// # Errors
    ///
    /// The kernel's. Nothing was consumed then. `EINVAL` for flags other than `GETEVENTS`,
    /// `SQ_WAKEUP`, `SQ_WAIT`, `ABS_TIMER` and `NO_IOWAIT`: the others follow from `arg`, or from
    /// how the ring is named; and for an [`EnterArg::Registered`] that is not a multiple of 64
    /// bytes, and so no [slot](crate::register::WaitRegion::arg). `ECHILD` in a forked child.
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
        // A kernel that rewinds reads as many slots as it is told, also those of a lap before
        // (OP1).
        let to_submit = to_submit.min(self.rings.sq().unconsumed());
        let min_complete = min_complete.min(most_awaited(self.rings.cq()));
        let count = self.gate.enter(to_submit, min_complete, flags, arg)?;
        if !self.gate.polls() {
            self.rings.sq().consumed(count);
            self.gate.submitted += u64::from(count);
        }
        Ok(count)
    }

    /// Waits until the polling thread (`SQPOLL`) has consumed at least one entry of a full ring.
    /// Returns at once when a slot is free.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from waiting.
    pub fn wait_for_room(&mut self) -> Result<(), EnterError> {
        self.check_mapped()?;
        if self.gate.polls() {
            self.gate.wait_for_room(self.rings.sq(), 1)
        } else if self.rings.sq().room() == 0 {
            self.submit().map(drop)
        } else {
            Ok(())
        }
    }

    /// Takes note that completions may come that no push announced: messages from other rings,
    /// resource tags, a command's own. From then on no wait is refused as hopeless, and the kernel
    /// is asked whenever it may hold one back. To be called before others may send here.
    pub fn expect_others(&mut self) {
        self.forecast.open();
    }

    /// How many requests were pushed whose last completion was not popped yet. An estimate once
    /// entries with `CQE_SKIP_SUCCESS` were pushed; and too low once completions came that no push
    /// announced, since each looks like the end of one ([`expect_others`](Self::expect_others)).
    #[inline]
    pub fn in_flight(&self) -> u32 {
        let (sq, cq) = self.rings.halves();
        self.forecast.in_flight(sq.pushed(), cq.ended())
    }

    /// What the ring stands on, for calls to `io_uring_register(2)` that have no method here yet.
    pub fn base(&self) -> &Arc<Base> {
        self.rings.base()
    }

    /// The ring's descriptor, which is readable when completions are ready. `None` with
    /// `REGISTERED_FD_ONLY`, which has none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self.rings.base().fd() {
            RingFd::Owned(fd) => Some(fd.as_fd()),
            RingFd::Registered(_) => None,
        }
    }

    /// Changes the sizes of the ring while it is in use. Completions and entries move along. Needs
    /// `DEFER_TASKRUN`, `NO_SQARRAY` and Linux 6.13; without `cq_entries` the completion ring is
    /// twice as long.
    ///
    /// # Errors
    ///
    /// [`ResizeFailure::Refused`] leaves the ring as it was: `EINVAL` when the kernel or the set-up
    /// does not allow it, `EBUSY` when it would tear what is in a ring of large entries or
    /// completions or that rewinds (empty it first), `EOVERFLOW` when what is in the rings would
    /// not fit, or, from Linux 7.3 on, a wide completion of a mixed ring would lie across the wrap.
    /// After [`ResizeFailure::Map`] all that enters is [`EnterCause::Unmapped`], for good.
    pub fn resize(&mut self, entries: u32, cq_entries: Option<u32>) -> Result<(), ResizeFailure> {
        let resized = match self.mapped {
            Mapped::Yes => self.rings.resize(entries, cq_entries),
            Mapped::No => Err(ResizeFailure::Refused(Errno::new(libc::EBADFD))),
        };
        if let Err(ResizeFailure::Map(_)) = resized {
            self.mapped = Mapped::No;
        }
        resized
    }

    /// Takes the ring apart into a half that submits and a half that reaps, each of which may go to
    /// a thread of its own.
    ///
    /// # Errors
    ///
    /// Gives the ring back when it was set up for one thread (`SINGLE_ISSUER`, or
    /// `REGISTERED_FD_ONLY`), and in a forked child.
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn split(mut self) -> Result<(Submitter, Reaper), Self> {
        let one_thread = SetupFlags::SINGLE_ISSUER | SetupFlags::REGISTERED_FD_ONLY;
        if self.flags().intersects(one_thread) || self.check_mapped().is_err() {
            return Err(self);
        }
        if self.gate.registered().is_some() && self.unregister_ring_fd().is_err() {
            return Err(self);
        }
        let whole = ManuallyDrop::new(self);
        // SAFETY: read once, since `whole` is neither used nor dropped after.
        let rings = unsafe { ptr::read(&raw const whole.rings) };
        // SAFETY: read once, since `whole` is neither used nor dropped after.
        let gate = unsafe { ptr::read(&raw const whole.gate) };
        Ok(crate::split::split(rings, gate, whole.forecast))
    }

    pub(crate) fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn parts(&mut self) -> (&mut Rings, &mut Gate) {
        (&mut self.rings, &mut self.gate)
    }

    pub(crate) fn forecast(&self) -> Forecast {
        self.forecast
    }

    #[inline]
    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }

    pub(crate) fn rings_mut(&mut self) -> &mut Rings {
        &mut self.rings
    }

    pub(crate) fn bounded_wait(
        &mut self,
        want: u32,
        patience: &Patience,
    ) -> Result<Woken, EnterError> {
        self.check_mapped()?;
        let (needed, queued) = (patience.insists_on(want), self.queued());
        if needed > self.in_flight().saturating_sub(queued) {
            self.forecast_of(needed, queued)?;
        }
        self.gate.wait(self.rings.cq(), want, patience)
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
    /// Lets go of the ring; what is in flight goes on, and keeps using the memory it points to.
    fn drop(&mut self) {
        let idle = self.forecast <= Forecast::Repeating && self.in_flight() == 0;
        if idle && !self.gate.polls() {
            // SAFETY: no thread polls, nothing can be submitted any more, and as far as pushes tell
            // every request has ended (RG1). Where completions came that no push announced the
            // count may be short; then the kernel still has the pages pinned, and they outlive the
            // map.
            unsafe { self.rings.found_idle() };
        }
    }
}
