//! Submitting a chain, and waiting for it.
//!
//! ```text
//!   slots counted ─► entries reserved ─► each step placed, prepared, pushed ─► committed
//!                                             │ panics
//!                                             └─► every step out of its slot again
//! ```
//!
//! Keeps OP1. Leaves to others: what a link means (`link`).
#![allow(unsafe_code, reason = "hands the kernel memory that operations point to")]

use annulus_sys::flags::SetupFlags;

use super::{ChainOutcome, ChainTicket, Claims, Ends, Linked, Position, UnsubmittedChain, Watch};
use crate::lease::ticket::{Rejected, Rejection, Unfinished};
use crate::ring::Ring;
use crate::ring::slab::Life;
use crate::setup::enter_error::EnterCause;

/// A chain of no steps would have no end to wait for.
const EMPTY: Rejection =
    Rejection::Invalid { reason: "the chain's list of steps is empty: put at least one step in" };

/// Why a ring accepts no chain that closes its descriptor. A polling thread that several rings
/// share takes at most eight entries of one, and ends the chain there; and on a mixed ring we could
/// not tell which entries an enter left of a chain.
const MAY_BE_CUT: Rejection = Rejection::Invalid {
    reason: "a chain may be cut on a ring with SQPOLL or SQE_MIXED, and would close its descriptor \
             too early: use another ring, or close it when the chain has ended",
};

/// # Doing things in order
impl<U: Default> Ring<U> {
    /// Submits a chain: each step begins when the one before it allows that. The chain enters the
    /// kernel as a whole, with the next [`submit_all`](Self::submit_all) or wait.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the whole chain back, with the reason: [`Rejection::ChainTooLong`] if it
    /// needs more entries than the submission queue has, [`Rejection::Invalid`] if its list of
    /// steps is empty.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{ChainEnd, Setup, op};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// let write = op::Write::new(writer, "hello");
    /// let read = op::Read::new(reader, [0; 5]);
    /// let chain = ring.submit_chain((write, read))?; // The read begins after the write.
    /// let outcome = ring.wait_chain(chain)?;
    /// assert_eq!(outcome.end, ChainEnd::Complete);
    /// let (write, read) = outcome.outputs;
    /// assert_eq!((write.result?, read.result?, read.buf), (5, 5, *b"hello"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// As many writes as there are parts, then a sync:
    ///
    /// ```
    /// use annulus::{ChainEnd, Setup};
    /// use annulus::op::{Fsync, Write};
    /// use std::fs::File;
    /// use std::rc::Rc;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// # let path = std::env::temp_dir().join(format!("annulus-chain-{}", std::process::id()));
    /// let file = Rc::new(File::create(&path)?);
    /// # std::fs::remove_file(path)?;
    /// let (mut writes, mut offset) = (Vec::new(), 0);
    /// for part in ["one, ", "two, ", "three"] {
    ///     writes.push(Write::new(Rc::clone(&file), part).at(offset));
    ///     offset += part.len() as u64;
    /// }
    /// let chain = ring.submit_chain((writes, Fsync::new(file)))?;
    /// let chain = ring.wait_chain(chain)?;
    /// assert_eq!(chain.end, ChainEnd::Complete);
    /// assert_eq!(chain.outputs.0.len(), 3);
    /// chain.outputs.1.result?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_chain<L: Linked + 'static>(
        &mut self,
        chain: L,
    ) -> Result<ChainTicket<L>, Rejected<L>> {
        // SAFETY: `'static`, so it may stay in its slots forever (OP1).
        unsafe { self.place_chain(chain, Life::Static) }
    }

    /// Whether this ring could ever accept the chain; and if so, whether the buffers of a step are
    /// known only from the order in which the kernel selects them.
    pub(in crate::ring) fn admit_chain<L: Linked>(&self, chain: &mut L) -> Result<bool, Rejection> {
        let (count, entries) = (chain.entries(), self.raw.sq_entries());
        if count == 0 {
            return Err(EMPTY);
        }
        if count > entries {
            return Err(Rejection::ChainTooLong { count, entries });
        }
        if L::CLOSES
            && (self.raw.driver().polls()
                || self.raw.base().params().flags.contains(SetupFlags::SQE_MIXED))
        {
            return Err(MAY_BE_CUT);
        }
        if !self.raw.features().contains(L::NEEDS) {
            return Err(Rejection::Unsupported { needs: L::NEEDS });
        }
        let mut claims = Claims::default();
        chain.admit(self.id, &mut claims)?;
        Ok(claims.in_order) // Each step claims again in its slot.
    }

    /// # Safety
    ///
    /// No lifetime in `L` may end before its slots are empty again.
    pub(crate) unsafe fn place_chain<L: Linked>(
        &mut self,
        mut chain: L,
        life: Life,
    ) -> Result<ChainTicket<L>, Rejected<L>> {
        const { L::WAITS.check() }
        let reject = |op, why| Err(Rejected { op, user: (), why });
        let count = chain.entries();
        let in_order = match self.admit_chain(&mut chain) {
            Ok(in_order) => in_order,
            Err(why) => return reject(chain, why),
        };
        if (life == Life::Scoped || L::WAITS.notifies() || in_order)
            && self.slab.may_wait()
            && let Err(why) = self.go_past_drained()
        {
            return reject(chain, why);
        }
        if L::WAITS.drains()
            && let Err(why) = self.may_drain()
        {
            return reject(chain, why);
        }
        if !self.slab.has_vacant(count) {
            return reject(chain, Rejection::NoSlot);
        }
        let Self { raw, slab, id, .. } = self;
        if L::CLOSES {
            raw.driver_mut().expect_closes();
        }
        let slots = match raw.reserve(count) {
            Ok(slots) => slots,
            Err(error) if error.cause == EnterCause::OutOfRequests => {
                return reject(chain, Rejection::QueueFull);
            }
            Err(error) if error.cause == EnterCause::OtherProcess => {
                return reject(chain, Rejection::OtherProcess);
            }
            Err(error) => return reject(chain, Rejection::Enter(error)),
        };
        let mut unsubmitted =
            UnsubmittedChain { slab, slots: Some(slots), ring: *id, life, last: None };
        // SAFETY: as promised to `place_chain`.
        let tickets = unsafe { chain.place(&mut unsubmitted, Position::Last) };
        if let Some(slots) = unsubmitted.slots.take() {
            slots.commit();
            unsubmitted.slab.note_drained(L::WAITS.drains()); // And not if a step panicked.
        }
        Ok(ChainTicket(tickets))
    }

    /// Gives up the tickets of all steps of the chain, as [`detach`](Self::detach) does for one
    /// operation. The steps go on.
    ///
    /// # Panics
    ///
    /// When the chain belongs to another ring.
    pub fn detach_chain<L: Linked>(&mut self, chain: ChainTicket<L>) {
        L::give_up(self, chain.into_tickets());
    }

    /// The outputs of a chain's steps, and how it ended, if every step has completed. Never enters
    /// the kernel: take completions first, by a wait or [`reap`](Self::reap).
    ///
    /// # Errors
    ///
    /// The tickets, while a step is in flight.
    ///
    /// # Panics
    ///
    /// When the chain belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Nop;
    /// use annulus::{ChainEnd, Setup};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let chain = ring.submit_chain((Nop, Nop))?;
    /// let chain = ring.try_take_chain(chain).expect_err("the kernel does not know of it yet");
    /// ring.submit_and_wait(2)?;
    /// ring.reap(|_| ())?; // Or do something else with the events of others.
    /// let outcome = ring.try_take_chain(chain).expect("it has ended");
    /// assert_eq!(outcome.end, ChainEnd::Complete);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_take_chain<L: Linked>(
        &mut self,
        tickets: ChainTicket<L>,
    ) -> Result<ChainOutcome<L::Outputs>, ChainTicket<L>> {
        let mut ends = Ends::new();
        L::ends(self, &tickets.0, &mut ends);
        let Some(end) = ends.chain() else { return Err(tickets) };
        L::settle(self, &tickets.0);
        let outputs = L::take(self, tickets.into_tickets());
        self.undelivered.drop_redeemed(&self.slab);
        Ok(ChainOutcome { outputs, end })
    }

    /// Waits until every step of the chain has completed, and returns their outputs, and how the
    /// chain ended. Other completions that come meanwhile are kept for [`reap`](Self::reap).
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the tickets back when the kernel cannot go on.
    ///
    /// # Panics
    ///
    /// When the chain belongs to another ring. Its tickets are lost then, and its slots stay taken
    /// there.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{ChainEnd, Setup, op};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// drop(reader); // So the write fails.
    /// let chain = ring.submit_chain((op::Write::new(writer, "hello"), op::Nop))?;
    /// let outcome = ring.wait_chain(chain)?;
    /// assert_eq!(outcome.end, ChainEnd::Broken { at: 0 });
    /// let (write, nop) = outcome.outputs;
    /// println!("{:?}", write.result); // EPIPE
    /// assert!(nop.is_err()); // ECANCELED: it never began.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_chain<L: Linked>(
        &mut self,
        mut tickets: ChainTicket<L>,
    ) -> Result<ChainOutcome<L::Outputs>, Unfinished<ChainTicket<L>>> {
        loop {
            tickets = match self.try_take_chain(tickets) {
                Ok(outcome) => return Ok(outcome),
                Err(tickets) => tickets,
            };
            // Each step's end is kept: if the wait fails, it is still to be shown.
            let mut watch = Watch::new(self);
            L::watch(&mut watch, &mut tickets.0);
            let Watch { until, missing, .. } = watch;
            // All of them in one wait; if others complete first, there is another turn. A detached
            // operation may hold what a step waits for, and is dropped between two turns.
            let want = if self.slab.detached() > 0 { 1 } else { missing.unwrap_or(1) };
            match self.wait_turn_for(want, None, until) {
                Ok(()) => {}
                // Our own time limit, which the next round enforces.
                Err(why) if until.is_some() && why.cause == EnterCause::TimedOut => {}
                Err(why) => return Err(Unfinished { ticket: tickets, why }),
            }
        }
    }
}
