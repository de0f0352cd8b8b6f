//! What happened, in order: plain records, each with the virtual time.
//!
//! ```text
//!     0.000000 ring 0: 8 submission and 16 completion entries
//!     0.000000 ring 0: #1 READ of 64 bytes, on 2
//!     0.001250 ring 0: #1 completes with 5
//! ```
//!
//! A request has a number (`#1`), in the order in which entries were consumed; one that its chain
//! cancels never begins. An end of the
//! simulated world has a number, too. Neither descriptors nor addresses are in a record, so the
//! records of two runs can be compared.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqeFlags;
use annulus_sys::opcode::Opcode;

/// How many records are kept.
const KEPT: usize = 4096;

/// The number of a request: how many entries were consumed before it, and one more.
pub type RequestId = u32;

/// The number of an end: a descriptor of the simulated world, or what it leads to.
pub type EndId = usize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// When, by the virtual clock.
    pub at: Duration,
    /// On which ring; `None` for what belongs to none.
    pub ring: Option<usize>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// A ring was made, of so many submission and completion entries.
    Made(u32, u32),
    /// A ring was closed, with so many requests in flight.
    Closed(u32),
    /// An enter was asked to submit so many entries, and to wait for so many completions.
    Entered(u32, u32),
    /// The enter returned this.
    Returned(Result<u32, i32>),
    /// A request begins: its opcode, the bytes that it is to transfer, and the end that it uses.
    Began(RequestId, Opcode, u32, Option<EndId>),
    /// A completion was posted: the result, and the flags. No request has number 0, which is for
    /// tags and messages.
    Posted(RequestId, i32, u32),
    /// A completion found no room in the queue, and was kept.
    Overflowed(RequestId),
    /// The program has taken so many completions.
    Taken(u32),
    /// The program has offered a buffer of a group.
    Offered(u16, u16),
    /// Somebody outside of the rings has acted on an end.
    Outside(&'static str, EndId, usize),
    /// An end was closed.
    Ended(EndId),
    /// A rule was broken.
    Fault(String),
    /// A wait can never end; so many requests are in flight.
    Stalled(u32),
    /// The polling thread has taken so many entries.
    Polled(u32),
    /// The polling thread has fallen asleep.
    Slept,
    /// The polling thread was woken.
    Woken,
    /// The polling thread has died.
    Died,
    /// A completion found no room in the queue, and was lost.
    Lost(RequestId),
    /// The kernel has stored a value in a word that it shares with the program.
    Lied(usize, u32),
}

/// The records of a run, and a hash of all of them.
#[derive(Debug)]
pub(super) struct Trace {
    last: VecDeque<Record>,
    hash: Fnv,
    count: u64,
}

/// FNV-1a. The standard library's hasher may change; this one does not.
#[derive(Debug)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { last: VecDeque::new(), hash: Fnv(0xcbf2_9ce4_8422_2325), count: 0 }
    }

    pub(super) fn add(&mut self, record: Record) {
        record.hash(&mut self.hash);
        self.count += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(record);
    }

    /// The newest records, oldest first.
    pub(super) fn last(&self, count: usize) -> Vec<Record> {
        let skipped = self.last.len().saturating_sub(count);
        self.last.iter().skip(skipped).cloned().collect()
    }

    /// How many there are, kept or not.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// A hash of all records.
    pub(super) fn digest(&self) -> u64 {
        self.hash.finish() ^ self.count
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:12.6} ", self.at.as_secs_f64())?;
        if let Some(ring) = self.ring {
            write!(f, "ring {ring}: ")?;
        }
        write!(f, "{}", self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(sq, cq) => write!(f, "{sq} submission and {cq} completion entries"),
            Self::Closed(left) => write!(f, "closed, with {left} requests in flight"),
            Self::Entered(submits, wants) => write!(f, "enter, {submits} to submit, wants {wants}"),
            Self::Returned(Ok(count)) => write!(f, "enter returns {count}"),
            Self::Returned(Err(errno)) => write!(f, "enter fails: {}", Errno::new(*errno)),
            Self::Began(id, opcode, len, end) => {
                write!(f, "#{id} {opcode:?} of {len} bytes")?;
                end.map_or(Ok(()), |end| write!(f, ", on {end}"))
            }
            Self::Posted(id, res, flags) => {
                write!(f, "#{id} completes with {res}")?;
                let flags = CqeFlags::from_bits_retain(*flags);
                if flags.is_empty() { Ok(()) } else { write!(f, ", {flags:?}") }
            }
            Self::Overflowed(id) => write!(f, "#{id}: the completion queue is full"),
            Self::Taken(count) => write!(f, "{count} completions were taken"),
            Self::Offered(group, bid) => write!(f, "buffer {bid} of group {group} is offered"),
            Self::Outside(what, end, bytes) => write!(f, "outside: {what} {bytes} on {end}"),
            Self::Ended(end) => write!(f, "{end} is closed"),
            Self::Fault(text) => write!(f, "BROKEN: {text}"),
            Self::Stalled(left) => write!(f, "nothing can happen; {left} requests in flight"),
            Self::Polled(count) => write!(f, "the polling thread takes {count} entries"),
            Self::Slept => f.write_str("the polling thread sleeps"),
            Self::Woken => f.write_str("the polling thread wakes"),
            Self::Lost(id) => write!(f, "#{id}: the completion is lost"),
            Self::Lied(word, value) => write!(f, "a lie: word {word} is {value:#x}"),
            Self::Died => f.write_str("the polling thread dies"),
        }
    }
}
