//! What servers share: being asked to stop, waits with a timeout, and a table of connections.
//!
//! ```text
//!   SIGINT, SIGTERM ─► handler ─► a byte through a socket ─► a read on the ring ─► "stop"
//! ```
//!
//! A signal handler may do almost nothing, and a ring waits for completions. So the handler (of the
//! crate `signal-hook`) only writes a byte, and that becomes a completion like any other.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::op::Completion;
use annulus::{EnterCause, EnterError, Event, Ring};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::support::{Failure, failed};

/// A stream through which a byte comes each time that the process is asked to stop.
pub fn asked_to_stop() -> Result<UnixStream, Failure> {
    const WHAT: &str = "cannot listen to signals";
    let (ours, theirs) = UnixStream::pair().map_err(failed(WHAT))?;
    for signal in [SIGINT, SIGTERM] {
        let theirs = theirs.try_clone().map_err(failed(WHAT))?;
        pipe::register(signal, theirs).map_err(failed(WHAT))?;
    }
    Ok(ours)
}

/// Submits everything, and waits until there is an event to reap, or the time is up.
pub fn wait<U: Default>(ring: &mut Ring<U>, limit: Option<Duration>) -> Result<(), EnterError> {
    let waited = match limit {
        Some(limit) => ring.submit_and_wait_timeout(1, limit).map(drop),
        None => ring.submit_and_wait(1).map(drop),
    };
    match waited {
        Err(error) if passes(error.cause) => Ok(()),
        outcome => outcome,
    }
}

/// Whether it is enough to take completions, and to wait again.
fn passes(cause: EnterCause) -> bool {
    matches!(
        cause,
        EnterCause::Interrupted | EnterCause::CompletionsPending | EnterCause::OutOfRequests
    )
}

/// What the ring has reported, to be handled once the ring is no longer borrowed.
#[derive(Debug)]
pub enum Happened<U> {
    /// One of many completions.
    Completion(U, Completion),
    /// The last completion: the ticket can be redeemed.
    Ended(U),
}

impl<U: Copy> Happened<U> {
    /// What an event reports of an operation.
    pub fn of(event: Event<'_, U>) -> Option<Self> {
        match event {
            Event::Multishot { user, completion, .. } => Some(Self::Completion(*user, completion)),
            Event::Ended { user, .. } => Some(Self::Ended(*user)),
            _ => None,
        }
    }
}

/// The figures of a server.
#[derive(Debug, Default)]
pub struct Counts {
    pub connections: u64,
    /// How many connections there were at once, at most.
    pub most: usize,
    pub receives: u64,
    pub bytes: u64,
    /// How often data had come, and all buffers were out.
    pub ran_out: u64,
    /// How often the server stopped receiving from a client, until it had read some of its echo.
    pub held: u64,
    /// How often no client could be accepted, for lack of descriptors or memory.
    pub paused: u64,
    /// How many clients did not read for too long.
    pub cut_off: u64,
    /// How many connections were left when the server ended.
    pub left: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, most, receives, bytes, ran_out, held, paused, cut_off, left } =
            self;
        writeln!(f, "echoed {bytes} bytes in {receives} receives")?;
        writeln!(f, "served {connections} connections, at most {most} at once")?;
        writeln!(f, "found no buffer {ran_out} times, held clients back {held} times")?;
        writeln!(f, "could not accept {paused} times")?;
        write!(f, "cut off {cut_off} clients that took nothing, and {left} at the end")
    }
}

/// The output of `--stats` for a server.
pub fn enters_per_receive(enters: u64, receives: u64) -> String {
    let thousandths = enters * 1000 / receives.max(1);
    format!("{}.{:03} enters per receive", thousandths / 1000, thousandths % 1000)
}

/// Values by number. A number is used again once its value is removed.
#[derive(Debug)]
pub struct Table<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Puts `thing` in, and returns its number.
    pub fn insert(&mut self, thing: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.places[number as usize] = Some(thing);
            return number;
        }
        self.places.push(Some(thing));
        u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
    }

    /// The value with this number.
    pub fn get(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// Removes a value.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All values.
    pub fn iter(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }
}
