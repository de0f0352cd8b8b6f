//! Waits with options: for a number of events, for at most a time, and with a choice of signals.
//!
//! Leaves to others: the options (`raw::wait_options`), and the plain waits (`waiting`).

use crate::lease::ticket::Unfinished;
use crate::raw::wait_options::WaitOptions;
use crate::ring::{Redeem, Ring};
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// # Waiting with options
impl<U: Default> Ring<U> {
    /// As [`submit_and_wait`](Self::submit_and_wait), with `options`. Also returns how the wait
    /// ended.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait), and [`EnterCause::Unsupported`] for an option
    /// that this kernel lacks.
    pub fn submit_and_wait_with(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<(u32, Woken), EnterError> {
        let needed = options.insists_on(want);
        if self.is_plain() && (needed <= self.slab.in_flight() || self.check_can_come(needed)?) {
            return self.raw.submit_and_wait_with_unasked(want, options);
        }
        self.wait_for_events(want, options)
    }

    /// Waits when some completions are not the caller's: waits for one at a time, and keeps it.
    pub(crate) fn wait_for_events(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<(u32, Woken), EnterError> {
        let (started, mut woken) = (self.raw.now(), Woken::Ready);
        let options = WaitOptions { min_wait: options.least(), ..options.clone() };
        let needed = options.insists_on(want);
        let given_up = self.slab.detached();
        let mut submitted = self.submit_all()?;
        let failed = |submitted| move |error: EnterError| EnterError { submitted, ..error };
        loop {
            // Asked first: senders that are gone by now have sent everything, and `pull` finds it.
            let awaited = self.internal.has_senders();
            self.pull(None).map_err(failed(submitted))?;
            let since = self.raw.now().saturating_duration_since(started);
            let ended = given_up - self.slab.detached();
            let come = self.undelivered.count(&self.slab) + ended as usize;
            if come >= options.enough(want, since) as usize {
                return Ok((submitted, Woken::Ready));
            }
            let coming = self.may_come(u32::try_from(come).unwrap_or(u32::MAX));
            if coming < needed {
                if awaited {
                    continue; // The last sender has just gone, perhaps after sending.
                }
                let cause = EnterCause::NothingComing { want: needed, coming };
                return Err(EnterError::new(submitted, cause));
            }
            self.serve();
            let Some(left) = options.left(since).filter(|_| woken == Woken::Ready) else {
                return Ok((submitted, Woken::TimedOut));
            };
            // The end of a minimum wait is not that of the wait.
            let goes_on = options.min_wait.is_some_and(|least| least > since);
            match self.enter_to_wait(1, &left) {
                Ok((more, why)) => {
                    submitted += more;
                    // Its clock may be another one than ours (REGISTER_CLOCK): it decides.
                    woken = if goes_on { Woken::Ready } else { why };
                }
                Err(error) => return Err(failed(submitted + error.submitted)(error)),
            }
        }
    }

    /// As [`wait`](Self::wait), with `options`; a minimum wait has no effect for one operation.
    ///
    /// A signal does not end the wait, unless `options` [admit](WaitOptions::signals) it.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back: [`EnterCause::TimedOut`] when the time is up,
    /// [`EnterCause::Interrupted`] when such a signal came, and [`EnterCause::Unsupported`] for an
    /// option that this kernel lacks.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    #[track_caller]
    pub fn wait_with<T: Redeem>(
        &mut self,
        mut ticket: T,
        options: &WaitOptions,
    ) -> Result<T::Output, Unfinished<T>> {
        let options = WaitOptions { min_wait: None, ..options.clone() };
        let started = self.raw.now();
        loop {
            ticket = match self.try_take(ticket) {
                Ok(output) => return Ok(output),
                Err(ticket) => ticket,
            };
            let since = self.raw.now().saturating_duration_since(started);
            let ended = match options.left(since) {
                Some(left) => match self.turn_with(ticket.quiet(), &left) {
                    // Its clock may be another one than ours (REGISTER_CLOCK): it decides.
                    Ok(Woken::TimedOut) => Err(EnterError::new(0, EnterCause::TimedOut)),
                    turn => turn.map(drop),
                },
                None => self
                    .pull(ticket.quiet())
                    .and_then(|()| Err(EnterError::new(0, EnterCause::TimedOut))),
            };
            if let Err(why) = ended {
                return self.try_take(ticket).map_err(|ticket| Unfinished { ticket, why });
            }
        }
    }

    /// One turn of a wait: enters the kernel if no completion is ready, then takes all that are.
    /// Returns how the enter ended.
    fn turn_with(
        &mut self,
        quiet: Option<u32>,
        options: &WaitOptions,
    ) -> Result<Woken, EnterError> {
        self.serve();
        if options.signals.is_some() {
            // On its own: a call that also submits entries would not report a signal.
            let submitted = self.raw.submit().map(drop);
            submitted.or_else(|error| self.ignore_refusal(error))?;
        }
        let entered = if self.raw.ready() == 0 {
            self.enter_to_wait(1, options).map(|(_, woken)| woken)
        } else {
            // Queued entries must start too, even if completions are ready.
            self.raw.submit().map(|_| Woken::Ready)
        };
        let woken = match entered {
            Ok(woken) => woken,
            Err(error) if error.cause == EnterCause::Interrupted && options.signals.is_some() => {
                self.pull(quiet)?;
                return Err(error);
            }
            Err(error) => self.ignore_refusal(error).map(|()| Woken::Ready)?,
        };
        self.pull(quiet).map(|()| woken)
    }
}
