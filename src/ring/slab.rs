//! The slots: the memory of operations while the kernel has them.
//!
//! ```text
//!   free ──► in flight ──► done ──► free       a slot's life; its generation counts its reuses
//!              │    ▲         ▲
//!              │    └ F_MORE  │ the last completion: nothing else ends an operation
//!              └──────────────┘
//!
//!   slots     │ key │ kind │ result │ user │ …  ours alone: ordinary memory
//!   payloads  │ Read { fd, buf, .. }       │ …  the kernel's too: reached by pointer only
//! ```
//!
//! An entry's `user_data` is `kind:2 | generation:30 | slot:32`. A slot's key equals it while the
//! operation is in flight, and otherwise differs from it in the slot half. So one comparison tells
//! a completion of ours from every other one: forged, repeated or late.
//!
//! The payloads are one allocation that never moves, of one for each completion queue entry. No
//! reference covers a payload between `Reserved::prep` and the last completion.
//!
//! A completion's resource is owned from the moment the completion is consumed, and lies in the
//! slot until the ticket is redeemed. To identify it only then would be too late: its order would
//! be lost.
//!
//! Keeps OP1, OP2, OP3 and RG1. Leaves to others: pushing entries, and what an operation is.
//!
//! # Safety
//!
//! A payload holds a live operation of the type that `kind` describes, in every state but `free`.
#![allow(unsafe_code, reason = "owns operations in memory that the kernel uses")]

mod cancels;
mod held;
mod output;
mod payload;
mod reserve;
mod walk;

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use crate::lease::Resource;
use crate::lease::ticket::Ticket;
use crate::op::{Completion, Completions, Fate, Op, ResultKind};

use crate::lease::user_data::{BY_TYPE, NONE, ONE_GENERATION, SLOW, STATE, slot_of};
pub(crate) use crate::lease::user_data::{CANCEL, DONE, NOBODY, kind, low};
use held::Held;
use payload::{Kind, NOTHING, Payloads};
pub(crate) use payload::{Thrown, contained, go_on_panicking, keep_first};
pub(crate) use reserve::{At, Terms};

/// A fact about an operation in flight that its last completion must consider.
mod mark {
    /// It was detached: its output is to be dropped.
    pub(super) const DETACHED: u8 = 1;
    /// Its notification has come.
    pub(super) const NOTIFIED: u8 = 2;
    /// Its result has come, and its notification is still to come.
    pub(super) const REPORTED: u8 = 4;
    /// The ring's own cancel of it has not completed.
    pub(super) const CANCEL: u8 = 8;
    /// Its entry was taken back before the kernel saw it.
    pub(super) const TAKEN_BACK: u8 = 16;
}

/// Flags of a completion that is not the last, or that comes after the result.
const CONTINUES: CqeFlags = CqeFlags::MORE.union(CqeFlags::NOTIF);

/// Whether an operation may borrow, and so must end within its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Life {
    Static,
    Scoped,
    /// There is no operation: a mark for walks over the slots. See [`Slab::mark_free`].
    Over,
}

/// The part of a slot that the kernel does not see.
#[derive(Debug)]
#[repr(C)]
struct Slot<U> {
    /// Generation and slot, and the state.
    key: u64,
    kind: &'static Kind,
    // These four bytes are adjacent, so that one store sets them all.
    marks: u8,
    life: Life,
    pad: [u8; 2],
    /// How many of its completions wait to be taken.
    waiting: u32,
    result: i32,
    flags: CqeFlags,
    /// The next free slot, if this one is free. In a chain that is not submitted yet: the slot of
    /// the step before.
    link: u32,
    /// The result of its notification; or, for a multishot operation, how often it has completed.
    notified: i32,
    user: U,
    held: Held,
}

/// All slots of a ring.
#[derive(Debug)]
pub(crate) struct Slab<U> {
    slots: Box<[Slot<U>]>,
    /// The number of the last slot: all ones, because the number of slots is a power of two.
    last: u32,
    payloads: Payloads,
    free: u32,
    in_flight: u32,
    /// Of those in flight, how many are detached.
    detached: u32,
    /// Of the detached ones, how many may complete more than once.
    detached_multishots: u32,
    /// Of those not detached, how many may complete any number of times before the last one.
    endless: u32,
    /// Of those not detached, how many are zero-copy sends whose result has not come.
    twofold: u32,
    stale: u64,
    /// Whether new operations may wait for others, because one was drained.
    drained: bool,
    /// Whether an operation has ended that the kernel may have counted wrongly. See
    /// [`may_miscount`](Self::may_miscount).
    miscounted: bool,
}

/// The outcome of recording a completion.
#[derive(Debug)]
pub(crate) enum Recorded {
    /// The last completion of the operation in that slot.
    Ended(u32),
    /// One of many completions of the operation in that slot.
    Completion(u32, Completion),
    /// The last completion, which also carries an item.
    Last(u32, Completion),
    Message(u64),
    /// The `user_data` of an internal request, and its result.
    Internal(u64, i32),
    Raw(Cqe),
    /// A completion of a detached operation, or one that named nothing.
    Nothing,
}

impl<U: Default> Slot<U> {
    /// Puts the slot at the head of the `free` list, for its next generation. Runs no code of the
    /// caller's: the user value stays, and is dropped when the operation is finished.
    #[inline]
    fn release(&mut self, index: u32, free: &mut u32) {
        // The next generation, which wraps to 0 after 2^30 - 1.
        self.key = (self.key + ONE_GENERATION) & !kind::MASK;
        self.link = *free;
        *free = index;
    }
}

impl<U> Slot<U> {
    /// Whether the operation of the ticket is in flight here.
    fn is_flying<O>(&self, ticket: &Ticket<O>) -> bool {
        self.key & !(SLOW | BY_TYPE) == ticket.user_data()
    }

    /// How the operation, which has ended, came to its end.
    fn fate(&self) -> Fate {
        if self.marks & mark::TAKEN_BACK != 0 {
            Fate::TakenBack
        } else if self.kind.completions != Completions::Single {
            Fate::Often(self.notified.cast_unsigned())
        } else {
            Fate::Usual
        }
    }
}

impl<U: Default> Slab<U> {
    /// `count` free slots.
    pub(crate) fn new(count: u32) -> Self {
        // So that no slot's number has the bits that say what state a slot is in.
        assert!(count <= 1 << 20 && count.is_power_of_two(), "OP2: {count} slots");
        let slot = |index: u32| Slot {
            key: ONE_GENERATION | u64::from(index) | DONE,
            kind: NOTHING,
            held: Held::Nothing,
            result: 0,
            flags: CqeFlags::empty(),
            notified: 0,
            link: if index + 1 == count { NONE } else { index + 1 },
            waiting: 0,
            marks: 0,
            life: Life::Static,
            pad: [0; 2],
            user: U::default(),
        };
        let slots = (0..count).map(slot).collect();
        let payloads = Payloads::new(count);
        let (free, in_flight, detached, stale) = (0, 0, 0, 0);
        let (detached_multishots, endless, twofold) = (0, 0, 0);
        let (drained, miscounted) = (false, false);
        let last = count - 1;
        Self {
            slots,
            last,
            payloads,
            free,
            in_flight,
            detached,
            detached_multishots,
            endless,
            twofold,
            stale,
            drained,
            miscounted,
        }
    }

    /// Records the only completion of an operation, as nearly all are; `None` for any other one.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[inline]
    pub(crate) unsafe fn record_plain(&mut self, cqe: Cqe) -> Option<(u32, &mut U)> {
        let index = low(cqe.user_data);
        let slot = self.slots.get_mut(index as usize)?;
        if slot.key != cqe.user_data || cqe.flags.intersects(CONTINUES) {
            return None;
        }
        slot.key |= DONE;
        slot.result = cqe.res;
        slot.flags = cqe.flags;
        self.in_flight -= 1;
        Some((index, &mut slot.user))
    }

    /// Records a completion. Whatever its `user_data` says, only an operation in flight is touched.
    ///
    /// # Safety
    ///
    /// The kernel must have posted `cqe` on this ring. Each completion must be recorded once, in
    /// the order in which they came (OP1, OP3).
    pub(crate) unsafe fn record(&mut self, cqe: Cqe) -> Recorded {
        // SAFETY: as promised to `record`.
        if let Some((index, _)) = unsafe { self.record_plain(cqe) } {
            return Recorded::Ended(index);
        }
        let index = slot_of(cqe.user_data);
        match self.slots.get(index as usize) {
            Some(slot) if slot.key & !SLOW == cqe.user_data => {
                // SAFETY: as promised to `record`; it names the operation in the slot.
                unsafe { self.unusual(index, cqe) }
            }
            _ => self.others(cqe),
        }
    }

    /// [`record`](Self::record), with the completion in parts, so that the caller keeps no whole
    /// one.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record).
    #[cold]
    pub(crate) unsafe fn settle_parts(&mut self, user_data: u64, res: i32, flags: u32) -> Recorded {
        let cqe = Cqe { user_data, res, flags: CqeFlags::from_bits_retain(flags) };
        // SAFETY: as promised to `settle_parts`.
        unsafe { self.record(cqe) }
    }

    /// A completion that names no operation in flight.
    fn others(&mut self, cqe: Cqe) -> Recorded {
        match cqe.user_data & kind::MASK {
            kind::RAW => Recorded::Raw(cqe),
            kind::MESSAGE => Recorded::Message(cqe.user_data & !kind::MASK),
            kind::INTERNAL => {
                self.cancel_ended(cqe.user_data);
                Recorded::Internal(cqe.user_data & !kind::MASK, cqe.res)
            }
            _ => {
                self.stale += 1;
                Recorded::Nothing
            }
        }
    }

    /// A completion of a detached operation, or of one that completes often or carries a resource.
    ///
    /// # Safety
    ///
    /// As for [`record`](Self::record); and `cqe` must name the operation in flight in this slot.
    unsafe fn unusual(&mut self, index: u32, cqe: Cqe) -> Recorded {
        let slot = &mut self.slots[index as usize];
        let (kind, more) = (slot.kind, cqe.flags.contains(CqeFlags::MORE));
        let wanted = slot.marks & mark::DETACHED == 0;
        let mut completion = None;
        self.miscounted |= kind.completions == Completions::WithNotification;
        match kind.completions {
            Completions::WithNotification if cqe.flags.contains(CqeFlags::NOTIF) => {
                slot.notified = cqe.res;
                slot.marks |= mark::NOTIFIED;
            }
            Completions::Multishot => {
                slot.notified = slot.notified.wrapping_add(1);
                // SAFETY: a completion of the slot's operation, as promised to `unusual` (OP3).
                let resource = unsafe { slot.held.bring(kind.result_kind, cqe) };
                (slot.result, slot.flags) = (cqe.res, cqe.flags);
                if wanted && (more || (kind.last_is_item)(cqe.res)) {
                    completion = Some(Completion { result: cqe.res, flags: cqe.flags, resource });
                }
            }
            Completions::Single | Completions::WithNotification => {
                (slot.result, slot.flags) = (cqe.res, cqe.flags);
                if kind.completions == Completions::WithNotification
                    && more
                    && slot.marks & mark::REPORTED == 0
                {
                    slot.marks |= mark::REPORTED;
                    self.twofold -= u32::from(wanted);
                }
                if kind.completions == Completions::WithNotification && more && wanted {
                    let resource = Resource::Nothing;
                    completion = Some(Completion { result: cqe.res, flags: cqe.flags, resource });
                }
            }
        }
        if !more {
            match kind.completions {
                Completions::Single if kind.result_kind != ResultKind::Number => {
                    // SAFETY: a completion of the slot's operation, as promised to `unusual` (OP3).
                    unsafe { slot.held.bind(kind.result_kind, cqe) }
                }
                Completions::Multishot => slot.held.end(cqe.res),
                Completions::Single | Completions::WithNotification => {}
            }
            slot.key = slot.key & !STATE | DONE;
            // It may have ended because the completion queue was full. Older kernels then end
            // accepts and timers with these errors.
            let maybe_full = matches!(cqe.res.wrapping_neg(), libc::ETIME | libc::ECANCELED);
            self.miscounted |= kind.completions == Completions::Multishot
                && (maybe_full || (kind.last_is_item)(cqe.res));
            self.in_flight -= 1;
            self.end_repeating(index);
            self.detached -= u32::from(!wanted);
        }
        match (more, wanted, completion) {
            (true, _, None) => Recorded::Nothing,
            (true, _, Some(completion)) => Recorded::Completion(index, completion),
            (false, false, _) => {
                // A caller who waits right now has a ticket, which this panic must not destroy.
                // SAFETY: this was the last completion of the operation in the slot (OP1).
                contained(|| unsafe { self.drop_output(index) });
                Recorded::Nothing
            }
            (false, true, Some(completion)) => Recorded::Last(index, completion),
            (false, true, None) => Recorded::Ended(index),
        }
    }
}

impl<U> Slab<U> {
    pub(crate) fn user(&mut self, slot: u32) -> &mut U {
        &mut self.slots[slot as usize].user
    }

    pub(crate) fn result(&self, slot: u32) -> i32 {
        self.slots[slot as usize].result
    }

    pub(crate) fn is_done<O>(&self, ticket: &Ticket<O>) -> bool {
        self.slots[ticket.slot() as usize].key == ticket.done()
    }

    /// A value that names the slot's present operation among all that the slot ever holds.
    pub(crate) fn tenant(&self, slot: u32) -> u64 {
        self.slots[slot as usize].key & !STATE
    }

    /// Whether the slot still holds that operation, and has not been released.
    pub(crate) fn is_tenant(&self, slot: u32, tenant: u64) -> bool {
        self.slots[slot as usize].key & !STATE == tenant
    }

    /// Whether at least `count` slots are free.
    pub(crate) fn has_vacant(&self, count: u32) -> bool {
        let next = |at: &u32| self.slots.get(*at as usize).map(|slot| slot.link);
        std::iter::successors(Some(self.free), next).take(count as usize + 1).count()
            > count as usize
    }

    /// Notes which slot of the chain was taken before this one, which is in flight.
    pub(crate) fn follow(&mut self, slot: u32, before: Option<u32>) {
        self.slots[slot as usize].link = before.unwrap_or(NONE);
    }

    /// Which slot of the chain was taken before this one.
    pub(crate) fn followed(&self, slot: u32) -> Option<u32> {
        let before = self.slots[slot as usize].link;
        (before != NONE).then_some(before)
    }

    pub(crate) fn waiting(&mut self, slot: u32) -> &mut u32 {
        &mut self.slots[slot as usize].waiting
    }

    /// Whether nobody has a ticket of the operation in the slot.
    #[inline]
    pub(crate) fn is_unticketed(&self, slot: u32) -> bool {
        self.slots[slot as usize].kind.is_without_ticket()
    }

    /// Whether the operation in the slot is an `O`, and nobody has a ticket of it.
    pub(crate) fn is_unticketed_as<O: Op + 'static>(&self, slot: u32) -> bool {
        self.slots[slot as usize].kind.is_unticketed::<O>()
    }

    pub(crate) fn is_detached(&self, slot: u32) -> bool {
        self.slots[slot as usize].marks & mark::DETACHED != 0
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// How many slots are free. Looks at each of them.
    pub(crate) fn vacant(&self) -> u32 {
        self.vacant_up_to(u32::MAX)
    }

    /// How many slots are free, if fewer than `most`; else `most`.
    pub(crate) fn vacant_up_to(&self, most: u32) -> u32 {
        let (mut count, mut at) = (0, self.free);
        while count < most
            && let Some(slot) = self.slots.get(at as usize)
        {
            (count, at) = (count + 1, slot.link);
        }
        count
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How many operations in flight are detached, and so end without an event.
    pub(crate) fn detached(&self) -> u32 {
        self.detached
    }

    /// Completions that named no operation in flight: 0, unless someone forges them.
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }
}
