//! A lane: a ring of its own for operations of one type, whose outputs go straight to a closure.
//!
//! ```text
//!   submit(op, user) ─► slot: O, U ─► kernel ─► completion ─► turn(want, |user, output| ..)
//! ```
//!
//! The type is known at each place, so a slot has no table of functions, no ticket and no event:
//! a completion ends its operation in the loop that takes it. That is what a C program does by
//! hand, and it costs as much.
//!
//! The page of [`Lane`] begins with a guide. Keeps OP2. Leaves to others: the slots
//! (`lane::slots`), completions that end no operation (`lane::aside`), the waits (`lane::waiting`),
//! and the end of a lane (`lane::end`).
#![allow(unsafe_code, reason = "hands the kernel memory that operations point to")]

mod aside;
mod end;
mod slots;
mod waiting;

use std::fmt;
use std::time::Duration;

use annulus_sys::process::Process;

use crate::lease::ticket::{Rejected, Rejection};
use crate::lease::user_data::low;
use crate::op::{Completions, Op, ResultKind};
use crate::raw::{RawRing, RingId};
use crate::ring::{DROP_TIMEOUT, make_room, next_id};
use crate::setup::Setup;
use crate::setup::enter_error::EnterError;
use crate::setup::setup_error::SetupError;
use aside::Aside;
use slots::Slots;

/// A ring for operations of one type `O`, each with a user value of type `U`. It owns everything
/// that the kernel uses, as a [`Ring`](crate::Ring) does, and costs a third of the instructions.
///
/// | to | call | enters the kernel |
/// |---|---|---|
/// | make a lane | [`Setup::build_lane`] | yes |
/// | submit an operation | [`submit`](Self::submit) | only to make room |
/// | hand the queue to the kernel | [`submit_all`](Self::submit_all) | if anything is queued |
/// | … submit, wait and take outputs in one call | [`turn`](Self::turn) | once, as a rule |
/// | wait, and take later | [`submit_and_wait`](Self::submit_and_wait), [`reap`](Self::reap) | if it must |
/// | stop an operation | [`cancel`](Self::cancel) | only to make room |
/// | end the lane | [`shutdown`](Self::shutdown), or drop it | to cancel, and to wait |
///
/// A lane accepts operations that complete once, and carry a number or a descriptor: reads, writes,
/// accepts, opens and so on. What completes more than once, lets the kernel select a buffer, or is
/// [drained](Op::drained) does not compile; it goes to a `Ring`. Nor are there tickets, chains,
/// senders and scopes. A program may have a lane beside its `Ring`, for what it does most.
///
/// A lane belongs to the thread that made it: its type is not `Send`. A forked child cannot use it:
/// see [fork](crate#fork).
///
/// # Example
///
/// ```
/// use annulus::{Lane, Setup, op};
/// use std::fs::File;
/// use std::rc::Rc;
///
/// type Read = op::Read<Rc<File>, Vec<u8>>;
///
/// // The user value says which block it is.
/// let mut lane: Lane<Read, usize> = Setup::new(8).build_lane()?;
/// let file = Rc::new(File::open("/proc/self/exe")?);
/// for number in 0..4 {
///     let at = number as u64 * 512;
///     lane.submit(Read::new(Rc::clone(&file), Vec::with_capacity(512)).at(at), number)?;
/// }
/// let mut blocks = vec![Vec::new(); 4];
/// lane.turn(4, |number, outcome| blocks[number] = outcome.buf)?;
/// assert!(blocks[0].starts_with(b"\x7fELF"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// An operation that completes more than once is refused when the program is built:
///
/// ```compile_fail,E0080
/// use annulus::{Lane, Setup, op};
/// use std::net::TcpListener;
///
/// let lane: Lane<op::AcceptMulti<TcpListener>> = Setup::new(8).build_lane().unwrap();
/// ```
pub struct Lane<O: Op + 'static, U = ()> {
    raw: RawRing,
    slots: Slots<O, U>,
    aside: Aside,
    id: RingId,
    drop_timeout: Duration,
    /// Everything was waited for already.
    is_over: bool,
    process: Process,
}

/// # Building a lane
impl Setup<'_> {
    /// Makes a ring for operations of one type, each with a user value of type `U`, for this
    /// thread.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    ///
    /// # Panics
    ///
    /// When there is no memory for so many operations or user values of that size.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    ///
    /// let mut lane: Lane<op::Nop> = Setup::new(8).build_lane()?;
    /// lane.submit(op::Nop, ())?;
    /// assert_eq!(lane.turn(1, |(), result| assert_eq!(result.ok(), Some(0)))?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_lane<O: Op + 'static, U>(&self) -> Result<Lane<O, U>, SetupError> {
        self.build_raw().map(Lane::over)
    }
}

/// # Submitting
impl<O: Op + 'static, U> Lane<O, U> {
    /// A lane over `raw`, which must be new.
    fn over(raw: RawRing) -> Self {
        const {
            assert!(
                matches!(O::COMPLETIONS, Completions::Single),
                "a lane is for operations that complete once: submit this one to a `Ring`"
            );
            assert!(
                matches!(O::RESULT_KIND, ResultKind::Number | ResultKind::Fd) && !O::HAS_SOURCE,
                "a lane is for operations whose result is a number or a descriptor: submit one \
                 that selects from a buffer ring or a file table to a `Ring`"
            );
            assert!(!O::DRAINS, "a lane accepts no drained operation: submit it to a `Ring`");
        }
        Self {
            // At most as many operations as the completion queue has entries: then they can never
            // overflow it.
            slots: Slots::new(raw.cq_entries()),
            aside: Aside::default(),
            id: next_id(),
            drop_timeout: DROP_TIMEOUT,
            is_over: false,
            process: Process::this(),
            raw,
        }
    }

    /// Queues `op`. It enters the kernel with the next [`turn`](Self::turn),
    /// [`submit_all`](Self::submit_all) or wait. Until its completion, the lane owns everything
    /// that the operation owns. The key is for [`cancel`](Self::cancel), and may be dropped.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation and the user value back, with the reason.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Nop;
    /// use annulus::{Lane, Rejection, Setup};
    ///
    /// let mut lane: Lane<Nop, &str> = Setup::new(1).cq_entries(2).build_lane()?;
    /// lane.submit(Nop, "one")?;
    /// lane.submit(Nop, "two")?;
    /// let rejected = lane.submit(Nop, "three").expect_err("two is all it holds");
    /// assert_eq!((rejected.why, rejected.user), (Rejection::NoSlot, "three"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit(&mut self, op: O, user: U) -> Result<LaneKey, Rejected<O, U>> {
        let Self { raw, slots, id, .. } = self;
        if !O::NEEDS.is_empty() && !raw.features().contains(O::NEEDS) {
            return Err(Rejected { op, user, why: Rejection::Unsupported { needs: O::NEEDS } });
        }
        let mut filling = slots.filling();
        let mut placed = match filling.place(op) {
            Ok(placed) => placed,
            Err(op) => return Err(Rejected { op, user, why: Rejection::NoSlot }),
        };
        if let Err(why) = placed.admit(*id) {
            return Err(Rejected { op: placed.back(), user, why });
        }
        let sqe = placed.prep();
        // Checked only now, because the caller's code ran up to here, and may have forked.
        if !raw.is_here() {
            return Err(Rejected { op: placed.back(), user, why: Rejection::OtherProcess });
        }
        // SAFETY: everything that the entry points to lies in the slot, or is owned from there. It
        // stays until the last completion, as promised to `Op` (OP1); `'static`, so for as long as
        // it takes.
        if unsafe { raw.push_known(sqe) }.is_err() {
            let op = placed.back();
            drop(filling);
            return self.submit_after_all(op, user);
        }
        Ok(LaneKey { word: placed.commit(user), lane: *id })
    }

    /// [`submit`](Self::submit), after the submission queue was full.
    #[cold]
    fn submit_after_all(&mut self, op: O, user: U) -> Result<LaneKey, Rejected<O, U>> {
        match make_room(&mut self.raw) {
            // There is room now, so it does not come here again.
            Ok(()) => self.submit(op, user),
            Err(why) => Err(Rejected { op, user, why }),
        }
    }

    /// Queues all of these operations, each with its user value, and returns how many. Costs less
    /// than a [`submit`](Self::submit) of each, since what the lane knows of its queue stays in
    /// registers.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the first operation that was refused back, and its user value. Those
    /// before it are queued; those after it are still in `ops`, if that was lent (`by_ref`).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    ///
    /// let mut lane: Lane<op::Nop, u32> = Setup::new(8).build_lane()?;
    /// lane.submit_each((0..3).map(|number| (op::Nop, number)))?;
    /// let mut sum = 0;
    /// lane.turn(3, |number, _| sum += number)?;
    /// assert_eq!(sum, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit_each(
        &mut self,
        ops: impl IntoIterator<Item = (O, U)>,
    ) -> Result<u32, Rejected<O, U>> {
        let mut ops = ops.into_iter();
        let before = self.slots.submitted();
        // In one place that calls the caller's code, so that it is compiled into the loop.
        while let Some(Rejected { op, user, why }) = self.fill(&mut ops) {
            if why != Rejection::QueueFull {
                return Err(Rejected { op, user, why });
            }
            self.submit_after_all(op, user)?;
        }
        Ok(low(self.slots.submitted().wrapping_sub(before)))
    }

    /// Queues operations until there are no more, or until one is refused.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "keeps what the iterator captures in registers")]
    fn fill(&mut self, ops: &mut impl Iterator<Item = (O, U)>) -> Option<Rejected<O, U>> {
        let Self { raw, slots, id, process, .. } = self;
        let supported = O::NEEDS.is_empty() || raw.features().contains(O::NEEDS);
        let (id, process) = (*id, *process);
        // When the caller's code panics, both keep what was queued until then.
        let mut filling = slots.filling();
        let mut pusher = raw.rings_mut().sq().pusher();
        loop {
            let (op, user) = ops.next()?;
            if !supported {
                let why = Rejection::Unsupported { needs: O::NEEDS };
                return Some(Rejected { op, user, why });
            }
            let mut placed = match filling.place(op) {
                Ok(placed) => placed,
                Err(op) => return Some(Rejected { op, user, why: Rejection::NoSlot }),
            };
            if let Err(why) = placed.admit(id) {
                return Some(Rejected { op: placed.back(), user, why });
            }
            let sqe = placed.prep();
            // Checked only now, because the caller's code ran up to here, and may have forked.
            if !process.is_this() {
                return Some(Rejected { op: placed.back(), user, why: Rejection::OtherProcess });
            }
            // SAFETY: as in `submit`: everything that the entry points to stays until the last
            // completion, as promised to `Op` (OP1).
            if unsafe { pusher.push(sqe) }.is_err() {
                return Some(Rejected { op: placed.back(), user, why: Rejection::QueueFull });
            }
            placed.commit(user);
        }
    }

    /// Hands all queued entries to the kernel. Makes no system call when there are none. Returns
    /// how many entries the kernel took.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; entries that were not taken stay queued for the next time.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    ///
    /// let mut lane: Lane<op::Nop> = Setup::new(8).build_lane()?;
    /// lane.submit(op::Nop, ())?;
    /// assert_eq!(lane.submit_all()?, 1); // It begins. Its output comes with a later call.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit_all(&mut self) -> Result<u32, EnterError> {
        self.raw.submit()
    }
}

/// # Counters, and the raw ring
impl<O: Op + 'static, U> Lane<O, U> {
    /// How many operations are in flight: submitted, and their output not yet taken.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        u32::try_from(self.left()).unwrap_or(u32::MAX)
    }

    /// How many operations are in flight: each completion that is no stray has ended one.
    #[inline]
    fn left(&self) -> u64 {
        let popped = self.raw.rings().halves().1.popped();
        self.slots.left_of(popped.wrapping_sub(self.aside.strays()))
    }

    /// How many more operations can be submitted before an output must be taken.
    #[inline]
    pub fn vacant(&self) -> u32 {
        self.slots.count() - self.in_flight()
    }

    /// How many completions named no operation in flight: 0, unless completions are forged.
    pub fn stale(&self) -> u64 {
        self.aside.stale()
    }

    /// The raw ring, for reading: sizes, [`stats`](RawRing::stats), descriptor.
    pub fn raw(&self) -> &RawRing {
        &self.raw
    }
}

impl<O: Op + 'static, U> fmt::Debug for Lane<O, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { raw, aside, id, .. } = self;
        f.debug_struct("Lane")
            .field("in_flight", &self.in_flight())
            .field("id", id)
            .field("aside", aside)
            .field("raw", raw)
            .finish_non_exhaustive()
    }
}

/// Names an operation of a [`Lane`], to [cancel](Lane::cancel) it. Once the operation has ended, it
/// names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneKey {
    word: u64,
    lane: RingId,
}

impl fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word, lane } = self;
        f.debug_struct("LaneKey").field("word", word).field("lane", &lane.0).finish()
    }
}
