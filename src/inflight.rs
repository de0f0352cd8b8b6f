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
//! completes once can never overflow the ring. Between [`Slab::prep`] and the last completion no
//! reference covers a payload.
//!
//! Keeps OP1, OP2, OP3 and RG1. Leaves to others: pushing entries, and what an operation is.
//!
//! # Safety
//!
//! A payload holds a live operation of the type that `kind` is of in every state but `free`.
#![allow(unsafe_code, reason = "owns operations in memory that the kernel uses")]

use std::alloc::{self, Layout};
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::flags::CqeFlags;

use crate::lease::{Brought, Source};
use crate::op::{Brings, Done, Op, RingId, Shot, Shots};
use crate::ticket::Ticket;

/// How many bytes an operation may have.
pub(crate) const PAYLOAD: usize = 192;

/// Whose a `user_data` word is: its upper two bits.
pub(crate) mod kind {
    /// Of the ring itself: cancels and wake-ups.
    pub(crate) const OWN: u64 = 1 << 62;
    /// A message from a `RingSender`.
    pub(crate) const MESSAGE: u64 = 2 << 62;
    /// Of an entry that was pushed raw.
    pub(crate) const RAW: u64 = 3 << 62;
    /// All of these bits. Those of an operation are zero.
    pub(crate) const MASK: u64 = 3 << 62;
}

/// One generation, in a key.
const LAP: u64 = 1 << 32;
/// No slot, at the end of the free list.
const NONE: u32 = u32::MAX;

/// In the slot's half of a key: the slot is not in flight. No completion reaches a slot by a word
/// with such a bit, since it lies beyond the last slot.
const FREE: u64 = 1 << 30;
pub(crate) const DONE: u64 = 1 << 29;
/// In flight, and its completions need a closer look: see `mark`. They reach the slot by their word
/// without this bit.
const SPECIAL: u64 = 1 << 28;

#[inline]
pub(crate) fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// All that says what state a slot is in.
const STATE: u64 = FREE | DONE | SPECIAL;

/// In a completion that is not the last one, or that comes after the result.
const CONTINUES: CqeFlags = CqeFlags::MORE.union(CqeFlags::NOTIF);

/// Something about an operation in flight that its last completion must look at.
mod mark {
    /// It completes more than once.
    pub(super) const MANY: u8 = 1;
    /// Nobody wants its output any more.
    pub(super) const ORPHAN: u8 = 2;
    /// Its notification has come.
    pub(super) const NOTIFIED: u8 = 4;
}

/// Whether an operation may borrow, and so must end with its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Life {
    Static,
    Scoped,
}

/// What a slot needs to know of an operation's type.
#[derive(Debug)]
struct Kind {
    shots: Shots,
    brings: Brings,
    last_is_shot: fn(i32) -> bool,
    /// Makes the output and drops it.
    bury: unsafe fn(NonNull<Payload>, Done),
}

impl Kind {
    const fn of<O: Op>() -> &'static Self {
        const {
            &Self {
                shots: O::SHOTS,
                brings: O::BRINGS,
                last_is_shot: O::last_is_shot,
                bury: bury::<O>,
            }
        }
    }
}

/// What is in a slot that is not taken.
const NOTHING: &Kind = Kind::of::<crate::op::Nop>();

/// Makes the output of the operation at `payload`, and drops it.
///
/// # Safety
///
/// There must be one, of type `O`, and nobody else may use it after.
unsafe fn bury<O: Op>(payload: NonNull<Payload>, done: Done) {
    // SAFETY: as promised to `bury`.
    let op = unsafe { payload.cast::<O>().read() };
    drop(op.finish(done));
}

#[repr(C, align(64))]
struct Payload([MaybeUninit<u8>; PAYLOAD]);

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
    notified: i32,
    source: Option<Source>,
    user: U,
}

/// All slots of a ring.
#[derive(Debug)]
pub(crate) struct Slab<U> {
    slots: Box<[Slot<U>]>,
    payloads: Payloads,
    /// The first free slot.
    free: u32,
    in_flight: u32,
    stale: u64,
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
    Own(u64),
    Raw(Cqe),
    /// One that nobody waits for, or that named nothing.
    Nothing,
}

/// A slot that is set aside, with an operation in it that the kernel does not have yet. Dropped, it
/// takes the operation out again, and drops it.
pub(crate) struct Berth<'a, O: Op, U> {
    slot: &'a mut Slot<U>,
    /// The slot's key once it is in flight.
    word: u64,
    free: &'a mut u32,
    in_flight: &'a mut u32,
    payload: NonNull<O>,
}

impl<U: Default> Slot<U> {
    /// Gives the slot back to the head of the list of `free` ones, for its next generation.
    #[inline]
    fn release(&mut self, index: u32, free: &mut u32) -> U {
        // The next generation, and from done to free.
        self.key += LAP + FREE - DONE;
        if self.key & kind::OWN != 0 {
            self.start_over(index);
        }
        self.link = *free;
        *free = index;
        mem::take(&mut self.user)
    }

    /// After 2^30 generations, the first again.
    #[cold]
    fn start_over(&mut self, index: u32) {
        self.key = u64::from(index) | FREE;
    }
}

impl<U> Slot<U> {
    /// Whether the operation of the ticket is in flight here.
    fn is_flying<O>(&self, ticket: &Ticket<O>) -> bool {
        self.key & !SPECIAL == ticket.word()
    }
}

impl<U: Default> Slab<U> {
    /// `count` free slots.
    pub(crate) fn new(count: u32) -> Self {
        // So that no slot's number has the bits that say what state it is in.
        assert!(count <= 1 << 20, "OP2: {count} slots");
        let slot = |index: u32| Slot {
            key: u64::from(index) | FREE,
            kind: NOTHING,
            source: None,
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
        Self { slots, payloads: Payloads::new(count), free: 0, in_flight: 0, stale: 0 }
    }

    /// Gives the slot back, and returns the user's word, to be dropped when all is well.
    #[inline]
    fn release(&mut self, index: u32) -> U {
        self.slots[index as usize].release(index, &mut self.free)
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
            kind::OWN => Settled::Own(cqe.user_data & !kind::MASK),
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
                let brought = bring(kind.brings, slot.source.as_ref(), cqe);
                (slot.result, slot.flags) = (cqe.res, cqe.flags);
                if wanted && (more || (kind.last_is_shot)(cqe.res)) {
                    shot = Some(Shot { result: cqe.res, flags: cqe.flags, brought });
                }
            }
            Shots::One | Shots::Notified => {
                (slot.result, slot.flags) = (cqe.res, cqe.flags);
                if kind.shots == Shots::Notified && more && wanted {
                    let brought = Brought::Nothing;
                    shot = Some(Shot { result: cqe.res, flags: cqe.flags, brought });
                }
            }
        }
        if !more {
            let slot = &mut self.slots[index as usize];
            slot.key = slot.key & !SPECIAL | DONE;
            self.in_flight -= 1;
        }
        match (more, wanted, shot) {
            (true, _, None) => Settled::Nothing,
            (true, _, Some(shot)) => Settled::Shot(index, shot),
            (false, false, _) => {
                self.bury(index);
                Settled::Nothing
            }
            (false, true, Some(shot)) => Settled::Last(index, shot),
            (false, true, None) => Settled::Ended(index),
        }
    }

    /// Moves `op` into a free slot. Gives it back when there is none.
    ///
    /// # Safety
    ///
    /// No lifetime in `O` may end before the slot is empty again.
    #[inline]
    pub(crate) unsafe fn moor<O: Op>(&mut self, op: O) -> Result<Berth<'_, O, U>, O> {
        const {
            assert!(
                size_of::<O>() <= PAYLOAD,
                "the operation is larger than a slot (192 bytes): put its buffers into a Box"
            );
            assert!(align_of::<O>() <= align_of::<Payload>(), "the operation is aligned too strictly");
        }
        let Self { slots, payloads, free, in_flight, .. } = self;
        // Behind the last free slot stands a number that none has.
        let Some(slot) = slots.get_mut(*free as usize) else { return Err(op) };
        let payload = payloads.at(*free).cast::<O>();
        // SAFETY: a free slot's payload is ours, and large enough, because that was just checked.
        unsafe { payload.write(op) };
        let word = slot.key ^ FREE;
        Ok(Berth { slot, word, free, in_flight, payload })
    }

    /// The output of the operation, if it has ended.
    #[inline]
    pub(crate) fn take<O: Op>(&mut self, ticket: Ticket<O>) -> Result<O::Output, Ticket<O>> {
        let index = ticket.slot();
        let slot = &mut self.slots[index as usize];
        if slot.key != ticket.done() {
            assert!(slot.is_flying(&ticket), "OP2: a ticket's slot was given away");
            return Err(ticket);
        }
        let notified = O::SHOTS == Shots::Notified && slot.marks & mark::NOTIFIED != 0;
        let cqe = Cqe { user_data: 0, res: slot.result, flags: slot.flags };
        let done = Done {
            result: slot.result,
            flags: slot.flags,
            notified: notified.then_some(slot.notified),
            brought: match (O::BRINGS, O::SHOTS) {
                (Brings::Number, _) | (_, Shots::Many) => Brought::Nothing,
                (brings, _) => bring(brings, slot.source.as_ref(), cqe),
            },
        };
        let source = if O::HAS_SOURCE { slot.source.take() } else { None };
        // SAFETY: ended, so the kernel is done with it (OP1), and of this type, because only
        // `Berth::sail` makes tickets for this slab, and the ring compared its number (OP2).
        let op = unsafe { self.payloads.at(index).cast::<O>().read() };
        let user = slot.release(index, &mut self.free);
        drop(user);
        drop(source);
        Ok(op.finish(done))
    }

    /// Gives up the claim: the output is dropped now, or when it comes.
    pub(crate) fn abandon<O>(&mut self, ticket: Ticket<O>) {
        let slot = &mut self.slots[ticket.slot() as usize];
        if slot.is_flying(&ticket) {
            slot.marks |= mark::ORPHAN;
            slot.key |= SPECIAL;
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
        let cqe = Cqe { user_data: 0, res: slot.result, flags: slot.flags };
        let source = slot.source.take();
        let brought = match slot.kind.shots {
            Shots::Many => Brought::Nothing, // It was a shot.
            Shots::One | Shots::Notified => bring(slot.kind.brings, source.as_ref(), cqe),
        };
        let done = Done { result: slot.result, flags: slot.flags, notified: None, brought };
        let kind = slot.kind;
        // Out of the slot, and the slot in order, before any code of the user's runs.
        // SAFETY: ended, so the kernel is done with it (OP1).
        let mut copy = unsafe { self.payloads.at(index).read() };
        let user = self.release(index);
        // SAFETY: the operation that the slot held, once, of the type that `kind` is of (OP2).
        unsafe { (kind.bury)(NonNull::from(&mut copy), done) };
        drop(user);
    }

    /// Ends an operation whose entry was taken back, as if the kernel had cancelled it.
    ///
    /// # Safety
    ///
    /// The kernel must not have it, nor get it.
    pub(crate) unsafe fn scuttle(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.key & (FREE | DONE) == 0, "OP1: an operation that is not in flight");
        slot.key = slot.key & !SPECIAL | DONE;
        (slot.result, slot.flags) = (-libc::ECANCELED, CqeFlags::empty());
        self.in_flight -= 1;
        self.bury(index);
    }

    /// Drops the outputs of all operations that have ended, and says whether any is in flight.
    pub(crate) fn clear(&mut self) -> bool {
        for index in 0..self.count() {
            if self.slots[index as usize].key & DONE != 0 {
                self.bury(index);
            }
        }
        self.in_flight > 0
    }

    /// Drops the outputs of all operations of a scope that have ended.
    pub(crate) fn clear_scope(&mut self) {
        for index in 0..self.count() {
            let slot = &self.slots[index as usize];
            if slot.key & DONE != 0 && slot.life == Life::Scoped {
                self.bury(index);
            }
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

    /// What names the slot's present tenant among all that it ever has.
    pub(crate) fn tenant(&self, slot: u32) -> u64 {
        self.slots[slot as usize].key & !STATE
    }

    /// Whether the slot's tenant is still the same, and has not been released.
    pub(crate) fn is_tenant(&self, slot: u32, tenant: u64) -> bool {
        let key = self.slots[slot as usize].key;
        key & FREE == 0 && key & !STATE == tenant
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

    /// Completions that named no operation in flight: 0, unless someone forges them.
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }

    /// Marks every operation in flight of a scope as wanted by nobody, and returns their words.
    pub(crate) fn orphan_scope(&mut self) -> Vec<u64> {
        let flying = |slot: &&mut Slot<U>| {
            slot.key & (FREE | DONE) == 0 && slot.life == Life::Scoped
        };
        let orphans = self.slots.iter_mut().filter(flying).map(|slot| {
            slot.marks |= mark::ORPHAN;
            slot.key |= SPECIAL;
            slot.key & !SPECIAL
        });
        orphans.collect()
    }

    /// The words of all operations in flight.
    pub(crate) fn flying_words(&self) -> Vec<u64> {
        let words = self.slots.iter().map(|slot| slot.key);
        words.filter(|key| key & (FREE | DONE) == 0).map(|key| key & !SPECIAL).collect()
    }

    /// Whether what is in the slot is of a scope.
    pub(crate) fn is_scoped(&self, slot: u32) -> bool {
        self.slots[slot as usize].life == Life::Scoped
    }

    /// Leaks what the kernel may still use (RG1).
    pub(crate) fn leak(&mut self) {
        self.payloads.leaked = true;
        for slot in &mut self.slots {
            mem::forget(slot.source.take());
        }
    }
}

impl<U> Drop for Slab<U> {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            self.leak(); // RG1, also when something panicked on the way here.
        }
    }
}

impl<O: Op, U: Default> Berth<'_, O, U> {
    /// The entry, with its word. Called once.
    #[inline]
    pub(crate) fn prep(&mut self) -> Sqe {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.payload.as_mut() };
        let sqe = op.prep();
        Sqe { user_data: self.word, ..sqe }
    }

    /// Whether all that the operation names by number is of `ring`.
    #[inline]
    pub(crate) fn belongs_to(&mut self, ring: RingId) -> bool {
        // SAFETY: the slot holds it, and the kernel does not have it yet (OP1).
        let op = unsafe { self.payload.as_ref() };
        if O::HAS_SOURCE {
            self.slot.source = op.source();
            if self.slot.source.as_ref().is_none_or(|source| source.ring() != ring) {
                return false;
            }
        }
        op.belongs_to(ring)
    }

    /// Takes the operation out again.
    pub(crate) fn back(self) -> O {
        let payload = self.payload;
        mem::forget(self);
        // SAFETY: the slot holds it, once, since the berth is forgotten; no entry names it (OP1).
        unsafe { payload.read() }
    }

    /// The operation's entry is pushed: from now on only its last completion frees the slot.
    #[inline]
    pub(crate) fn sail(
        self,
        user: U,
        life: Life,
        ring: RingId,
    ) -> Ticket<O> {
        let mut berth = ManuallyDrop::new(self);
        let Berth { slot, word, free, in_flight, .. } = &mut *berth;
        slot.key = if matches!(O::SHOTS, Shots::One) { *word } else { *word | SPECIAL };
        **free = slot.link;
        slot.kind = Kind::of::<O>();
        slot.marks = if matches!(O::SHOTS, Shots::One) { 0 } else { mark::MANY };
        slot.life = life;
        slot.pad = [0; 2];
        slot.waiting = 0;
        **in_flight += 1;
        let ticket = Ticket::new(*word | DONE, ring);
        let old = mem::replace(&mut slot.user, user);
        drop(old);
        ticket
    }
}

impl<O: Op, U> Drop for Berth<'_, O, U> {
    fn drop(&mut self) {
        // SAFETY: the slot holds it, and no entry names it (OP1): its slot is still free.
        unsafe { self.payload.drop_in_place() };
    }
}

/// What a completion names, as something that is owned (OP3).
fn bring(brings: Brings, source: Option<&Source>, cqe: Cqe) -> Brought {
    match (brings, source) {
        (Brings::Number, _) => Brought::Nothing,
        (Brings::Fd, _) => Brought::fd(cqe.res),
        (_, Some(source)) => source.bring(cqe),
        (_, None) => Brought::Nothing,
    }
}

/// The memory of all operations.
#[derive(Debug)]
struct Payloads {
    start: NonNull<Payload>,
    layout: Layout,
    leaked: bool,
}

impl Payloads {
    fn new(count: u32) -> Self {
        let layout = Layout::array::<Payload>(count.max(1) as usize).expect("2^20 slots fit");
        // SAFETY: not of size 0, because there is one slot at least.
        let start = unsafe { alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        Self { start: start.cast(), layout, leaked: false }
    }

    #[inline]
    fn at(&self, slot: u32) -> NonNull<Payload> {
        debug_assert!((slot as usize) < self.layout.size() / size_of::<Payload>());
        // SAFETY: within the allocation, because callers take the number from the list of slots.
        unsafe { self.start.add(slot as usize) }
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated with this layout, and no request is in flight, or it were leaked
            // (RG1).
            unsafe { alloc::dealloc(self.start.as_ptr().cast(), self.layout) };
        }
    }
}
