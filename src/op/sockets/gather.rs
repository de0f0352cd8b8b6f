//! Sending several buffers through a socket, without a message header.
//!
//! ```text
//!   SendV { fd, bufs: Gather { bufs: (head, body), table } }        in the operation's slot
//!                                       ▲            │ addr, len │ of head
//!                                       └────────────│ addr, len │ of body
//!   SEND │ SEND_VECTORIZED, addr ───────────────────────────┘
//! ```
//!
//! [`SendMsg`](crate::op::SendMsg) does this since Linux 5.3, at the cost of a message header.
//!
//! Keeps OP1: buffers and table lie in the operation, or in a box that it owns. Leaves to others:
//! what a list of buffers is (`buf`), where its table lies (`vectored`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, RecvSendFlags};

use super::flags::SendFlags;
use crate::buf::IoBufs;
use crate::op::bytes::vectored::{Gather, Gathered};
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// Sends several buffers, one after the other, through a connected socket. Since Linux 6.17;
/// `EINVAL` before.
///
/// Kernels up to Linux 5.18 ignore the flag, and would send the first bytes of the table itself:
/// addresses of this process. So a ring refuses this operation before Linux 6.10
/// ([`Rejection::Unsupported`](crate::Rejection::Unsupported)). [`SendMsg`](crate::op::SendMsg)
/// works on every kernel.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream.
///
/// # Completion
///
/// Once, with the total number of bytes that the socket has taken. That is less than the buffers
/// hold when the socket was nearly full, unless [`WAIT_ALL`](SendFlags::WAIT_ALL) is set.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. If a part was already sent, it completes with that
/// count.
///
/// # Errors
///
/// `EPIPE`, without a signal, when the peer has closed the connection. `EMSGSIZE` when a datagram
/// is too long.
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
#[doc(alias("IORING_OP_SEND", "io_uring_prep_send", "IORING_SEND_VECTORIZED"))]
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
    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the table's address is taken in place, and the addresses in it are borrowed from
// buffers in place; the descriptor is of `fd`. It completes once.
unsafe impl<F: Target, S: Gathered> Op for SendV<F, S> {
    type Output = Outcome<usize, F, S::Back>;
    /// Kernels with this feature check the flags of a send.
    const NEEDS: Features = Features::RECVSEND_BUNDLE;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.bufs.is_one_transfer()
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
