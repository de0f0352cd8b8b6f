//! Hints: whether there is more to receive, or to accept, right now.
//!
//! ```text
//!   Hinted::new(Recv { .. }) ─► (Outcome { .. }, Waiting::Yes)     receive again, at once
//!                               (Outcome { .. }, Waiting::Unknown) wait for it first
//! ```
//!
//! The completion of a receive or an accept says so beside its result, and costs nothing to look
//! at. It is a hint: more may have come since, or gone to another.
//!
//! Leaves to others: the operation inside.
#![allow(unsafe_code, reason = "vouches for the operation inside as that does")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{CqeFlags, Features};

use super::{Brings, Done, Multishot, Op, RingId, Shot, Shots};
use crate::lease::Source;

/// Whether something waits in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// More waited when the operation completed.
    Yes,
    /// Nothing did, or the kernel does not know: not every socket tells.
    Unknown,
}

impl Waiting {
    /// What a completion's flags say.
    #[doc(alias = "IORING_CQE_F_SOCK_NONEMPTY")]
    pub fn of(flags: CqeFlags) -> Self {
        if flags.contains(CqeFlags::SOCK_NONEMPTY) { Self::Yes } else { Self::Unknown }
    }
}

/// An operation that tells, beside its output and each of its items, whether more waits. Receives
/// since Linux 5.19, accepts since Linux 6.10.
///
/// # Completion
///
/// As the operation inside.
///
/// # Cancellation
///
/// As the operation inside.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Hinted, Recv, Waiting};
/// use std::io::Write;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(4).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut ours = TcpStream::connect(listener.local_addr()?)?;
/// ours.write_all(b"more than four")?;
/// let receive = ring.submit(Hinted::new(Recv::new(listener.accept()?.0, [0; 4])))?;
/// let (outcome, waiting) = ring.wait(receive)?;
/// assert_eq!(outcome.result?, 4);
/// println!("receive again at once: {}", waiting == Waiting::Yes); // Linux 5.19
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_CQE_F_SOCK_NONEMPTY")]
#[derive(Debug)]
pub struct Hinted<O>(O);

impl<O: Op> Hinted<O> {
    /// `op`, with the hint.
    pub fn new(op: O) -> Self {
        Self(op)
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; its entry is not changed.
unsafe impl<O: Op> Op for Hinted<O> {
    type Output = (O::Output, Waiting);
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = O::BRINGS;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn prep(&mut self) -> Sqe {
        self.0.prep()
    }

    fn finish(self, done: Done) -> Self::Output {
        let waiting = Waiting::of(done.flags());
        (self.0.finish(done), waiting)
    }

    fn source(&self) -> Option<Source> {
        self.0.source()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    fn last_is_shot(result: i32) -> bool {
        O::last_is_shot(result)
    }
}

impl<O: Multishot> Multishot for Hinted<O> {
    type Item = (O::Item, Waiting);

    fn item(shot: Shot) -> Self::Item {
        let waiting = Waiting::of(shot.flags());
        (O::item(shot), waiting)
    }
}
