//! What a simulated kernel found out about the program: broken rules, stalls, and what is left.
//!
//! | rule | is broken when |
//! |---|---|
//! | (OP1) | memory of a request changed while the kernel had it |
//! | (OP2) | two requests in flight on a ring have one `user_data` |
//! | (BR1) | a buffer is offered twice, does not exist, or changed while it was on offer |
//! | (SQ2) | more entries are published, or submitted, than there are |
//! | (SQ4) | an entry was written over before it was consumed |
//! | (CQ2) | more completions were taken than there are |
//! | (RG1) | memory of a request changed after its ring was closed; memory of a registered buffer, or of the ring, is not mapped any more |

use std::fmt;

use super::faults::Faults;
use super::trace::{Record, RequestId};

/// How many records a report holds.
pub(super) const SHOWN: usize = 40;

/// What is known about a run, so far. [`Display`](fmt::Display) prints it for a person: the seed,
/// what is wrong, the last events, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The faults of the run.
    pub faults: Faults,
    /// The rules that were broken, oldest first. Each begins with the name of its rule.
    pub broken: Vec<String>,
    /// Waits that could never end: for each, the requests that were in flight.
    pub stalls: Vec<Vec<String>>,
    /// Requests that are in flight, on rings that are open and on rings that are closed.
    pub in_flight: Vec<(RequestId, String)>,
    /// Completions that were posted and not taken, on rings that are open.
    pub untaken: usize,
    /// Completions that were posted and not taken when their ring was closed.
    pub abandoned: usize,
    /// How many requests were consumed.
    pub requests: u32,
    /// The last events.
    pub last: Vec<Record>,
}

impl Report {
    /// Whether no rule was broken.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether nothing is left: no request in flight, and no completion that nobody took.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.untaken == 0 && self.abandoned == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "simulation of seed {}, {} requests", self.seed, self.requests)?;
        for broken in &self.broken {
            writeln!(f, "  broken: {broken}")?;
        }
        for stall in &self.stalls {
            writeln!(f, "  a wait could never end; in flight: {}", stall.join(", "))?;
        }
        for (id, request) in &self.in_flight {
            writeln!(f, "  in flight: #{id} {request}")?;
        }
        writeln!(f, "  completions not taken: {} and {}", self.untaken, self.abandoned)?;
        writeln!(f, "the last events:")?;
        for record in &self.last {
            writeln!(f, "  {record}")?;
        }
        writeln!(f, "again: run the program on `Sim::with_faults({}, faults)`, where", self.seed)?;
        write!(f, "faults = {:?}", self.faults)
    }
}
