//! Several buffers out through a socket, without the header of a message.
//!
//! ```text
//!   SendV { fd, bufs: Gather { bufs: (head, body), table } }        in the operation's slot
//!                                       ▲            │ addr, len │ of head
//!                                       └────────────│ addr, len │ of body
//!   SEND │ SEND_VECTORIZED, addr ───────────────────────────┘
//! ```
//!
//! [`SendMsg`](super::SendMsg) does the same since Linux 5.3, and reads a header more.
//!
//! Keeps OP1: buffers and table lie in the operation, or in a box that it owns. Leaves to others:
//! what a list of buffers is (`buf`), where its table lies (`vectored`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, RecvSendFlags};

use super::stream::SendFlags;
use super::target::Target;
use super::vectored::{Gather, Gathered};
use super::{Done, Op, Outcome, RingId};
use crate::buf::IoBufs;
use crate::prep;

/// Sends several buffers, one after the other, through a socket that is connected. Since Linux
/// 6.17; `EINVAL` before.
///
/// Until Linux 5.18 kernels overlook the flag, and would send the first bytes of the table itself:
/// addresses of this process. So a ring refuses it before Linux 6.10
/// ([`Rejection::Unsupported`](crate::Rejection::Unsupported)); a [`SendMsg`](super::SendMsg) goes
/// everywhere.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream.
///
/// # Completion
///
/// Once, with how many bytes the socket has taken of all of them together: fewer than there are
/// when it was nearly full, unless told to [wait for all](SendFlags::WAIT_ALL).
///
/// # Cancellation
///
/// A send that waits for room is cancelled. If a part was sent already, it completes with that.
///
/// # Errors
///
/// `EPIPE` when the peer has closed the connection, without a signal. `EMSGSIZE` when a datagram is
/// too long.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendV;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(4).build()?;
/// let (ours, _theirs) = UnixStream::pair()?;
/// let send = match ring.submit(SendV::new(ours, ("head, ", vec![b'b'; 6]))) {
///     Ok(send) => send,
///     Err(rejected) => return Ok(println!("{rejected}")), // Before Linux 6.10.
/// };
/// match ring.wait(send)?.result {
///     Ok(bytes) => assert_eq!(bytes, 12),
///     Err(error) => println!("needs Linux 6.17: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_SEND_VECTORIZED")]
#[derive(Debug)]
pub struct SendV<F, S> {
    fd: F,
    bufs: S,
    offered: u32,
    flags: SendFlags,
}

impl<F, L: IoBufs> SendV<F, Gather<L>> {
    /// Sends a few buffers.
    pub fn new(fd: F, bufs: L) -> Self {
        Self { fd, bufs: Gather::of(bufs), offered: 0, flags: SendFlags::default() }
    }
}

impl<F, L: IoBufs> SendV<F, Box<Gather<L>>> {
    /// Sends any number of buffers.
    pub fn boxed(fd: F, bufs: Box<Gather<L>>) -> Self {
        Self { fd, bufs, offered: 0, flags: SendFlags::default() }
    }
}

impl<F, S> SendV<F, S> {
    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the table's address is taken in place, and those in it are borrowed from buffers in
// place; the descriptor is of `fd`. It completes once.
unsafe impl<F: Target, S: Gathered> Op for SendV<F, S> {
    type Output = Outcome<usize, F, S::Back>;
    /// With it a kernel looks at the flags of a send.
    const NEEDS: Features = Features::RECVSEND_BUNDLE;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let table = self.bufs.table();
        self.offered = table.bytes;
        let (flags, order) = (self.flags.bits(), RecvSendFlags::empty());
        self.fd.aim(prep::send_vectored(-1, table.addr, table.count, flags, order))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.offered), fd: self.fd, buf: self.bufs.back() }
    }
}
