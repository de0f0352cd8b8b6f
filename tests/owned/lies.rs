//! False completions that a kernel could post, short of the one lie that no caller survives.
//!
//! | a completion | must |
//! |---|---|
//! | that names no slot, or a slot in a state that cannot be named | be counted as stale |
//! | of an operation that has ended, or of a distant generation | be counted as stale |
//! | of an operation in flight, with `F_MORE` | end nothing |
//! | of the kinds for messages and raw entries | be shown, and nothing else |
//!
//! The kernel never reports that a request has ended and goes on using its memory.

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use super::Profile;
use super::ends::named;
use super::kernel::{KIND, Kernel, OWN, Posted};
use super::ledger::Ledger;
use super::request::Role;

/// One generation, in `user_data`.
const ONE_GENERATION: u64 = 1 << 32;
/// More generations than any history has.
const FAR: u64 = 1 << 20;
/// The bits of a slot's half of `user_data` that are not its number; the first is that of an
/// operation without a ticket.
const STATES: [u64; 7] =
    [1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31, 1 << 27 | 1 << 28, 1 << 27 | 1 << 29];

/// How many kinds of completions there are that name nothing in flight.
const KINDS: u32 = 10;

/// The bit of a slot whose operation has ended.
const DONE: u64 = 1 << 29;

impl Kernel {
    /// Posts false completions.
    pub fn lie(&mut self, ledger: &mut Ledger) {
        if self.profile != Profile::Lying || self.overflowing() > 16 {
            return;
        }
        for _ in 0..self.chance.below(3) {
            if self.chance.one_in(3) {
                self.lie_about_one(ledger);
            } else {
                self.lie_about_none();
            }
        }
    }

    /// A completion that names nothing in flight.
    fn lie_about_none(&mut self) {
        let slots = u64::from(self.rings.shape().cq_entries);
        let slot = self.chance.next() % slots;
        let lap = self.chance.next() % 64;
        let prefers = self.habit < KINDS && self.chance.one_in(2);
        let kind = if prefers { self.habit } else { self.chance.below(KINDS) };
        let (user_data, what) = match kind {
            0 => {
                let state = self.chance.among(&STATES);
                // Without a ticket, it might be one that is still queued, which no kernel can name.
                let lap = if state == STATES[0] { FAR + lap } else { lap };
                (slot | lap << 32 | state, Posted::Stale)
            }
            1 => (slots + self.chance.next() % (FAR - slots), Posted::Stale),
            2 => (slot | ((FAR + lap) * ONE_GENERATION), Posted::Stale),
            3 => (self.chance.next() | u64::from(u32::MAX), Posted::Stale),
            4 => (OWN | (2 + self.chance.next() % FAR), Posted::Other),
            5 => (OWN << 1 | self.chance.next() & !KIND, Posted::Message),
            6 => (KIND | self.chance.next(), Posted::Raw),
            7 => (0, Posted::Stale), // Blank memory, and a filler.
            which => match self.some_ended() {
                Some(at) if which == 8 => (self.ended[at], Posted::Stale),
                // The key of that slot now, or once it is free.
                Some(at) => {
                    let later = u64::from(self.chance.below(2)) * ONE_GENERATION;
                    ((self.ended[at] & !STATES[0] | DONE) + later, Posted::Stale)
                }
                None => return,
            },
        };
        let user_data = if what == Posted::Stale { user_data & !KIND } else { user_data };
        if self.requests.iter().any(|request| request.user_data == user_data) {
            return; // It would name one in flight.
        }
        let flags = CqeFlags::from_bits_retain(self.chance.half());
        let res = self.number(64);
        self.post(Cqe { user_data, res, flags }, what);
    }

    /// The place of an operation that has ended: the last one, whose slot is free, or any.
    fn some_ended(&mut self) -> Option<usize> {
        let last = self.ended.len().checked_sub(1)?;
        if self.chance.one_in(2) { Some(last) } else { self.chance.place(last + 1) }
    }

    /// A completion of an operation in flight, which is not its last.
    fn lie_about_one(&mut self, ledger: &mut Ledger) {
        let Some(at) = self.chance.place(self.requests.len()) else { return };
        let request = &self.requests[at];
        let (role, user_data) = (request.role, request.user_data);
        let Some(id) = request.op else { return };
        let noise = CqeFlags::from_bits_retain(self.chance.half());
        let flags = match role {
            // To report as free a buffer that the kernel still has is a lie that no caller
            // survives.
            Role::Many(_) => named(0xff00),
            _ => noise,
        };
        let (res, flags) = (self.number(64), flags | CqeFlags::MORE);
        if role == Role::Notified && !flags.contains(CqeFlags::NOTIF) {
            ledger.op(id).result = res;
        }
        self.post(Cqe { user_data, res, flags }, Posted::Other);
    }
}
