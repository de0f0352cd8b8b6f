//! What a kernel could say that is not so, short of the one lie that nobody survives.
//!
//! | a completion | must |
//! |---|---|
//! | that names no slot, or one in no state to be named | be counted as stale |
//! | of an operation that has ended, or of one that is far off | be counted as stale |
//! | of an operation in flight, with `F_MORE` | end nothing |
//! | of the kinds for messages and raw entries | be shown, and nothing else |
//!
//! Never does it say that a request has ended, and go on using its memory.

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use super::Profile;
use super::ends::named;
use super::kernel::{KIND, Kernel, OWN, Posted};
use super::ledger::Ledger;
use super::request::Role;

/// One generation, in a word.
const LAP: u64 = 1 << 32;
/// So many generations no history has.
const FAR: u64 = 1 << 20;
/// The bits that a slot's half of a word has while it is not in flight.
const STATES: [u64; 4] = [1 << 28, 1 << 29, 1 << 30, 1 << 31];

impl Kernel {
    /// Posts completions that are not true.
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
        let (word, what) = match self.chance.below(9) {
            0 => (slot | lap << 32 | self.chance.among(&STATES), Posted::Stale),
            1 => (slots + self.chance.next() % (FAR - slots), Posted::Stale),
            2 => (slot | ((FAR + lap) * LAP), Posted::Stale),
            3 => (self.chance.next() | u64::from(u32::MAX), Posted::Stale),
            4 => (OWN | (2 + self.chance.next() % FAR), Posted::Other),
            5 => (OWN << 1 | self.chance.next() & !KIND, Posted::Message),
            6 => (KIND | self.chance.next(), Posted::Raw),
            7 => (0, Posted::Stale), // As blank memory has it, and a filler.
            _ => match self.chance.place(self.ended.len()) {
                Some(at) => (self.ended[at], Posted::Stale),
                None => return,
            },
        };
        let word = if what == Posted::Stale { word & !KIND } else { word };
        let flags = CqeFlags::from_bits_retain(self.chance.half());
        let res = self.number(64);
        self.post(Cqe { user_data: word, res, flags }, what);
    }

    /// A completion of an operation in flight, which is not its last.
    fn lie_about_one(&mut self, ledger: &mut Ledger) {
        let Some(at) = self.chance.place(self.requests.len()) else { return };
        let request = &self.requests[at];
        let (role, word) = (request.role, request.word);
        let Some(id) = request.op else { return };
        let noise = CqeFlags::from_bits_retain(self.chance.half());
        let flags = match role {
            // A buffer that the kernel has, and says that it has not, is no lie to survive.
            Role::Many(_) => named(0xff00),
            _ => noise,
        };
        let (res, flags) = (self.number(64), flags | CqeFlags::MORE);
        if role == Role::Notified && !flags.contains(CqeFlags::NOTIF) {
            ledger.op(id).result = res;
        }
        self.post(Cqe { user_data: word, res, flags }, Posted::Other);
    }
}
