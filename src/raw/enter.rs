//! The driver: when to enter the kernel, with which arguments, and what the result means.
//!
//! ```text
//!               anything to submit?  enough ready?  does it hold something back?
//!   submit             yes                 –                   also ask (CQ5)       ─► enter
//!                      no                                                           ─► no syscall
//!   wait                –                  no                                       ─► enter
//!                       –                  yes                                      ─► no syscall
//!   peek, drain         –                  none                yes                  ─► enter
//! ```
//!
//! If the kernel does not consume all the entries it was given, it skips both the wait and the
//! overflow list; then we enter again for the rest. If it consumed anything, it returns the count,
//! even when a signal or a timeout ended the wait; `wait` decides what such a return means.
//!
//! Keeps CQ5. Leaves to others: what was pushed, and who gets the completions.
#![allow(unsafe_code, reason = "enters the kernel")]

use std::sync::Arc;

use annulus_sys::cq::CompletionQueue;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, Features, SetupFlags, SqRingFlags};
use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::sq::SubmissionQueue;
use annulus_sys::syscall::{EnterArg, RingRef, Thread, this_thread};

use crate::raw::pause::Rest;
use crate::raw::wait_end::{Back, Early, Wait};
use crate::raw::wait_options::WaitOptions;
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// Enters the kernel: holds the ring's name and its mode, and counts the calls.
#[derive(Debug)]
pub(crate) struct Driver {
    base: Arc<Base>,
    mode: Mode,
    /// The index under which the ring is registered, and the thread that registered it.
    registered: Option<(u32, Thread)>,
    /// The process that may enter. A forked child's descriptor also leads to its parent's ring.
    process: Process,
    pub(crate) enters: u64,
    pub(crate) submitted: u64,
    pub(crate) overflows: u64,
}

/// What the setup flags mean for entering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    submits: By,
    reaps: By,
    defers: Defers,
    enters: Enters,
}

/// Whether entering works in the usual way: it submits, and waits for completions that devices
/// cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enters {
    Usual,
    /// The kernel submits on its own, or devices are polled, or a completion may take several
    /// slots.
    Rare,
}

/// Who does the work between us and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// We do, by entering.
    Us,
    /// The kernel, on its own.
    Kernel,
}

/// Whether the kernel holds completions back until we enter (CQ5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defers {
    /// No: an interrupt posts them.
    Never,
    /// Yes, and it raises TASKRUN when it does.
    Flagged,
    /// Yes, without a sign.
    Silently,
}

impl Mode {
    fn of(flags: SetupFlags) -> Self {
        let sqpoll = flags.contains(SetupFlags::SQPOLL);
        let rare = SetupFlags::SQPOLL | SetupFlags::IOPOLL | SetupFlags::CQE_MIXED;
        let deferring = SetupFlags::DEFER_TASKRUN | SetupFlags::COOP_TASKRUN;
        Self {
            enters: if flags.intersects(rare) { Enters::Rare } else { Enters::Usual },
            submits: if sqpoll { By::Kernel } else { By::Us },
            reaps: if flags.contains(SetupFlags::IOPOLL) && !sqpoll { By::Us } else { By::Kernel },
            defers: if !flags.intersects(deferring) {
                Defers::Never
            } else if flags.contains(SetupFlags::TASKRUN_FLAG) {
                Defers::Flagged
            } else {
                Defers::Silently
            },
        }
    }
}

impl Driver {
    pub(crate) fn new(base: Arc<Base>) -> Self {
        let mode = Mode::of(base.params().flags);
        let process = Process::this();
        Self { base, mode, registered: None, process, enters: 0, submitted: 0, overflows: 0 }
    }

    pub(crate) fn base(&self) -> &Arc<Base> {
        &self.base
    }

    fn features(&self) -> Features {
        self.base.params().features
    }

    pub(crate) fn registered(&self) -> Option<u32> {
        self.registered.map(|(index, _)| index)
    }

    pub(crate) fn set_registered(&mut self, index: Option<u32>) {
        self.registered = index.map(|index| (index, this_thread()));
    }

    /// This driver, with the counts of both halves of a split ring.
    pub(crate) fn joined(mut self, other: &Self) -> Self {
        self.enters += other.enters;
        self.overflows += other.overflows;
        self
    }

    /// Whether the kernel may return from a wait before enough completions are ready.
    fn early(&self) -> Early {
        if self.mode.reaps == By::Us { Early::Maybe } else { Early::Never }
    }

    /// Whether the kernel takes entries without being entered.
    #[inline]
    pub(crate) fn polls(&self) -> bool {
        self.mode.submits == By::Kernel
    }

    /// Enters the kernel. Fails with `ECHILD` in a forked child: only its parent may submit what
    /// was pushed.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        if !self.process.is_this() {
            return Err(Errno::new(libc::ECHILD));
        }
        self.enters += 1;
        let ring = match self.registered {
            Some((index, _)) => RingRef::registered(index),
            None => self.base.fd().by_ref(),
        };
        // SAFETY: OP1 holds for every entry in the ring, as promised to `RawRing::push`.
        let count = unsafe { self.base.kernel().enter(ring, to_submit, min_complete, flags, arg) }?;
        // The kernel may consume fewer entries, and does not count an entry that it drops.
        assert!(count <= to_submit, "SQ2: {count} of {to_submit} entries consumed");
        Ok(count)
    }

    /// Asks for the completions that the kernel holds back (CQ5).
    pub(crate) fn get_events(&mut self, cq: &CompletionQueue) -> Result<(), EnterError> {
        let flags = self.note_hints(cq, true);
        match self.enter(0, 0, flags, EnterArg::None) {
            Ok(_) => Ok(()),
            Err(errno) => Err(EnterError::new(0, errno)),
        }
    }

    /// Counts an overflow that the kernel shows. Returns the flags of an enter: `GETEVENTS` if
    /// `always`, or if the kernel says that it holds completions back (CQ5).
    #[inline]
    fn note_hints(&mut self, cq: &CompletionQueue, always: bool) -> EnterFlags {
        self.overflows += u64::from(cq.hints().contains(SqRingFlags::CQ_OVERFLOW));
        let asks = always || Self::flagged(cq);
        if asks { EnterFlags::GETEVENTS } else { EnterFlags::empty() }
    }

    /// Whether the kernel says that it holds completions back.
    #[inline]
    pub(crate) fn flagged(cq: &CompletionQueue) -> bool {
        cq.hints().intersects(SqRingFlags::CQ_OVERFLOW | SqRingFlags::TASKRUN)
    }

    /// Whether the kernel may hold completions back, given that the completion queue is empty and
    /// `in_flight` requests have not ended (CQ5).
    pub(crate) fn may_hold_back(&self, cq: &CompletionQueue, in_flight: u32) -> bool {
        let silent = self.mode.reaps == By::Us || self.mode.defers == Defers::Silently;
        Self::flagged(cq) || (silent && in_flight > 0)
    }

    /// Submits everything written. Enters only if there is something to submit.
    #[inline]
    pub(crate) fn submit(
        &mut self,
        sq: &mut SubmissionQueue,
        cq: Option<&CompletionQueue>,
    ) -> Result<u32, EnterError> {
        if self.polls() {
            return self.publish(sq);
        }
        let (mut submitted, mut left) = (0, u32::MAX);
        loop {
            let pending = sq.flush();
            if pending == 0 {
                return Ok(submitted);
            }
            assert!(pending <= left, "SQ2: {left} entries were to be left, and {pending} are");
            // We enter anyway, so also fetch what the kernel holds back.
            let flags = cq.map_or(EnterFlags::empty(), |cq| self.note_hints(cq, false));
            let count = self.consume(sq, pending, 0, flags, EnterArg::None, submitted)?;
            (submitted, left) = (submitted + count, pending - count);
        }
    }

    /// Submits everything written and waits, without a limit, until `want` completions are ready.
    ///
    /// This is the fast path of a busy ring: one enter, which consumes all entries and returns with
    /// enough completions ready. [`submit_and_wait_bounded`](Self::submit_and_wait_bounded) handles
    /// everything else.
    #[inline]
    pub(crate) fn submit_and_wait(
        &mut self,
        sq: &mut SubmissionQueue,
        cq: &mut CompletionQueue,
        want: u32,
    ) -> Result<u32, EnterError> {
        let mut submitted = 0;
        let pending = if self.mode.enters == Enters::Usual { sq.flush() } else { 0 };
        if pending > 0 && want <= cq.entries() {
            let flags = self.note_hints(cq, want > 0);
            match self.enter(pending, want, flags, EnterArg::None) {
                Ok(count) => {
                    self.took(sq, count);
                    if count == pending && cq.ready() >= want {
                        return Ok(count);
                    }
                    if stuck(sq, pending, count) {
                        return Err(EnterError::new(0, EnterCause::OutOfRequests));
                    }
                    if count == pending {
                        self.look_again(cq, count)?;
                        if cq.ready() >= want {
                            return Ok(count);
                        }
                        // The kernel waited, and a signal made it return: see `wait_end`.
                        return Err(EnterError::new(count, EnterCause::Interrupted));
                    }
                    submitted = count;
                }
                Err(errno) => return Err(EnterError::new(0, errno)),
            }
        }
        let (total, _) =
            self.submit_and_wait_bounded(sq, cq, want, &WaitOptions::FOREVER, submitted)?;
        Ok(total)
    }

    /// Submits everything written and waits until `want` completions are ready, or the time is up.
    /// `submitted` entries went in before.
    #[cold]
    pub(crate) fn submit_and_wait_bounded(
        &mut self,
        sq: &mut SubmissionQueue,
        cq: &mut CompletionQueue,
        want: u32,
        options: &WaitOptions,
        mut submitted: u32,
    ) -> Result<(u32, Woken), EnterError> {
        let (mut wait, mut rest) =
            (Wait::new(self.features(), cq, want, options)?, Rest::default());
        if self.polls() {
            submitted += self.publish(sq)?;
        }
        let mut left = u32::MAX;
        loop {
            let pending = if self.polls() { 0 } else { sq.flush() };
            assert!(pending <= left, "SQ2: {left} entries were to be left, and {pending} are");
            let missing = wait.missing(cq);
            if missing == 0 && pending == 0 {
                return Ok((submitted, Woken::Ready));
            }
            let asking = self.note_hints(cq, missing > 0);
            let min_complete = wait.slots(cq, missing, submitted)?;
            let (arg, how) =
                if missing > 0 { wait.arg() } else { (EnterArg::None, EnterFlags::empty()) };
            let flags = asking | how;
            let back = match self.consume(sq, pending, min_complete, flags, arg, submitted) {
                Ok(count) => {
                    (submitted, left) = (submitted + count, pending - count);
                    if count < pending || missing == 0 {
                        continue; // The kernel skipped the wait, or we did not ask for one.
                    }
                    Back::Count(count)
                }
                Err(EnterError { cause: EnterCause::Other(errno), .. })
                    if errno.is(libc::ETIME) =>
                {
                    Back::TimeUp
                }
                Err(error) => return Err(error),
            };
            let judged = wait.judge(cq, back, min_complete, self.early(), submitted);
            if let Some(woken) = self.appeal(&wait, cq, judged)? {
                return Ok((submitted, woken));
            }
            self.rest(&mut rest, &wait, submitted)?;
        }
    }

    /// Asks the kernel once more before concluding that a signal ended the wait.
    #[inline]
    fn appeal(
        &mut self,
        wait: &Wait<'_>,
        cq: &mut CompletionQueue,
        judged: Result<Option<Woken>, EnterError>,
    ) -> Result<Option<Woken>, EnterError> {
        match judged {
            Err(error) if error.cause == EnterCause::Interrupted => {
                self.look_again(cq, error.submitted)?;
                if wait.missing(cq) == 0 { Ok(Some(Woken::Ready)) } else { Err(error) }
            }
            judged => judged,
        }
    }

    /// Makes the kernel finish the work that it returned for. A `TIMEOUT` that expires ends a wait,
    /// and sometimes does so before its completion is posted (v6.12 to v7.3, rings that defer task
    /// work).
    #[cold]
    fn look_again(&mut self, cq: &CompletionQueue, submitted: u32) -> Result<(), EnterError> {
        self.get_events(cq).map_err(|error| EnterError::new(submitted, error.cause))
    }

    /// Waits until `want` completions are ready. Submits nothing.
    pub(crate) fn wait(
        &mut self,
        cq: &mut CompletionQueue,
        want: u32,
        options: &WaitOptions,
    ) -> Result<Woken, EnterError> {
        let (mut wait, mut rest) =
            (Wait::new(self.features(), cq, want, options)?, Rest::default());
        loop {
            let missing = wait.missing(cq);
            if missing == 0 {
                return Ok(Woken::Ready);
            }
            let min_complete = wait.slots(cq, missing, 0)?;
            let (arg, how) = wait.arg();
            let flags = self.note_hints(cq, true) | how;
            let back = match self.enter(0, min_complete, flags, arg) {
                Ok(count) => Back::Count(count),
                Err(errno) if errno.is(libc::ETIME) => Back::TimeUp,
                Err(errno) => return Err(EnterError::new(0, errno)),
            };
            let judged = wait.judge(cq, back, min_complete, self.early(), 0);
            if let Some(woken) = self.appeal(&wait, cq, judged)? {
                return Ok(woken);
            }
            self.rest(&mut rest, &wait, 0)?;
        }
    }

    /// Pauses before waiting again, on rings where the kernel waits only for devices.
    fn rest(&self, rest: &mut Rest, wait: &Wait<'_>, submitted: u32) -> Result<(), EnterError> {
        if self.early() == Early::Never {
            return Ok(());
        }
        rest.take(self.base.fd(), wait.left(), wait.signals())
            .map_err(|errno| EnterError::new(submitted, errno))
    }

    /// SQPOLL: publishes everything written, and wakes the polling thread if it sleeps.
    pub(crate) fn publish(&mut self, sq: &mut SubmissionQueue) -> Result<u32, EnterError> {
        let indices = sq.indices();
        let count = indices.written.distance_from(indices.tail);
        if count > 0 {
            sq.flush();
            self.submitted += u64::from(count);
        }
        // Also for entries that were flushed by hand, or by a submit that could not wake the
        // thread.
        if sq.unconsumed() > 0 {
            self.wake(sq).map_err(|errno| EnterError::new(count, errno))?;
        }
        Ok(count)
    }

    /// SQPOLL: wakes the polling thread if it sleeps (SQ5).
    fn wake(&mut self, sq: &SubmissionQueue) -> Result<(), Errno> {
        if sq.needs_wakeup() {
            self.enter(0, 0, EnterFlags::SQ_WAKEUP, EnterArg::None)?;
        }
        Ok(())
    }

    /// SQPOLL: waits until the polling thread has made room for `count` entries.
    pub(crate) fn wait_for_room(
        &mut self,
        sq: &mut SubmissionQueue,
        count: u32,
    ) -> Result<(), EnterError> {
        self.publish(sq)?;
        while sq.room() < count {
            if sq.room() == 0 {
                let flags = EnterFlags::SQ_WAIT | EnterFlags::SQ_WAKEUP;
                self.enter(0, 0, flags, EnterArg::None)
                    .map_err(|errno| EnterError::new(0, errno))?;
            } else {
                // The kernel waits for one slot only. A polling thread that died asks to be woken.
                self.wake(sq).map_err(|errno| EnterError::new(0, errno))?;
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Enters with `pending` entries, and records how many the kernel consumed.
    #[inline]
    fn consume(
        &mut self,
        sq: &mut SubmissionQueue,
        pending: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
        before: u32,
    ) -> Result<u32, EnterError> {
        let count = self
            .enter(pending, min_complete, flags, arg)
            .map_err(|errno| EnterError::new(before, errno))?;
        self.took(sq, count);
        if stuck(sq, pending, count) {
            return Err(EnterError::new(before, EnterCause::OutOfRequests));
        }
        Ok(count)
    }
}

impl Driver {
    /// Records that the kernel consumed `count` entries.
    #[inline]
    fn took(&mut self, sq: &mut SubmissionQueue, count: u32) {
        sq.consumed(count);
        self.submitted += u64::from(count);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // In a forked child, the index names nothing, or one of the child's own rings.
        if let Some((index, thread)) = self.registered
            && thread == this_thread()
        {
            let _ = crate::raw::register::forget_ring(&self.base, index);
        }
    }
}

/// Whether the kernel, given `pending` entries, neither consumed nor dropped any of them.
fn stuck(sq: &SubmissionQueue, pending: u32, count: u32) -> bool {
    count == 0 && pending > 0 && sq.unconsumed() == pending
}
