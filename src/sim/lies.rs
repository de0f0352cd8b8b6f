//! A kernel that lies: any value in any word that it shares, and any completion.
//!
//! ```text
//!   words   │ sq: head tail flags dropped │ cq: head tail overflow │ sizes and masks │
//!   slots   │ a completion: user_data, result, flags, second half                   │
//! ```
//!
//! What it says is meaningless then, and so are its accounts. From its first lie on it keeps none,
//! touches no memory of the program but the ring, and takes each entry for a NOP. What must still
//! be true is of the program's side: no undefined behaviour, and no loop without end.
//!
//! A result may name a descriptor. Nobody can tell that it is another one than the kernel made, so
//! an operation that receives descriptors is not for this.

use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::flags::CqeFlags;

use super::chance::Chance;
use super::post::Posting;
use super::state::State;
use super::trace::What;

/// Numbers that are near an edge.
const EDGES: [u32; 8] = [0, 1, 2, 7, 1 << 15, 1 << 31, u32::MAX - 1, u32::MAX];

/// Any number: near an edge, near `now`, or anywhere.
fn any(luck: &mut Chance, now: u32) -> u32 {
    let random = u32::try_from(luck.next() >> 32).expect("half of it");
    match luck.below(3) {
        0 => EDGES[luck.index(EDGES.len())],
        1 => now.wrapping_add(random % 9).wrapping_sub(4),
        _ => random,
    }
}

impl State {
    /// Perhaps stores something in the memory of a ring.
    pub(super) fn perhaps_lie(&mut self, ring: usize) {
        if !self.rings[ring].is_open || !self.luck.hits(self.faults.byzantine) {
            return;
        }
        self.has_lied = true;
        let word = self.luck.index(self.rings[ring].half.words().len());
        let now = self.rings[ring].half.word(word);
        let value = any(&mut self.luck, now);
        self.rings[ring].half.lie(word, value);
        self.note(Some(ring), What::Lied(word, value));
    }

    /// The completion, or another one in its place.
    pub(super) fn perhaps_another(&mut self, posting: Posting) -> Posting {
        if !self.luck.hits(self.faults.byzantine) {
            return posting;
        }
        self.has_lied = true;
        let (cqe, luck) = (posting.cqe, &mut self.luck);
        let big = posting.big.map(|_| [luck.next(), luck.next()]);
        let cqe = match luck.below(4) {
            0 => Cqe { res: any(luck, cqe.res.cast_unsigned()).cast_signed(), ..cqe },
            1 => Cqe { flags: CqeFlags::from_bits_retain(any(luck, cqe.flags.bits())), ..cqe },
            2 => Cqe { user_data: cqe.user_data.wrapping_add(luck.below(5)), ..cqe },
            _ => Cqe { user_data: luck.next(), ..cqe },
        };
        Posting { cqe, big }
    }

    /// What an entry is taken for.
    pub(super) fn as_read(&self, sqe: Sqe) -> Sqe {
        if self.has_lied { Sqe { user_data: sqe.user_data, ..Sqe::ZERO } } else { sqe }
    }
}
