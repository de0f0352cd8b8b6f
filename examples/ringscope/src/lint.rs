//! Marks on what a program does with its ring that is wrong, or slower than need be.
//!
//! | mark | is set when |
//! |---|---|
//! | overflow | a completion found no room, and was held back or lost |
//! | two sends | a second send on one end begins while the first is in flight: their order is open |
//! | wait for nothing | an enter waits, and nothing is in flight or submitted |
//! | one at a time | ten enters in a row submitted one entry each |
//! | broken | the simulated kernel saw a broken rule |
//!
//! Records of real rings do not say on which end a request is, so there is no second mark there.

use std::collections::BTreeMap;

use annulus::sim::Record;
use annulus::sim::trace::{EndId, RequestId, What};
use annulus::sys::flags::CqeFlags;
use annulus::sys::opcode::Opcode;

/// So many enters with one entry each are a habit.
const HABIT: u32 = 10;

/// What is known so far.
#[derive(Debug, Default)]
pub struct Linter {
    /// What is in flight, by ring and number, with the end that it sends on.
    flight: BTreeMap<(Option<usize>, RequestId), Option<EndId>>,
    rings: BTreeMap<Option<usize>, Counts>,
}

/// What is known of a ring.
#[derive(Debug, Default)]
struct Counts {
    /// Enters with one entry, in a row.
    singles: u32,
    /// Completions that were not taken.
    ready: u32,
    /// Whether the records are of all that happened: from the beginning, and without completions
    /// whose requests are not known.
    is_whole: bool,
}

impl Linter {
    /// What is wrong with the next record.
    pub fn look(&mut self, record: &Record) -> Option<String> {
        let ring = record.ring;
        let counts = self.rings.entry(ring).or_default();
        match &record.what {
            What::Made(..) => {
                counts.is_whole = true;
                None
            }
            What::Taken(count) => {
                counts.ready = counts.ready.saturating_sub(*count);
                None
            }
            What::Overflowed(id) => {
                Some(format!("overflow: there is no room for the completion of #{id}"))
            }
            What::Lost(id) => Some(format!("overflow: the completion of #{id} is lost")),
            What::Began(id, opcode, _, end) => self.begins((ring, *id), *opcode, *end),
            What::Posted(id, _, flags) => {
                counts.ready += 1;
                counts.is_whole &= *id != 0;
                if !CqeFlags::from_bits_retain(*flags).contains(CqeFlags::MORE) {
                    self.flight.remove(&(ring, *id));
                }
                None
            }
            What::Entered(submits, wants) => self.enters(ring, *submits, *wants),
            What::Stalled(count) => {
                Some(format!("wait for nothing: it never ends, with {count} requests in flight"))
            }
            What::Fault(text) => Some(format!("broken: {text}")),
            _ => None,
        }
    }

    fn begins(
        &mut self,
        key: (Option<usize>, RequestId),
        opcode: Opcode,
        end: Option<EndId>,
    ) -> Option<String> {
        let sends =
            matches!(opcode, Opcode::SEND | Opcode::SENDMSG | Opcode::SEND_ZC | Opcode::SENDMSG_ZC);
        let end = end.filter(|_| sends);
        let other = self.flight.iter().find(|(_, other)| end.is_some() && **other == end);
        let mark = other.map(|((_, other), _)| {
            format!("two sends: #{} and #{other} on one stream, in no order", key.1)
        });
        self.flight.insert(key, end);
        mark
    }

    fn enters(&mut self, ring: Option<usize>, submits: u32, wants: u32) -> Option<String> {
        let is_idle = !self.flight.keys().any(|(other, _)| *other == ring);
        let counts = self.rings.entry(ring).or_default();
        counts.singles = if submits == 1 { counts.singles + 1 } else { 0 };
        if counts.is_whole && is_idle && submits == 0 && wants > counts.ready {
            return Some("wait for nothing: no request is in flight".into());
        }
        (counts.singles == HABIT)
            .then(|| format!("one at a time: {HABIT} enters in a row had one entry each"))
    }
}
