//! After a drained operation: how the entries that the kernel holds back go on.
//!
//! ```text
//!   read ─► drained ─► write          write begins when both have ended …
//!                        ▲
//!                        └ … and the kernel looks: when a request ends, and when an entry comes
//! ```
//!
//! Since Linux 6.16 the kernel holds every entry back while a request is in flight, from a drain on
//! until an entry comes while none is. It counts a request as in flight until the worker thread
//! that ran it lets go of it, which is a moment after it completed. An entry that comes in that
//! moment is held back, and if nothing else happens, for good. So:
//!
//! | call | while an entry may be held back |
//! |---|---|
//! | a wait | every [`LOOK`] it pushes a NOP, which makes the kernel look |
//! | a wait, while something is being cancelled | then also cancels that past the queue |
//! | the end of the ring | so does a round of cancels that ended nothing, less often each time |
//! | a submission that must not wait for others | first pushes NOPs while nothing is in flight |
//!
//! Earlier kernels count completions instead, and count some wrongly: then a drained operation
//! would never begin, nor anything after it. So it is rejected.
//!
//! Leaves to others: which operations must not wait for others (`ring`), and what is in flight
//! (`slab`).
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

use std::time::Duration;

use annulus_sys::flags::Features;
use annulus_sys::opcode::Opcode;
use annulus_sys::sq::Full;

use crate::lease::ticket::Rejection;
use crate::prep;
use crate::raw::capabilities;
use crate::raw::register;
use crate::raw::wait_options::WaitOptions;
use crate::ring::Ring;
use crate::ring::internal::NEVER_BEGINS;
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// How long a wait lasts before it pushes its first NOP. Each time it is that much longer, up to
/// [`MAX_LOOK`]: the worker thread has let go long before.
const LOOK: Duration = Duration::from_millis(100);

const MAX_LOOK: Duration = Duration::from_secs(1);

/// How many NOPs end the effect of a drain. One that comes before the worker thread has let go
/// changes nothing (seen on 6.18 and 6.19), so there are more.
const LAST_NOPS: u32 = 3;

/// How long we leave the worker thread for that, each time.
const LET_GO: Duration = Duration::from_micros(300);

/// How long, at most, a submission waits for the ring's own entries. Nothing holds those up, so a
/// second is far more than they need.
const INTERNAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a ring whose kernel counts wrongly accepts no drained operation.
const MISCOUNTED: Rejection = Rejection::Invalid {
    reason: "before Linux 6.16 a drained operation may never begin while a multishot operation or \
             a zero-copy send is in flight, after a zero-copy send, and after a multishot that may \
             have ended for lack of room: use another ring, or make a chain instead",
};

impl<U: Default> Ring<U> {
    /// Whether an operation that is drained would begin at all.
    #[cold]
    pub(crate) fn may_drain(&mut self) -> Result<(), Rejection> {
        if !self.raw.is_here() {
            return Err(Rejection::OtherProcess);
        }
        if self.internal.keeps_watch() {
            return Err(NEVER_BEGINS);
        }
        let Self { raw, slab, internal, .. } = self;
        // `PIPE` is as old as the count of requests.
        let ask = || capabilities::has_op(raw.base(), Opcode::PIPE);
        if slab.may_miscount() && !*internal.counts_requests.get_or_insert_with(ask) {
            return Err(MISCOUNTED);
        }
        Ok(())
    }

    /// Submits, and waits for `want` completions or what `options` say. While an entry may be held
    /// back it waits for a while only, pushes a NOP, and says that something is ready: wait again.
    pub(crate) fn enter_to_wait(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<(u32, Woken), EnterError> {
        let short = if self.slab.may_wait() && self.raw.features().contains(Features::EXT_ARG) {
            options.at_most_for(self.internal.look(LOOK, MAX_LOOK))
        } else {
            None
        };
        let Some(short) = short else {
            return self.raw.submit_and_wait_with_unasked(want, options);
        };
        let (submitted, woken) = self.raw.submit_and_wait_with_unasked(want, &short)?;
        if woken == Woken::TimedOut {
            self.internal.looked();
            self.cancel_past_queue();
            self.let_kernel_look()?;
        }
        Ok((submitted, Woken::Ready))
    }

    /// Cancels by system calls (since Linux 6.0) what is being cancelled: the cancels that are
    /// entries may wait for the very operations that they are to end.
    #[cold]
    fn cancel_past_queue(&self) {
        let mut all = self.slab.in_flight_user_data();
        all.retain(|&user_data| self.slab.is_being_cancelled(user_data));
        for user_data in all {
            register::cancel_now(self.raw.base(), user_data);
        }
    }

    /// Makes the kernel look at what it holds back.
    pub(crate) fn let_kernel_look(&mut self) -> Result<(), EnterError> {
        // If there is no room, the entries in the queue make the kernel look.
        if self.raw.has_room() {
            self.push_nop().map_err(|Full| EnterError::new(0, EnterCause::OutOfRequests))?;
        }
        Ok(())
    }

    /// Pushes a NOP of the ring's own, whose completion makes the ring's descriptor readable.
    pub(crate) fn wake_itself(&mut self) -> Result<(), EnterError> {
        self.make_internal_room()?;
        self.push_nop().map_err(|Full| EnterError::new(0, EnterCause::OutOfRequests))
    }

    /// Pushes a NOP of the ring's own.
    fn push_nop(&mut self) -> Result<(), Full> {
        let name = self.internal.name_nop();
        let sqe = self.internal.tagged(prep::nop(), name);
        // SAFETY: the entry points to nothing (OP1).
        unsafe { self.raw.push_known(sqe) }?;
        self.internal.pushed(name);
        Ok(())
    }

    /// Ends the effect of a drained operation on later ones: pushes NOPs while nothing else is in
    /// flight. See [`may_wait`](super::slab::Slab::may_wait).
    #[cold]
    pub(crate) fn go_past_drained(&mut self) -> Result<(), Rejection> {
        if !self.raw.is_here() {
            return Err(Rejection::OtherProcess);
        }
        if self.internal.count() > 0 {
            self.pull(None).map_err(Rejection::Enter)?;
        }
        if self.slab.in_flight() > 0 || self.internal.is_watched() {
            return Err(Rejection::Drained);
        }
        // A cancel of ours may itself be held back: then nothing but an entry ends that.
        for _ in 0..LAST_NOPS {
            self.raw.sleep(LET_GO);
            self.make_internal_room().map_err(Rejection::Enter)?;
            self.push_nop().map_err(|Full| Rejection::QueueFull)?;
            self.await_internal().map_err(Rejection::Enter)?;
            // A restricted ring may refuse it; and then it is as if there had been none.
            if self.internal.was_refused() {
                return Err(Rejection::Drained);
            }
        }
        if self.internal.has_cancels() {
            return Err(Rejection::Drained);
        }
        self.slab.waits_no_more();
        self.internal.looks_no_more();
        Ok(())
    }

    /// Submits the ring's internal requests, and waits briefly for them. Nothing else is in flight,
    /// so the caller has no operation of its own to wait for.
    fn await_internal(&mut self) -> Result<(), EnterError> {
        let until = self.raw.now() + INTERNAL_TIMEOUT;
        loop {
            let left = until.saturating_duration_since(self.raw.now());
            self.wait_a_little(left.min(INTERNAL_TIMEOUT / 100))?;
            // The poll on the mailbox may stay armed.
            if self.internal.count() == u32::from(self.internal.is_watched()) || left.is_zero() {
                return Ok(());
            }
        }
    }
}
