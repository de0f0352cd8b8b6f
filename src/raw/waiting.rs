//! The raw ring's waits: for a number of completions, with or without submitting first.
//!
//! | wait | submits | ends at the latest |
//! |---|---|---|
//! | [`RawRing::submit_and_wait`] | yes | when enough completions are ready |
//! | [`RawRing::turn`] | yes, and takes them | when enough completions are ready |
//! | [`RawRing::submit_and_wait_timeout`] | yes | after a time |
//! | [`RawRing::submit_and_wait_with`] | yes | as its options say |
//! | [`RawRing::wait`] | no | when enough completions are ready |
//! | [`RawRing::wait_timeout`], [`RawRing::wait_min`] | no | after a time |
//! | [`RawRing::wait_with`] | no | as its options say |
//!
//! Leaves to others: whether a wait can end (`can_end`), entering the kernel (`enter`), and what it
//! means when the kernel returns (`wait_end`).

use std::time::Duration;

use crate::raw::RawRing;
use crate::raw::fast_path::Coming;
use crate::raw::wait_options::WaitOptions;
use crate::setup::enter_error::{EnterError, Woken};

/// # Waiting
impl RawRing {
    /// Submits everything pushed, and waits until `want` completions are ready to pop. Completions
    /// that are ready already count. Returns how many entries were submitted.
    ///
    /// # Errors
    ///
    /// [`EnterError`]. [`EnterCause::NothingComing`](crate::EnterCause::NothingComing) if that many
    /// completions can never come. [`EnterCause::Interrupted`](crate::EnterCause::Interrupted) if a
    /// signal ended the wait: then wait again. [`EnterError::submitted`] says how many entries went
    /// in.
    #[inline]
    pub fn submit_and_wait(&mut self, want: u32) -> Result<u32, EnterError> {
        match self.enter_once(want, Coming::Unknown) {
            Ok(count) => Ok(count),
            Err(unfinished) => self.finish(want, Coming::Unknown, unfinished),
        }
    }

    /// Like [`submit_and_wait`](Self::submit_and_wait), for at most `timeout`. Also returns how the
    /// wait ended.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait), but never `NothingComing`, since a wait
    /// with a limit ends even if nothing comes. Needs Linux 5.11.
    pub fn submit_and_wait_timeout(
        &mut self,
        want: u32,
        timeout: Duration,
    ) -> Result<(u32, Woken), EnterError> {
        self.submit_and_wait_with(want, &WaitOptions::at_most(timeout))
    }

    /// Like [`submit_and_wait`](Self::submit_and_wait), with wait options. Also returns how the
    /// wait ended.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait), and
    /// [`EnterCause::Unsupported`](crate::EnterCause::Unsupported) for options that this kernel
    /// lacks.
    pub fn submit_and_wait_with(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<(u32, Woken), EnterError> {
        let needed = options.insists_on(want);
        if needed > self.in_flight() {
            self.check_pending(needed, 0)?;
        }
        self.submit_and_wait_with_unasked(want, options)
    }

    /// Waits until `want` completions are ready to pop. Submits nothing. Makes no system call if
    /// they are ready already.
    ///
    /// # Errors
    ///
    /// [`EnterCause::NothingComing`](crate::EnterCause::NothingComing) if that many completions can
    /// never come, because too few requests were submitted.
    /// [`EnterCause::Interrupted`](crate::EnterCause::Interrupted) if a signal ended the wait.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(prep::nop())? };
    /// ring.submit()?;
    /// ring.wait(1)?; // `submit_and_wait` does both in one system call.
    /// assert_eq!(ring.pop().map(|cqe| cqe.res), Some(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&mut self, want: u32) -> Result<(), EnterError> {
        self.bounded_wait(want, &WaitOptions::FOREVER).map(drop)
    }

    /// Like [`wait`](Self::wait), for at most `timeout`. Returns how the wait ended.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), but never `NothingComing`. Needs Linux 5.11.
    pub fn wait_timeout(&mut self, want: u32, timeout: Duration) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &WaitOptions::at_most(timeout))
    }

    /// Like [`wait_timeout`](Self::wait_timeout), but a single completion is enough once
    /// [`min_wait`](WaitOptions::min_wait) has passed. This gives few wake-ups under load, and no
    /// long waits otherwise.
    ///
    /// # Errors
    ///
    /// As for [`wait_timeout`](Self::wait_timeout). Needs Linux 6.12 (`IORING_FEAT_MIN_TIMEOUT`).
    pub fn wait_min(
        &mut self,
        want: u32,
        min_wait: Duration,
        timeout: Duration,
    ) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &WaitOptions::at_most(timeout).min_wait(min_wait))
    }

    /// Like [`wait`](Self::wait), with wait options. Returns how the wait ended.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), and [`EnterCause::Unsupported`](crate::EnterCause::Unsupported)
    /// for options that this kernel lacks.
    pub fn wait_with(&mut self, want: u32, options: &WaitOptions) -> Result<Woken, EnterError> {
        self.bounded_wait(want, options)
    }

    pub(crate) fn bounded_wait(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<Woken, EnterError> {
        self.check_mapped()?;
        let (needed, queued) = (options.insists_on(want), self.queued());
        if needed > self.in_flight().saturating_sub(queued) {
            self.check_pending(needed, queued)?;
        }
        self.driver.wait(self.rings.cq(), want, options)
    }

    /// Like [`submit_and_wait`](Self::submit_and_wait), for a caller who knows that enough
    /// completions can come.
    #[inline]
    pub(crate) fn submit_and_wait_unasked(&mut self, want: u32) -> Result<u32, EnterError> {
        match self.enter_once(want, Coming::Known) {
            Ok(count) => Ok(count),
            Err(unfinished) => self.finish(want, Coming::Known, unfinished),
        }
    }

    /// Like [`submit_and_wait_with`](Self::submit_and_wait_with), for a caller who knows that
    /// enough completions can come.
    pub(crate) fn submit_and_wait_with_unasked(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<(u32, Woken), EnterError> {
        self.check_mapped()?;
        let (sq, cq) = self.rings.both();
        self.driver.submit_and_wait_bounded(sq, cq, want, options, 0)
    }
}
