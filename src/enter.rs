//! When to enter the kernel, with what, and what its answer means.
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
//! The kernel skips the wait, and the overflow list, when it did not consume all that it was given;
//! then we enter again, for the rest. It answers with the count whenever it consumed anything, also
//! when a signal or a timeout ended the wait; what that means is told in `wait`.
//!
//! Keeps CQ5. Leaves to others: what was pushed, and whose the completions are.
#![allow(unsafe_code, reason = "enters the kernel")]

use std::sync::Arc;

use annulus_sys::cq::CompletionRing;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, Features, SetupFlags, SqRingFlags};
use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::sq::SubmissionRing;
use annulus_sys::syscall::{EnterArg, RingRef, Thread, this_thread};

use crate::error::{EnterCause, EnterError, Woken};
use crate::patience::Patience;
use crate::rest::Rest;
use crate::wait::{Back, Early, Wait};

/// The way into the kernel: the ring's name, its mode, and a count of the times we went.
#[derive(Debug)]
pub(crate) struct Gate {
    base: Arc<Base>,
    mode: Mode,
    /// The index under which a thread registered the ring, and which thread.
    registered: Option<(u32, Thread)>,
    /// Which process may enter: the descriptor leads from a child into its parent's ring too.
    process: Process,
    pub(crate) enters: u64,
    pub(crate) submitted: u64,
    pub(crate) overflows: u64,
}

/// What the set-up flags mean for entering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    submits: By,
    reaps: By,
    defers: Defers,
    path: Path,
}

/// Whether entering is what it mostly is: it submits, and waits for what devices bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Usual,
    /// The kernel submits on its own, or devices are polled, or slots are not completions.
    Rare,
}

/// Who does the work between us and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Our enter.
    Us,
    /// The kernel, on its own.
    Kernel,
}

/// Whether the kernel holds completions back until we enter (CQ5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defers {
    /// It does not: an interrupt posts them.
    Never,
    /// It raises TASKRUN when it does.
    Flagged,
    /// It does without a sign.
    Silently,
}

impl Mode {
    fn of(flags: SetupFlags) -> Self {
        let sqpoll = flags.contains(SetupFlags::SQPOLL);
        let rare = SetupFlags::SQPOLL | SetupFlags::IOPOLL | SetupFlags::CQE_MIXED;
        let deferring = SetupFlags::DEFER_TASKRUN | SetupFlags::COOP_TASKRUN;
        Self {
            path: if flags.intersects(rare) { Path::Rare } else { Path::Usual },
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

impl Gate {
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

    /// The same gate, with the figures of both halves of a split ring.
    pub(crate) fn joined(mut self, other: &Self) -> Self {
        self.enters += other.enters;
        self.overflows += other.overflows;
        self
    }

    /// Whether the kernel comes back from a wait before enough is there.
    fn early(&self) -> Early {
        if self.mode.reaps == By::Us { Early::Maybe } else { Early::Never }
    }

    /// Whether the kernel takes entries without being entered.
    #[inline]
    pub(crate) fn polls(&self) -> bool {
        self.mode.submits == By::Kernel
    }

    /// `ECHILD` in a forked child: what is pushed is its parent's to submit.
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
        // SAFETY: OP1 holds for every entry in the ring, as promised to `push`, which put it there.
        let count = unsafe { self.base.kernel().enter(ring, to_submit, min_complete, flags, arg) }?;
        // Fewer it may take, and an entry that it will not look at it does not count.
        assert!(count <= to_submit, "SQ2: {count} of {to_submit} entries consumed");
        Ok(count)
    }

    /// Asks for what the kernel holds back (CQ5).
    pub(crate) fn get_events(&mut self, cq: &CompletionRing) -> Result<(), EnterError> {
        let flags = self.asking(cq, true);
        match self.enter(0, 0, flags, EnterArg::None) {
            Ok(_) => Ok(()),
            Err(errno) => Err(EnterError::new(0, errno)),
        }
    }

    /// The flags of an enter that asks for completions, if it is to or the kernel says that it
    /// holds some back (CQ5). Takes note of an overflow.
    #[inline]
    fn asking(&mut self, cq: &CompletionRing, always: bool) -> EnterFlags {
        self.overflows += u64::from(cq.hints().contains(SqRingFlags::CQ_OVERFLOW));
        let asks = always || Self::flagged(cq);
        if asks { EnterFlags::GETEVENTS } else { EnterFlags::empty() }
    }

    /// Whether the kernel says that it holds completions back.
    #[inline]
    pub(crate) fn flagged(cq: &CompletionRing) -> bool {
        cq.hints().intersects(SqRingFlags::CQ_OVERFLOW | SqRingFlags::TASKRUN)
    }

    /// Whether the kernel may hold completions back, the ring being empty while `in_flight`
    /// requests have not ended (CQ5).
    pub(crate) fn may_hold_back(&self, cq: &CompletionRing, in_flight: u32) -> bool {
        let silent = self.mode.reaps == By::Us || self.mode.defers == Defers::Silently;
        Self::flagged(cq) || (silent && in_flight > 0)
    }

    /// Submits everything written. Enters only if there is something.
    #[inline]
    pub(crate) fn submit(
        &mut self,
        sq: &mut SubmissionRing,
        cq: Option<&CompletionRing>,
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
            // While we are there, take along what is held back.
            let flags = cq.map_or(EnterFlags::empty(), |cq| self.asking(cq, false));
            let count = self.consume(sq, pending, 0, flags, EnterArg::None, submitted)?;
            (submitted, left) = (submitted + count, pending - count);
        }
    }

    /// Submits everything written and waits until `want` completions are ready, however long.
    ///
    /// The path of every busy ring: one enter, which consumes all and brings enough. What happens
    /// otherwise is left to [`submit_and_wait_bounded`](Self::submit_and_wait_bounded).
    #[inline]
    pub(crate) fn submit_and_wait(
        &mut self,
        sq: &mut SubmissionRing,
        cq: &mut CompletionRing,
        want: u32,
    ) -> Result<u32, EnterError> {
        let mut submitted = 0;
        let pending = if self.mode.path == Path::Usual { sq.flush() } else { 0 };
        if pending > 0 && want <= cq.entries() {
            let flags = self.asking(cq, want > 0);
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
                        // It waited, and came back for a signal: see `wait`.
                        return Err(EnterError::new(count, EnterCause::Interrupted));
                    }
                    submitted = count;
                }
                Err(errno) => return Err(EnterError::new(0, errno)),
            }
        }
        let (total, _) =
            self.submit_and_wait_bounded(sq, cq, want, &Patience::FOREVER, submitted)?;
        Ok(total)
    }

    /// Submits everything written and waits until `want` completions are ready, or time is up;
    /// `submitted` entries went in before.
    #[cold]
    pub(crate) fn submit_and_wait_bounded(
        &mut self,
        sq: &mut SubmissionRing,
        cq: &mut CompletionRing,
        want: u32,
        patience: &Patience,
        mut submitted: u32,
    ) -> Result<(u32, Woken), EnterError> {
        let (mut wait, mut rest) =
            (Wait::new(self.features(), cq, want, patience)?, Rest::default());
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
            let asking = self.asking(cq, missing > 0);
            let min_complete = wait.slots(cq, missing, submitted)?;
            let (arg, how) =
                if missing > 0 { wait.arg() } else { (EnterArg::None, EnterFlags::empty()) };
            let flags = asking | how;
            let back = match self.consume(sq, pending, min_complete, flags, arg, submitted) {
                Ok(count) => {
                    (submitted, left) = (submitted + count, pending - count);
                    if count < pending || missing == 0 {
                        continue; // The kernel skipped the wait, or none was asked for.
                    }
                    Back::Silent
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

    /// Looks again before it believes that a signal ended the wait.
    #[inline]
    fn appeal(
        &mut self,
        wait: &Wait<'_>,
        cq: &mut CompletionRing,
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

    /// Has the kernel finish what it came back for. A `TIMEOUT` that expires ends a wait, now and
    /// then before its completion is there (v6.12 to v7.3, rings that defer task work).
    #[cold]
    fn look_again(&mut self, cq: &CompletionRing, submitted: u32) -> Result<(), EnterError> {
        self.get_events(cq).map_err(|error| EnterError::new(submitted, error.cause))
    }

    /// Waits until `want` completions are ready, and submits nothing.
    pub(crate) fn wait(
        &mut self,
        cq: &mut CompletionRing,
        want: u32,
        patience: &Patience,
    ) -> Result<Woken, EnterError> {
        let (mut wait, mut rest) =
            (Wait::new(self.features(), cq, want, patience)?, Rest::default());
        loop {
            let missing = wait.missing(cq);
            if missing == 0 {
                return Ok(Woken::Ready);
            }
            let min_complete = wait.slots(cq, missing, 0)?;
            let (arg, how) = wait.arg();
            let flags = self.asking(cq, true) | how;
            let back = match self.enter(0, min_complete, flags, arg) {
                Ok(_) => Back::Silent,
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

    /// Rests before it waits on, where the kernel waits for devices alone.
    fn rest(&self, rest: &mut Rest, wait: &Wait<'_>, submitted: u32) -> Result<(), EnterError> {
        if self.early() == Early::Never {
            return Ok(());
        }
        rest.take(self.base.fd(), wait.left(), wait.signals())
            .map_err(|errno| EnterError::new(submitted, errno))
    }

    /// SQPOLL: publishes everything written, and wakes the polling thread if it sleeps.
    pub(crate) fn publish(&mut self, sq: &mut SubmissionRing) -> Result<u32, EnterError> {
        let (_, published, written) = sq.indices();
        let count = written.distance_from(published);
        if count > 0 {
            sq.flush();
            self.submitted += u64::from(count);
        }
        // Also what was flushed before, by hand, or by a submit that could not wake it.
        if sq.unconsumed() > 0 {
            self.wake(sq).map_err(|errno| EnterError::new(count, errno))?;
        }
        Ok(count)
    }

    /// SQPOLL: wakes the polling thread if it sleeps (SQ5).
    fn wake(&mut self, sq: &SubmissionRing) -> Result<(), Errno> {
        if sq.needs_wakeup() {
            self.enter(0, 0, EnterFlags::SQ_WAKEUP, EnterArg::None)?;
        }
        Ok(())
    }

    /// SQPOLL: waits until the polling thread has made room for `count` entries.
    pub(crate) fn wait_for_room(
        &mut self,
        sq: &mut SubmissionRing,
        count: u32,
    ) -> Result<(), EnterError> {
        self.publish(sq)?;
        while sq.room() < count {
            if sq.room() == 0 {
                let flags = EnterFlags::SQ_WAIT | EnterFlags::SQ_WAKEUP;
                self.enter(0, 0, flags, EnterArg::None)
                    .map_err(|errno| EnterError::new(0, errno))?;
            } else {
                // The kernel waits for one slot only. A thread that died asks to be woken.
                self.wake(sq).map_err(|errno| EnterError::new(0, errno))?;
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Enters with `pending` entries, and takes note of how many the kernel consumed.
    #[inline]
    fn consume(
        &mut self,
        sq: &mut SubmissionRing,
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

impl Gate {
    /// Takes note that the kernel consumed `count` entries.
    #[inline]
    fn took(&mut self, sq: &mut SubmissionRing, count: u32) {
        sq.consumed(count);
        self.submitted += u64::from(count);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // In a forked child the index names nothing, or a ring of the child's own.
        if let Some((index, thread)) = self.registered
            && thread == this_thread()
        {
            let _ = crate::register::forget_ring(&self.base, index);
        }
    }
}

/// Whether the kernel, given `pending` entries, neither consumed nor dropped one.
fn stuck(sq: &SubmissionRing, pending: u32, count: u32) -> bool {
    count == 0 && pending > 0 && sq.unconsumed() == pending
}
