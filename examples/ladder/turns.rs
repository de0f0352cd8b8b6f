//! What the steps with a ring share: a turn that a signal may end, and a byte that says "stop".

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use annulus::op::{Ending, Recv};
use annulus::{EnterCause, Event, Ring};

use crate::Done;
use crate::support::Failure;

/// The read through which we are told to stop.
pub type Stop = Recv<UnixStream, [u8; 1]>;

/// Whose an operation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whose {
    /// What only has to be over.
    #[default]
    Nobody,
    Listener,
    Client,
    /// A receive of the client with this number, and a send to it.
    From(u32),
    To(u32),
}

// ANCHOR: turn
/// Submits what is queued, waits for a completion unless there is one, and shows all there are.
pub fn turn(
    ring: &mut Ring<Whose>,
    log: &mut Log,
    each: impl FnMut(Event<'_, Whose>),
) -> Result<(), Failure> {
    let at = ring.raw().positions();
    log.early += u64::from(at.cq_tail.distance_from(at.cq_head));
    match ring.turn(1, each) {
        // The signal was for somebody else; or `each` has seen what had to be taken first.
        Err(error) if error.cause == EnterCause::Interrupted => Ok(()),
        Err(error) if error.cause == EnterCause::CompletionsPending => Ok(()),
        outcome => outcome.map(drop).map_err(Failure::from),
    }
}
// ANCHOR_END: turn

/// What a server with a ring notes of itself.
#[derive(Debug, Default)]
pub struct Log {
    /// Completions that were there before the turn that took them.
    pub early: u64,
    /// Clients whose connection it closed, by a call for each.
    pub closed: u64,
    pub bytes: u64,
    pub stopped: bool,
}

impl Log {
    /// The same, with what its ring counted.
    pub fn done(&self, ring: &Ring<Whose>) -> Done {
        let &Self { early, closed, bytes, stopped } = self;
        let stats = ring.stats();
        Done { calls: stats.enters + closed, ring: stats, early, bytes, stopped }
    }
}

/// Whether an accept without end may be submitted again, now that it has ended.
pub fn goes_on(how: Ending) -> Result<(), Failure> {
    match how {
        Ending::Failed(error) if error.kind() != ErrorKind::ConnectionAborted => {
            Err(Failure::of("cannot accept", error))
        }
        _ => Ok(()),
    }
}
