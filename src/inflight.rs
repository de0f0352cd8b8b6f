//! The slots: where operations lie while the kernel has them.
//!
//! ```text
//!   free ──► in flight ──► done ──► free        a slot's life; its generation counts the laps
//!              │    ▲         ▲
//!              │    └ F_MORE  │ the last completion: nothing else takes an operation out
//!              └──────────────┘
//!
//!   headers   │ key │ kind │ result │ user │ …  ours alone: ordinary memory
//!   payloads  │ Read { fd, buf, .. }       │ …  the kernel's too: reached by pointer only
//! ```
//!
//! An entry's `user_data` is `kind:2 | generation:30 | slot:32`. A slot's key is that same word
//! while its operation is in flight, and differs from it in the slot's half otherwise; so one
//! comparison tells a completion of ours from every other word, forged, repeated or late.
//!
//! The payloads are one allocation, never moved, as many as the ring has completion entries: what
//! completes once can never overflow the ring. Between `Berth::prep` and the last completion no
//! reference covers a payload.
//!
//! What a completion brings is bound when the completion is consumed, and lies in the slot until
//! the ticket is redeemed: then completions have come in between, and their order would be lost.
//!
//! Keeps OP1, OP2, OP3 and RG1. Leaves to others: pushing entries, and what an operation is.
//!
//! # Safety
//!
//! A payload holds a live operation of the type that `kind` is of in every state but `free`.
#![allow(unsafe_code, reason = "owns operations in memory that the kernel uses")]

mod berth;
mod cancels;
mod held;
mod payload;
mod walk;
mod word;

use std::mem;
use std::ptr::NonNull;

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use crate::lease::Brought;
use crate::op::{Brings, Done, Fate, Op, Shot, Shots};
use crate::ticket::Ticket;

pub(crate) use berth::At;
use held::Held;
#[cfg(test)]
pub(crate) use payload::PAYLOAD;
use payload::{Kind, NOTHING, Payloads, contained};
pub(crate) use word::{CANCEL, DONE, NOBODY, kind, low};
use word::{LAP, NONE, SPECIAL, STATE};

/// Something about an operation in flight that its last completion must look at.
mod mark {
    /// It completes more than once.
    pub(super) const MANY: u8 = 1;
    /// Nobody wants its output any more.
    pub(super) const ORPHAN: u8 = 2;
    /// Its notification has come.
    pub(super) const NOTIFIED: u8 = 4;
    /// Its result has come, and its notification is to come.
    pub(super) const REPORTED: u8 = 8;
    /// A cancel of the ring's own has not completed.
    pub(super) const CANCEL: u8 = 16;
    /// Its entry was taken back.
    pub(super) const TAKEN_BACK: u8 = 32;
}

/// In a completion that is not the last one, or that comes after the result.
const CONTINUES: CqeFlags = CqeFlags::MORE.union(CqeFlags::NOTIF);

/// Whether an operation may borrow, and so must end with its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Life {
    Static,
    Scoped,
    /// There is none: a mark for walks over the slots. See [`Slab::mark_free`].
    Over,
}

/// Our side of a slot.
#[derive(Debug)]
#[repr(C)]
struct Slot<U> {
    /// Generation and slot, and the state.
    key: u64,
    kind: &'static Kind,
    // Side by side, so that one store does for all of them.
    marks: u8,
    life: Life,
    pad: [u8; 2],
    /// Shots that wait to be taken.
    waiting: u32,
    result: i32,
    flags: CqeFlags,
    /// The next free slot, if this one is free.
    link: u32,
    /// What its notification said; or how often it completed, if it does so many times.
    notified: i32,
    user: U,
    held: Held,
}

/// All slots of a ring.
#[derive(Debug)]
pub(crate) struct Slab<U> {
    slots: Box<[Slot<U>]>,
    /// The number of the last slot: all ones, since there are as many as a power of two.
    last: u32,
    payloads: Payloads,
    free: u32,
    in_flight: u32,
    /// Of those, how many nobody wants.
    orphans: u32,
    /// Of those that nobody wants, how many may complete more than once.
    murmurs: u32,
    /// Of those that are wanted, how many may bring any number of completions before the last one.
    endless: u32,
    /// Of those that are wanted, how many may bring one more before the last: their result, before
    /// a notification.
    twofold: u32,
    stale: u64,
    /// Whether what is submitted may wait for others, since one was drained.
    drained: bool,
}

/// What a completion turned out to be.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The last of the operation in that slot.
    Ended(u32),
    /// One of many.
    Shot(u32, Shot),
    /// The last one, and it brought something.
    Last(u32, Shot),
    Message(u64),
    /// Its word, and its result.
    Own(u64, i32),
    Raw(Cqe),
    /// One that nobody waits for, or that named nothing.
    Nothing,
}

/// The word of an operation that is over: dropped with this, whatever panics before. Should it
/// panic itself, the output does not go down with it.
struct Word<'a, U: Default>(&'a mut U);

impl<U: Default> Drop for Word<'_, U> {
    #[inline]
    fn drop(&mut self) {
        if mem::needs_drop::<U>() {
            contained(|| drop(mem::take(self.0)));
        }
    }
}

impl<U: Default> Slot<U> {
    /// Gives the slot back to the head of the list of `free` ones, for its next generation. Runs no
    /// code of the user's: the word stays, to be dropped when the operation is finished.
    #[inline]
    fn release(&mut self, index: u32, free: &mut u32) {
        // The next generation; after 2^30 of them, the first again.
        self.key = (self.key + LAP) & !kind::MASK;
        self.link = *free;
        *free = index;
    }
}

impl<U> Slot<U> {
    /// Whether the operation of the ticket is in flight here.
    fn is_flying<O>(&self, ticket: &Ticket<O>) -> bool {
        self.key & !SPECIAL == ticket.word()
    }

    /// What is known of the operation, which has ended.
    fn fate(&self) -> Fate {
        if self.marks & mark::TAKEN_BACK != 0 {
            Fate::TakenBack
        } else if self.marks & mark::MANY != 0 {
            Fate::Often(self.notified.cast_unsigned())
        } else {
            Fate::Usual
        }
    }
}

impl<U: Default> Slab<U> {
    /// `count` free slots.
    pub(crate) fn new(count: u32) -> Self {
        // So that no slot's number has the bits that say what state it is in.
        assert!(count <= 1 << 20 && count.is_power_of_two(), "OP2: {count} slots");
        let slot = |index: u32| Slot {
            key: LAP | u64::from(index) | DONE,
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
        let (free, in_flight, orphans, stale) = (0, 0, 0, 0);
        let (murmurs, endless, twofold, drained) = (0, 0, 0, false);
        let last = count - 1;
        Self {
            slots,
            last,
            payloads,
            free,
            in_flight,
            orphans,
            murmurs,
            endless,
            twofold,
            stale,
            drained,
        }
    }

    /// Takes note of a completion that is the only one of an operation in flight: of what nearly
    /// all are. Of any other it takes no note, and says `None`.
    #[inline]
    pub(crate) fn settle_plain(&mut self, cqe: Cqe) -> Option<(u32, &mut U)> {
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

    /// Takes note of a completion. Whatever its words say, nothing but an operation in flight is
    /// touched.
    pub(crate) fn settle(&mut self, cqe: Cqe) -> Settled {
        if let Some((index, _)) = self.settle_plain(cqe) {
            return Settled::Ended(index);
        }
        let index = low(cqe.user_data);
        match self.slots.get(index as usize) {
            Some(slot) if slot.key & !SPECIAL == cqe.user_data => self.unusual(index, cqe),
            _ => self.others(cqe),
        }
    }

    /// [`settle`](Self::settle), in pieces, so that the caller need not keep the whole in memory.
    #[cold]
    pub(crate) fn settle_parts(&mut self, user_data: u64, res: i32, flags: u32) -> Settled {
        self.settle(Cqe { user_data, res, flags: CqeFlags::from_bits_retain(flags) })
    }

    /// A completion that names no operation in flight.
    fn others(&mut self, cqe: Cqe) -> Settled {
        match cqe.user_data & kind::MASK {
            kind::RAW => Settled::Raw(cqe),
            kind::MESSAGE => Settled::Message(cqe.user_data & !kind::MASK),
            kind::OWN => {
                self.cancel_ended(cqe.user_data);
                Settled::Own(cqe.user_data & !kind::MASK, cqe.res)
            }
            _ => {
                self.stale += 1;
                Settled::Nothing
            }
        }
    }

    /// A completion of an operation that completes many times, or that nobody waits for.
    fn unusual(&mut self, index: u32, cqe: Cqe) -> Settled {
        let slot = &mut self.slots[index as usize];
        let (kind, more) = (slot.kind, cqe.flags.contains(CqeFlags::MORE));
        let wanted = slot.marks & mark::ORPHAN == 0;
        let mut shot = None;
        match kind.shots {
            Shots::Notified if cqe.flags.contains(CqeFlags::NOTIF) => {
                slot.notified = cqe.res;
                slot.marks |= mark::NOTIFIED;
            }
            Shots::Many => {
                slot.notified = slot.notified.wrapping_add(1);
                let brought = slot.held.bring(kind.brings, cqe);
                (slot.result, slot.flags) = (cqe.res, cqe.flags);
                if wanted && (more || (kind.last_is_shot)(cqe.res)) {
                    shot = Some(Shot { result: cqe.res, flags: cqe.flags, brought });
                }
            }
            Shots::One | Shots::Notified => {
                (slot.result, slot.flags) = (cqe.res, cqe.flags);
                if kind.shots == Shots::Notified && more && slot.marks & mark::REPORTED == 0 {
                    slot.marks |= mark::REPORTED;
                    self.twofold -= u32::from(wanted);
                }
                if kind.shots == Shots::Notified && more && wanted {
                    let brought = Brought::Nothing;
                    shot = Some(Shot { result: cqe.res, flags: cqe.flags, brought });
                }
            }
        }
        if !more {
            match kind.shots {
                Shots::One if kind.brings != Brings::Number => slot.held.bind(kind.brings, cqe),
                Shots::Many => slot.held.end(cqe.res),
                Shots::One | Shots::Notified => {}
            }
            slot.key = slot.key & !SPECIAL | DONE;
            self.in_flight -= 1;
            self.end_repeating(index);
            self.orphans -= u32::from(!wanted);
        }
        match (more, wanted, shot) {
            (true, _, None) => Settled::Nothing,
            (true, _, Some(shot)) => Settled::Shot(index, shot),
            (false, false, _) => {
                // Whoever waits just now has a claim, which is not to go down with it.
                contained(|| self.bury(index));
                Settled::Nothing
            }
            (false, true, Some(shot)) => Settled::Last(index, shot),
            (false, true, None) => Settled::Ended(index),
        }
    }

    /// The output of the operation, if it has ended. What is `left` of its shots goes with it.
    #[inline]
    pub(crate) fn take<O: Op>(
        &mut self,
        ticket: Ticket<O>,
        left: Brought,
    ) -> Result<O::Output, Ticket<O>> {
        let index = low(ticket.done()) & self.last;
        // SAFETY: a number up to the last slot's, because of the mask.
        let slot = unsafe { self.slots.get_unchecked_mut(index as usize) };
        if slot.key != ticket.done() {
            assert!(slot.is_flying(&ticket), "OP2: a ticket's slot was given away");
            return Err(ticket);
        }
        let notified = O::SHOTS == Shots::Notified && slot.marks & mark::NOTIFIED != 0;
        let (result, flags) = (slot.result, slot.flags);
        let fate = if O::SHOTS == Shots::Many { slot.fate() } else { Fate::Usual };
        let notified = notified.then_some(slot.notified);
        let brought = match (O::BRINGS, O::SHOTS) {
            (_, Shots::Many) => left,
            (Brings::Number, _) => Brought::Nothing,
            _ => slot.held.take(),
        };
        // SAFETY: ended, so the kernel is done with it (OP1), and of this type, because only
        // `Berth::sail` makes tickets for this slab, and the ring compared its number (OP2).
        let op = unsafe { self.payloads.at(index).cast::<O>().read() };
        slot.release(index, &mut self.free);
        // The word goes last, as code of the user's: an operation whose effect has come about must
        // not be dropped as if it had not (OP3). And it goes also if finishing panics.
        let word = Word(&mut slot.user);
        let output = op.finish(Done::new(result, flags, notified, brought).with(fate));
        drop(word);
        Ok(output)
    }

    /// Gives up the claim: the output is dropped now, or when it comes.
    pub(crate) fn abandon<O>(&mut self, ticket: Ticket<O>) {
        if self.slots[ticket.slot() as usize].is_flying(&ticket) {
            self.orphan(ticket.slot());
        } else {
            assert!(self.is_done(&ticket), "OP2: a ticket's slot was given away");
            self.bury(ticket.slot());
        }
    }

    /// Drops the output of an operation that has ended.
    #[cold]
    fn bury(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.key & DONE != 0, "OP1: the kernel has the operation");
        let brought = slot.held.take();
        let done = Done::new(slot.result, slot.flags, None, brought).with(slot.fate());
        let kind = slot.kind;
        // Out of the slot, and the slot in order, before any code of the user's runs.
        // SAFETY: ended, so the kernel is done with it (OP1).
        let mut copy = unsafe { self.payloads.at(index).read() };
        slot.release(index, &mut self.free);
        let word = Word(&mut slot.user);
        // SAFETY: the operation that the slot held, once, of the type that `kind` is of (OP2).
        unsafe { (kind.bury)(NonNull::from(&mut copy), done) };
        drop(word);
    }

    /// Ends an operation whose entry was taken back, as if the kernel had cancelled it.
    ///
    /// # Safety
    ///
    /// The kernel must not have it, nor get it.
    pub(crate) unsafe fn scuttle(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.key & DONE == 0, "OP1: an operation that is not in flight");
        slot.key = slot.key & !SPECIAL | DONE;
        slot.marks |= mark::TAKEN_BACK;
        (slot.result, slot.flags) = (-libc::ECANCELED, CqeFlags::empty());
        self.in_flight -= 1;
        self.end_repeating(index);
        self.orphans -= u32::from(self.is_orphan(index));
        // It may be a panic of another step's that brought us here.
        contained(|| self.bury(index));
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

    /// What names the slot's present tenant among all that it ever has.
    pub(crate) fn tenant(&self, slot: u32) -> u64 {
        self.slots[slot as usize].key & !STATE
    }

    /// Whether the slot's tenant is still the same, and has not been released.
    pub(crate) fn is_tenant(&self, slot: u32, tenant: u64) -> bool {
        self.slots[slot as usize].key & !STATE == tenant
    }

    /// Whether at least `count` slots are free.
    pub(crate) fn has_vacant(&self, count: u32) -> bool {
        let next = |at: &u32| self.slots.get(*at as usize).map(|slot| slot.link);
        std::iter::successors(Some(self.free), next).take(count as usize + 1).count()
            > count as usize
    }

    /// Notes which slot of a chain was taken before this one, which is in flight.
    pub(crate) fn follow(&mut self, slot: u32, before: Option<u32>) {
        self.slots[slot as usize].link = before.unwrap_or(NONE);
    }

    /// Which slot of a chain was taken before this one.
    pub(crate) fn followed(&self, slot: u32) -> Option<u32> {
        let before = self.slots[slot as usize].link;
        (before != NONE).then_some(before)
    }

    pub(crate) fn waiting(&mut self, slot: u32) -> &mut u32 {
        &mut self.slots[slot as usize].waiting
    }

    pub(crate) fn is_orphan(&self, slot: u32) -> bool {
        self.slots[slot as usize].marks & mark::ORPHAN != 0
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// How many slots are free.
    pub(crate) fn vacant(&self) -> u32 {
        let (mut count, mut at) = (0, self.free);
        while let Some(slot) = self.slots.get(at as usize) {
            (count, at) = (count + 1, slot.link);
        }
        count
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How many operations in flight will end without an event, since nobody wants them.
    pub(crate) fn orphans(&self) -> u32 {
        self.orphans
    }

    /// Completions that named no operation in flight: 0, unless someone forges them.
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }

    /// Whether what is in the slot is of a scope.
    pub(crate) fn is_scoped(&self, slot: u32) -> bool {
        self.slots[slot as usize].life == Life::Scoped
    }
}
