//! Hints: whether there is more to receive or to accept right now.
//!
//! ```text
//!   Hinted::new(Recv { .. }) ─► (Outcome { .. }, Waiting::Yes)     receive again at once
//!                               (Outcome { .. }, Waiting::Unknown) wait for data first
//! ```
//!
//! The completion of a receive or an accept carries this in a flag, which costs nothing to read. It
//! is only a hint: more may have arrived since, or another receiver may have taken it.
//!
//! Leaves to others: the operation inside.
#![allow(unsafe_code, reason = "passes on the contract of the operation inside")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{CqeFlags, Features};

use crate::lease::Source;
use crate::op::{Completion, Completions, Done, Multishot, Op, ResultKind, RingId};

/// Whether data or a connection waits in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// More waited when the operation completed.
    Yes,
    /// Nothing waited, or the kernel does not know: not every socket reports this.
    Unknown,
}

impl Waiting {
    /// Reads the hint from the flags of a completion.
    #[doc(alias = "IORING_CQE_F_SOCK_NONEMPTY")]
    pub fn of(flags: CqeFlags) -> Self {
        if flags.contains(CqeFlags::SOCK_NONEMPTY) { Self::Yes } else { Self::Unknown }
    }
}

/// Wraps an operation so that its output and each of its items also say whether more waits. For
/// receives since Linux 5.19, for accepts since Linux 6.10.
///
/// [`Waiting::Unknown`] is no promise that nothing waits: not every socket tells. Let it decide
/// what to do first, and never whether to receive again.
///
/// # Completion
///
/// As the operation inside.
///
/// # Cancellation
///
/// As the operation inside.
///
/// # Errors
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
    /// Wraps `op`.
    pub fn new(op: O) -> Self {
        Self(op)
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; its entry is not changed.
unsafe impl<O: Op> Op for Hinted<O> {
    type Output = (O::Output, Waiting);
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = O::RESULT_KIND;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.0.refusal()
    }

    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        self.0.is_offered_whole()
    }

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

    fn last_is_item(result: i32) -> bool {
        O::last_is_item(result)
    }
}

impl<O: Multishot> Multishot for Hinted<O> {
    type Item = (O::Item, Waiting);

    fn item(completion: Completion) -> Self::Item {
        let waiting = Waiting::of(completion.flags());
        (O::item(completion), waiting)
    }
}
