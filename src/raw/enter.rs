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
//! Keeps CQ5. Leaves to others: the enter of a busy ring (`fast_path`), how the ring is named
//! (`naming`), what was pushed, and who gets the completions.
#![allow(unsafe_code, reason = "enters the kernel")]

mod naming;

use std::sync::Arc;

use annulus_sys::abi::Sqe;
use annulus_sys::cq::CompletionQueue;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags, SqRingFlags};
use annulus_sys::kernel::Kernel;
use annulus_sys::opcode::Opcode;
use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::sq::SubmissionQueue;
use annulus_sys::syscall::{EnterArg, RingRef, Thread};

pub(in crate::raw) use self::naming::Moves;
use self::naming::name;
use crate::raw::mode::{By, Defers, Enters, Mode};
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
    /// The ring's name: that index, or its descriptor, which `base` keeps open.
    ring: RingRef<'static>,
    /// The process that may enter. A forked child's descriptor also leads to its parent's ring.
    process: Process,
    /// The same if entering works in the usual way, and otherwise none: both questions in one.
    usual: Process,
    pub(crate) enters: u64,
    /// How many requests were submitted, or published to a polling thread. With `SQE_MIXED` that is
    /// not known, and `submitted_slots` counts in place of it.
    pub(crate) submitted: u64,
    submitted_slots: u64,
    pub(crate) overflows: u64,
    /// Whether a chain may have a close of a descriptor that its steps use.
    closes: bool,
    moves: Moves,
}

impl Driver {
    pub(crate) fn new(base: Arc<Base>) -> Self {
        let mode = Mode::of(base.params().flags);
        // A forked child may have inherited a disabled ring, and make a driver for it.
        let ours = base.is_of_this_process();
        let process = if ours { Process::this() } else { Process::none() };
        let ring = name(&base);
        let usual = if mode.enters == Enters::Usual { process } else { Process::none() };
        Self {
            base,
            mode,
            registered: None,
            ring,
            process,
            usual,
            enters: 0,
            submitted: 0,
            submitted_slots: 0,
            overflows: 0,
            closes: false,
            moves: Moves::No,
        }
    }

    pub(crate) fn base(&self) -> &Arc<Base> {
        &self.base
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

    /// Whether entering works in the usual way, in the process that made the ring.
    #[inline]
    pub(super) fn is_usual(&self) -> bool {
        self.usual.is_this()
    }

    /// Records that our mapping is no longer the memory that the kernel uses.
    pub(super) fn set_unmapped(&mut self) {
        self.usual = Process::none();
    }

    #[inline]
    pub(super) fn kernel(&self) -> &Kernel {
        self.base.kernel()
    }

    /// The ring's name.
    #[inline]
    pub(super) fn ring(&self) -> RingRef<'static> {
        self.ring
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
        let (kernel, ring) = (self.base.kernel(), self.ring);
        // SAFETY: OP1 holds for every entry in the ring, as promised to `RawRing::push`.
        let count = unsafe { kernel.enter(ring, to_submit, min_complete, flags, arg) }?;
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
        let hints = cq.hints();
        self.overflows += u64::from(hints.contains(SqRingFlags::CQ_OVERFLOW));
        let asks = always || Self::holds_back(hints);
        if asks { EnterFlags::GETEVENTS } else { EnterFlags::empty() }
    }

    /// The hints that say that the kernel holds completions back.
    pub(crate) const HELD_BACK: SqRingFlags = SqRingFlags::CQ_OVERFLOW.union(SqRingFlags::TASKRUN);

    /// Whether the kernel says that it holds completions back.
    #[inline]
    pub(crate) fn flagged(cq: &CompletionQueue) -> bool {
        Self::holds_back(cq.hints())
    }

    /// Whether `hints` say that the kernel holds completions back.
    #[inline]
    pub(crate) fn holds_back(hints: SqRingFlags) -> bool {
        hints.intersects(Self::HELD_BACK)
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
            if left == 0 {
                return Ok(submitted);
            }
        }
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
        let wait = Wait::new(&self.base, cq, want, options);
        let mut wait = wait.map_err(|error| EnterError::new(submitted, error.cause))?;
        let mut rest = Rest::default();
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
    pub(super) fn look_again(
        &mut self,
        cq: &CompletionQueue,
        submitted: u32,
    ) -> Result<(), EnterError> {
        self.get_events(cq).map_err(|error| EnterError::new(submitted, error.cause))
    }

    /// Waits until `want` completions are ready. Submits nothing.
    pub(crate) fn wait(
        &mut self,
        cq: &mut CompletionQueue,
        want: u32,
        options: &WaitOptions,
    ) -> Result<Woken, EnterError> {
        let (mut wait, mut rest) = (Wait::new(&self.base, cq, want, options)?, Rest::default());
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
            self.count(count);
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
        // A ring that is still disabled makes no room, and only an enter says so.
        if self.base.params().flags.contains(SetupFlags::R_DISABLED) && sq.room() < count {
            self.enter(0, 0, EnterFlags::empty(), EnterArg::None)
                .map_err(|errno| EnterError::new(0, errno))?;
        }
        self.publish(sq)?;
        while sq.room() < count {
            if sq.room() == 0 {
                let flags = EnterFlags::SQ_WAIT | EnterFlags::SQ_WAKEUP;
                self.enter(0, 0, flags, EnterArg::None)
                    .map_err(|errno| EnterError::new(0, errno))?;
            } else {
                // The kernel waits for one slot only. A polling thread that died asks to be woken.
                self.wake(sq).map_err(|errno| EnterError::new(0, errno))?;
                self.base.kernel().rest();
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

/// Aims each close that is left of a chain at no descriptor, if the enter that consumed `count`
/// entries cut that chain: it would no longer wait for the steps that use its descriptor (OP1).
#[cold]
fn disarm_closes(sq: &mut SubmissionQueue, count: u32) {
    let disarm = |sqe: &mut Sqe| {
        if sqe.opcode == Opcode::CLOSE {
            sqe.fd = -1; // EBADF: the number was not closed.
        }
    };
    // SAFETY: no polling thread, since such a ring accepts no chain that closes; and nobody else
    // enters, since the ring is borrowed (OP1).
    unsafe { sq.amend_cut_chain(count, disarm) };
}

impl Driver {
    /// From now on, chains may close a descriptor that their steps use.
    pub(crate) fn expect_closes(&mut self) {
        self.closes = true;
    }

    /// Records that the kernel consumed `count` entries.
    #[inline]
    pub(super) fn took(&mut self, sq: &mut SubmissionQueue, count: u32) {
        if self.closes {
            disarm_closes(sq, count);
        }
        sq.consumed(count);
        self.count(count);
    }

    /// Counts entries that were submitted.
    #[inline]
    pub(super) fn count(&mut self, count: u32) {
        if self.mode.mixes {
            self.submitted_slots += u64::from(count);
        } else {
            self.submitted += u64::from(count);
        }
    }

    /// How many entries were submitted; with `SQE_MIXED`, how many slots.
    pub(crate) fn sqes(&self) -> u64 {
        self.submitted + self.submitted_slots
    }
}

/// Whether the kernel, given `pending` entries, neither consumed nor dropped any of them.
pub(super) fn stuck(sq: &SubmissionQueue, pending: u32, count: u32) -> bool {
    count == 0 && pending > 0 && sq.unconsumed() == pending
}
