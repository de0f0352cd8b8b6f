//! Taking the outputs of a lane, and waiting for them.
//!
//! ```text
//!   turn ─► enter ─► completion ─┬─ ends an operation ─► each(user, output)
//!                                └─ any other ─────────► aside
//! ```
//!
//! Each completion is consumed, and its slot is free, before the caller's code runs: so that code
//! may panic, and no other output is lost or repeated.
//!
//! While a cancel is on its way, or completions are kept, the kernel's count of completions is not
//! that of outputs. Then a wait takes all that is ready, keeps what ends operations, and waits for
//! what is missing. Keeps OP2 and OP3.
#![allow(unsafe_code, reason = "vouches for completions of the queue")]

use annulus_sys::cq::Batch;

use super::aside::Aside;
use super::slots::Slots;
use super::{Lane, LaneKey};
use crate::op::Op;
use crate::raw::{Coming, RawRing};
use crate::ring::reaping::can_be_taken;
use crate::setup::enter_error::{EnterCause, EnterError};

/// # Taking outputs
impl<O: Op + 'static, U> Lane<O, U> {
    /// Submits all queued entries, waits until at least `want` outputs are there, and calls `each`
    /// with the user value and the output of every operation that has ended: a whole turn of a loop
    /// in one call. Returns how many those were.
    ///
    /// Leaves completions that the kernel holds back as task work to the next call. To wait
    /// elsewhere between two turns, on an eventfd for example, call [`reap`](Self::reap) first.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait). If a signal ended the wait
    /// ([`EnterCause::Interrupted`]), or completions had to be taken first, `each` has seen the
    /// outputs that were there.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    /// use std::net::{TcpListener, TcpStream};
    /// use std::rc::Rc;
    ///
    /// type Accept = op::Accept<Rc<TcpListener>>;
    ///
    /// let mut lane: Lane<Accept> = Setup::new(8).build_lane()?;
    /// let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    /// let _client = TcpStream::connect(listener.local_addr()?)?;
    /// lane.submit(Accept::new(listener), ())?;
    /// let mut connections = Vec::new();
    /// lane.turn(1, |(), accepted| connections.push(accepted.result))?;
    /// let _connection = TcpStream::from(connections.remove(0)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn turn(&mut self, want: u32, each: impl FnMut(U, O::Output)) -> Result<u32, EnterError> {
        let mut want = Some(want);
        if self.aside.is_busy() || want.map(u64::from) > Some(self.left()) {
            self.wait_first(want.unwrap_or(0))?;
            want = None;
        }
        self.take_in(want, each)
    }

    /// Calls `each` with the user value and the output of every operation that has ended, and
    /// returns how many those were. Waits for nothing.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking for completions that the kernel holds back; `each` has seen the
    /// earlier ones.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    ///
    /// let mut lane: Lane<op::Nop, u32> = Setup::new(8).build_lane()?;
    /// lane.submit(op::Nop, 7)?;
    /// lane.submit_and_wait(1)?;
    /// let mut users = Vec::new();
    /// assert_eq!(lane.reap(|user, result| users.push((user, result.ok())))?, 1);
    /// assert_eq!(users, [(7, Some(0))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn reap(&mut self, each: impl FnMut(U, O::Output)) -> Result<u32, EnterError> {
        if self.aside.is_busy() {
            self.aside.failed(); // Left there by a turn in which `each` panicked.
        }
        self.take_in(None, each)
    }

    /// Takes completions in one call of the raw ring, and hands over the outputs.
    #[inline]
    fn take_in(
        &mut self,
        want: Option<u32>,
        mut each: impl FnMut(U, O::Output),
    ) -> Result<u32, EnterError> {
        let mut count = 0;
        if self.aside.is_busy() {
            while let Some((user, output)) = self.kept_output() {
                count += 1;
                each(user, output);
            }
        }
        let Self { raw, slots, aside, .. } = self;
        let mut others = 0;
        let take = |raw: &mut RawRing| take_all(raw, slots, aside, &mut others, &mut each);
        let taken = raw.take_in(want, Coming::Known, take);
        count += taken.map_or(0, |taken| taken - others);
        if others > 0 || self.aside.is_busy() {
            self.note_stale();
            // Those of a ring whose completions are of other sizes.
            while let Some((user, output)) = self.kept_output() {
                count += 1;
                each(user, output);
            }
            if let Some(error) = self.aside.failed() {
                return Err(error);
            }
        }
        taken.map(|_| count)
    }

    /// The oldest output whose completion was kept.
    #[cold]
    fn kept_output(&mut self) -> Option<(U, O::Output)> {
        loop {
            let cqe = self.aside.next_kept()?;
            // SAFETY: taken from the ring's queue, and not passed on yet (OP1, OP3).
            let ended = unsafe { self.slots.ending().end(cqe) };
            if ended.is_some() {
                return ended;
            }
            // It was posted twice, and so names nothing now.
            self.aside.stray(cqe.user_data);
        }
    }

    /// Somebody else's completions may have come: the raw ring's count of those to come may be too
    /// low.
    #[cold]
    pub(super) fn note_stale(&mut self) {
        if self.aside.stale() > 0 {
            self.raw.expect_others();
        }
    }
}

/// # Waiting
impl<O: Op + 'static, U> Lane<O, U> {
    /// Submits all queued entries, and waits until at least `want` outputs can be
    /// [reaped](Self::reap).
    ///
    /// # Errors
    ///
    /// [`EnterError`]: [`EnterCause::NothingComing`] when fewer operations are in flight, and
    /// [`EnterCause::Interrupted`] when a signal ended the wait: wait again, or stop. The error
    /// says how many entries were submitted.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{EnterCause, Lane, Setup, op};
    ///
    /// let mut lane: Lane<op::Nop> = Setup::new(8).build_lane()?;
    /// lane.submit(op::Nop, ())?;
    /// let error = lane.submit_and_wait(2).expect_err("one is all that comes");
    /// assert_eq!(error.cause, EnterCause::NothingComing { want: 2, coming: 1 });
    /// assert_eq!(lane.submit_and_wait(1)?, 1);
    /// assert_eq!(lane.reap(|(), _| ())?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_and_wait(&mut self, want: u32) -> Result<u32, EnterError> {
        let coming = self.in_flight();
        if want > coming {
            self.raw.check_process()?;
            return Err(EnterError::new(0, EnterCause::NothingComing { want, coming }));
        }
        if !self.aside.is_busy() {
            return self.raw.submit_and_wait_unasked(want);
        }
        self.wait_past_others(want)
    }

    /// Waits before a turn that may need to wait in another way than the usual one. An error with
    /// which the turn is to end once it has shown what is ready is put aside.
    #[cold]
    fn wait_first(&mut self, want: u32) -> Result<(), EnterError> {
        self.aside.failed(); // Left there by a turn in which `each` panicked.
        match self.submit_and_wait(want) {
            Ok(_) => Ok(()),
            Err(error) if can_be_taken(error.cause) => {
                self.aside.fail(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for `want` outputs while completions come that carry none.
    fn wait_past_others(&mut self, want: u32) -> Result<u32, EnterError> {
        self.keep_ready()?;
        let missing = want.saturating_sub(self.aside.kept());
        let mut submitted = self.raw.submit_and_wait_unasked(missing)?;
        loop {
            self.keep_ready()?;
            let missing = want.saturating_sub(self.aside.kept());
            if missing == 0 {
                return Ok(submitted);
            }
            let more = self.raw.submit_and_wait_unasked(missing);
            let failed =
                |later: EnterError| EnterError::new(submitted + later.submitted, later.cause);
            submitted += more.map_err(failed)?;
        }
    }

    /// Takes every completion there is, and keeps those that end operations.
    pub(super) fn keep_ready(&mut self) -> Result<(), EnterError> {
        let Self { raw, slots, aside, .. } = self;
        raw.take_in(None, Coming::Known, |raw| keep_all(raw, slots, aside))?;
        self.note_stale();
        Ok(())
    }
}

/// Takes the completions in the queue, and hands over the outputs. Counts those that carry none.
#[inline(always)]
#[expect(clippy::inline_always, reason = "keeps what `each` captures in registers")]
fn take_all<O: Op, U>(
    raw: &mut RawRing,
    slots: &mut Slots<O, U>,
    aside: &mut Aside,
    others: &mut u32,
    each: &mut impl FnMut(U, O::Output),
) -> Batch {
    let cq = raw.rings_mut().cq();
    if let Some(cqe) = cq.next_alone() {
        // SAFETY: just taken from the ring's queue, and not passed on yet (OP1, OP3).
        match unsafe { slots.ending().end(cqe) } {
            Some((user, output)) => each(user, output),
            None => {
                *others += 1;
                aside.stray(cqe.user_data);
            }
        }
        return Batch { count: 1, hints: cq.hints() };
    }
    let (mut ending, mut count, mut runs) = (slots.ending(), 0, 0);
    // Calls `each` in one place, so that it is compiled into the loop.
    loop {
        let Some(mut run) = cq.next_run() else { break };
        // What is rare is done outside of the inner loop, whose values stay in registers.
        loop {
            let other = loop {
                let Some(cqe) = run.next_unnoted() else { break None };
                // SAFETY: just taken from the ring's queue, and not passed on yet (OP1,
                // OP3).
                match unsafe { ending.end(cqe) } {
                    Some((user, output)) => each(user, output),
                    None => break Some((cqe.user_data, cqe.flags)),
                }
            };
            let Some((user_data, flags)) = other else { break };
            run.note(flags);
            *others += 1;
            aside.stray(user_data);
        }
        let taken = run.finish();
        count += taken;
        runs += 1;
        // Two runs have all that was there. More may come as fast as this takes it.
        if runs == 2 || !cq.has_known() {
            return Batch { count, hints: cq.hints() };
        }
    }
    drop(ending);
    // Its completions are of other sizes, or are the parent's.
    let kept = keep_all(raw, slots, aside);
    *others += kept.count;
    Batch { count: count + kept.count, hints: kept.hints }
}

/// Takes the completions in the queue, and keeps those that end operations.
#[cold]
fn keep_all<O: Op, U>(raw: &mut RawRing, slots: &Slots<O, U>, aside: &mut Aside) -> Batch {
    raw.rings_mut().cq().drain(|cqe| {
        if slots.is_ended_by(cqe) {
            aside.keep(cqe);
        } else {
            aside.stray(cqe.user_data);
        }
    })
}

/// # Stopping
impl<O: Op + 'static, U> Lane<O, U> {
    /// Asks the kernel to cancel an operation. It still completes, perhaps with success, and its
    /// output comes as any other. Does nothing if the operation has ended.
    ///
    /// A cancel may miss its operation: one that a worker thread is just starting. Then cancel
    /// again.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the submission queue is full and making room failed, when earlier
    /// cancels pile up and taking their completions failed, and in a forked child. Then no cancel
    /// was submitted.
    ///
    /// # Panics
    ///
    /// When the key belongs to another lane.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    /// use std::io::{PipeReader, pipe};
    ///
    /// let mut lane: Lane<op::Read<PipeReader, Vec<u8>>> = Setup::new(8).build_lane()?;
    /// let (reader, _writer) = pipe()?; // Nothing is ever written.
    /// let key = lane.submit(op::Read::new(reader, vec![0; 64]), ())?;
    /// lane.cancel(&key)?;
    /// lane.turn(1, |(), outcome| {
    ///     assert!(outcome.result.is_err()); // ECANCELED
    ///     assert_eq!(outcome.buf.len(), 64);
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn cancel(&mut self, key: &LaneKey) -> Result<(), EnterError> {
        assert!(key.lane == self.id, "OP2: a key of {} on {}", key.lane, self.id);
        self.raw.check_process()?;
        if !self.slots.is_in_flight(key.word) {
            return Ok(());
        }
        if self.aside.cancels() >= self.slots.count() || !self.raw.has_room() {
            // Completions of cancels pile up, or an old kernel's thread has stopped because they
            // overflow.
            self.keep_ready()?;
        }
        self.push_cancel(key.word)
    }
}
