//! Pushing entries, and submitting them.
//!
//! ```text
//!   push, pusher, push_with, push_wide ─┐
//!   reserve ─► Chain ─ commit ──────────┴─► the submission queue ─► submit ─► the kernel
//! ```
//!
//! Leaves to others: the queue (`sq`), and when to enter the kernel (`enter`).
//!
//! # Safety
//!
//! The pushes are unsafe, because entries point to memory: their caller keeps OP1.
#![allow(unsafe_code, reason = "its entries point to memory")]

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::sq::{self, Full, PushWideError};

use crate::raw::RawRing;
use crate::raw::chain::Chain;
use crate::raw::pending::Pending;
use crate::setup::enter_error::{EnterCause, EnterError};

/// # Pushing and submitting
impl RawRing {
    /// Writes `sqe` into the next free slot. The kernel sees it after the next submit.
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free: submit, then push again.
    ///
    /// # Safety
    ///
    /// Everything that `sqe` points to must stay valid until the request's last completion, the one
    /// without `F_MORE`, is popped (OP1). Where the kernel writes, nothing else may read or write
    /// until then. An error from submit does not end this obligation, nor does dropping the ring.
    /// The caller must have the right to use the entry's file. And the process must not be a forked
    /// child of the process that made the ring: the child has other memory where the ring was.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// let sqe = annulus::sys::abi::Sqe { user_data: 7, ..prep::nop() };
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(sqe)? };
    /// assert_eq!(ring.submit()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        self.pending.note(&sqe);
        // SAFETY: as promised to `RawRing::push`.
        unsafe { self.rings.sq().push(sqe) }
    }

    /// Pushes many entries, one after the other: its position stays in a register from one push to
    /// the next. The ring has them once the pusher is dropped. If it is forgotten
    /// ([`mem::forget`](std::mem::forget)), the ring has all, some or none of them; for a chain use
    /// [`reserve`](Self::reserve).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// let mut pusher = ring.pusher();
    /// for number in 0..3 {
    ///     let sqe = annulus::sys::abi::Sqe { user_data: number, ..prep::nop() };
    ///     // SAFETY: a NOP points to nothing (OP1).
    ///     unsafe { pusher.push(sqe)? };
    /// }
    /// drop(pusher);
    /// assert_eq!(ring.submit()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn pusher(&mut self) -> Pusher<'_> {
        Pusher { slots: self.rings.sq().pusher(), pending: &mut self.pending }
    }

    /// Pushes all of `sqes`, in order, or none of them.
    ///
    /// # Errors
    ///
    /// [`Full`] when fewer slots are free; nothing was pushed.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push), for each of them.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(4).build_raw()?;
    /// let entries = [1, 2, 3].map(|number| prep::nop().with_user_data(number));
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push_all(&entries)? };
    /// // SAFETY: NOPs, likewise (OP1).
    /// assert!(unsafe { ring.push_all(&entries) }.is_err()); // One slot is free.
    /// assert_eq!(ring.submit()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn push_all(&mut self, sqes: &[Sqe]) -> Result<(), Full> {
        let Self { rings, pending, .. } = self;
        let count = u32::try_from(sqes.len()).map_err(|_| Full)?;
        let mut slots = rings.sq().reserve(count)?;
        for &sqe in sqes {
            // SAFETY: as promised to `push_all`.
            unsafe { slots.push(sqe) }?;
        }
        slots.commit();
        sqes.iter().for_each(|sqe| pending.note(sqe));
        Ok(())
    }

    /// Fills the next free slot in place: `fill` gets a blank entry in the memory that the kernel
    /// will read. If `fill` unwinds, nothing was pushed.
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free; `fill` was not called.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push), for the entry that `fill` leaves.
    #[inline]
    pub unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) -> Result<(), Full> {
        let pending = &mut self.pending;
        let fill = |sqe: &mut Sqe| {
            fill(sqe);
            pending.note(sqe);
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
        self.pending.note(&sqe.first);
        // SAFETY: as promised to `RawRing::push_wide`.
        unsafe { self.rings.sq().push_wide(sqe) }
    }

    /// Reserves `count` slots for entries that must be submitted together, such as a chain. If that
    /// is needed to make room, submits the entries that were pushed before.
    ///
    /// # Errors
    ///
    /// The errors of submitting, or [`EnterCause::OutOfRequests`] if the kernel freed too few
    /// slots. Fails with [`EnterCause::TooFewSlots`] if the ring has fewer than `count` slots.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// let link = annulus::sys::flags::SqeFlags::IO_LINK;
    /// let (first, second) = (prep::nop(), prep::nop());
    /// let mut chain = ring.reserve(2)?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { chain.push(annulus::sys::abi::Sqe { flags: link, ..first }) };
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { chain.push(second) };
    /// chain.commit();
    /// ring.submit_and_wait(2)?;
    /// assert_eq!(ring.ready(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, count: u32) -> Result<Chain<'_>, EnterError> {
        self.check_process()?;
        crate::raw::chain::check_size(count, self.rings.sq().entries())?;
        let mut submitted = 0;
        if self.rings.sq().room() < count {
            submitted = self.submit()?;
            if self.driver.polls() {
                self.driver.wait_for_room(self.rings.sq(), count)?;
            }
        }
        let Self { rings, pending, .. } = self;
        match rings.sq().reserve(count) {
            Ok(slots) => Ok(Chain::new(slots, pending)),
            Err(Full) => Err(EnterError::new(submitted, EnterCause::OutOfRequests)),
        }
    }

    /// Submits everything pushed, and returns how many entries the kernel consumed (with
    /// `SQE_MIXED`, how many slots). Makes no system call if there is nothing to submit.
    ///
    /// An invalid entry does not make the submit fail: its completion carries the error. On a ring
    /// without `SUBMIT_ALL`, the kernel stops at such an entry; this function then enters the
    /// kernel again for the rest.
    ///
    /// # Errors
    ///
    /// [`EnterError`]. Entries that were not consumed stay queued for the next submit.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(prep::nop())? };
    /// assert_eq!(ring.submit()?, 1);
    /// assert_eq!(ring.submit()?, 0); // Nothing is left, so this makes no system call.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit(&mut self) -> Result<u32, EnterError> {
        self.check_mapped()?;
        let (sq, cq) = self.rings.both();
        self.driver.submit(sq, Some(cq))
    }

    /// Publishes everything pushed without entering the kernel. Returns how many entries the kernel
    /// has yet to consume, which is the `to_submit` of [`enter`](Self::enter).
    pub fn flush(&mut self) -> u32 {
        self.rings.sq().flush()
    }
}

/// Pushes entries, one after the other: see [`RawRing::pusher`].
#[derive(Debug)]
#[must_use = "a pusher pushes nothing by itself"]
pub struct Pusher<'r> {
    slots: sq::Pusher<'r>,
    pending: &'r mut Pending,
}

impl Pusher<'_> {
    /// Writes `sqe` into the next free slot. The kernel sees it after the next submit.
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free: drop the pusher, submit, then push again.
    ///
    /// # Safety
    ///
    /// As for [`RawRing::push`].
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        self.pending.note(&sqe);
        // SAFETY: as promised to `Pusher::push`.
        unsafe { self.slots.push(sqe) }
    }
}
