//! Multishot accepts and receives: many connections, or much data, from one operation.
//!
//! ```text
//!   submit(AcceptMulti) ─► item: OwnedFd ─► item: OwnedFd ─► … ─► Ended { how, fd }
//!   submit(RecvMulti)   ─► item: BufLease ─► item: BufLease ─► … ─► Ended { how, fd }
//! ```
//!
//! Take the items with [`Ring::next`](crate::Ring::next) or from [`Ring::reap`](crate::Ring::reap).
//! The operation may end at any time without an error; [`Ending`] says why, and so whether to
//! submit it again. Nothing is lost in between: connections and bytes wait in the socket, and items
//! that were not taken come with the end.
//!
//! Keeps OP3: the resource that a completion carries is owned, and recycled or closed if it is not
//! taken.
#![allow(unsafe_code, reason = "says what its entries point to")]

use std::io;
use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, RecvSendFlags};

use super::net::CLOSE_ON_EXEC;
use crate::lease::{BufLease, BufRing, Resource, Source};
use crate::op::ending::{Ended, Ending};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, ResultKind, RingId};
use crate::prep;

/// Accepts every connection. Since Linux 5.19.
///
/// It does not return the peers' addresses: there would be one place for the addresses of all. Ask
/// the connection (`getpeername(2)`), or use
/// [`Accept::with_address`](crate::op::Accept::with_address).
///
/// # Completion
///
/// Once for each connection, which is closed on `exec`; then once more, with [`Ending`]. Dropping
/// the listener elsewhere ends nothing: the operation accepts connections until it is cancelled or
/// the listener is shut down.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Connections that were accepted before are in items, or in
/// [`Ended::remaining`].
///
/// # Errors
///
/// [`Ending::Failed`] with `EINVAL` before Linux 5.19, and when the listener is shut down; with
/// `EMFILE` when the process has no descriptor left, `ECONNABORTED` when a client was gone first,
/// and others of [`Accept`](crate::op::Accept). The listener stays usable: pause for a moment, so
/// that descriptors are closed, and submit it again.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::AcceptMulti;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let connections = ring.submit(AcceptMulti::new(listener))?;
/// let _clients = [TcpStream::connect(address)?, TcpStream::connect(address)?];
/// for _ in 0..2 {
///     let Some(connection) = ring.next(&connections)? else { break }; // Linux 5.19
///     let _stream = TcpStream::from(connection?);
/// }
/// ring.cancel(&connections)?;
/// let ended = ring.wait(connections)?;
/// println!("ended: {:?}, {} more had come", ended.how, ended.remaining.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_ACCEPT", "IORING_ACCEPT_MULTISHOT"))]
#[doc(alias = "io_uring_prep_multishot_accept")]
#[derive(Debug)]
pub struct AcceptMulti<F> {
    fd: F,
    order: AcceptFlags,
}

impl<F> AcceptMulti<F> {
    /// Accepts connections from `listener`.
    pub fn new(listener: F) -> Self {
        Self { fd: listener, order: AcceptFlags::MULTISHOT }
    }

    /// Waits for a connection before it first tries to accept: for a listener that is known to have
    /// none. Since Linux 6.10; `EINVAL` before.
    #[doc(alias = "IORING_ACCEPT_POLL_FIRST")]
    pub fn poll_first(self) -> Self {
        Self { order: self.order | AcceptFlags::POLL_FIRST, ..self }
    }

    /// Accepts the connections that wait, and ends with `EAGAIN` ([`Ending::Failed`]) instead of
    /// waiting for more. Since Linux 6.10; `EINVAL` before. Together with
    /// [`poll_first`](Self::poll_first) it accepts none.
    #[doc(alias = "IORING_ACCEPT_DONTWAIT")]
    pub fn dont_wait(self) -> Self {
        Self { order: self.order | AcceptFlags::DONTWAIT, ..self }
    }

    pub(in crate::op) fn into_fd(self) -> F {
        self.fd
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. OP3: `RESULT_KIND` says
// that each result is a descriptor, which is new. `COMPLETIONS` says that it completes many times.
unsafe impl<F: Target> Op for AcceptMulti<F> {
    type Output = Ended<F, io::Result<OwnedFd>>;
    const COMPLETIONS: Completions = Completions::Multishot;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::accept(-1, 0, 0, CLOSE_ON_EXEC, self.order))
    }

    fn finish(self, done: Done) -> Self::Output {
        Ended::new(Ending::of_things(&done), self.fd, done, Self::item)
    }

    /// Descriptor 0 is valid too.
    fn last_is_item(result: i32) -> bool {
        result >= 0
    }
}

impl<F: Target> Multishot for AcceptMulti<F> {
    type Item = io::Result<OwnedFd>;

    fn item(completion: Completion) -> Self::Item {
        match completion.resource {
            Resource::Fd(fd) => Ok(fd),
            _ => Err(completion.refusal()),
        }
    }
}

/// Receives all data as it arrives, each time into a buffer that the kernel selects from a
/// [`BufRing`]. Since Linux 6.0.
///
/// A lease that is kept is a buffer that the kernel lacks, for this connection and for all others
/// that share the [`BufRing`]: take what you need out of it, and drop it. The kernel receives on as
/// long as there are buffers, whether items are taken or not, so a peer that sends much fills the
/// pool: to slow one peer down, cancel its receive, or give it a pool of its own. A cancel is late:
/// until it has arrived, the receive takes what the socket holds, which may be hundreds of buffers.
/// Copy what comes above a limit, and drop the lease.
///
/// # Completion
///
/// Once for each buffer that was filled, in the order of the bytes; then once more, with
/// [`Ending`]: [`Eof`](Ending::Eof) when the peer will send no more, and
/// [`NoBuffers`](Ending::NoBuffers) when every buffer is leased, even before there is data: submit
/// it again when a lease was dropped. An empty datagram ends it too, and looks like the end of a
/// stream.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Data that arrived before is in items, or in
/// [`Ended::remaining`]; the rest stays in the socket.
///
/// # Errors
///
/// [`Ending::Failed`] with `EINVAL` before Linux 6.0.
///
/// Linux 6.16, 6.17 and early 6.18 may miss one of two wake-ups that arrive together: data, or the
/// end of the stream, then stays unseen until the next one. There, limit how long you wait, cancel
/// the operation, and submit it again.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Ending, RecvMulti};
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(4, 64) else { return Ok(()) }; // Linux 5.19
/// let (mut ours, mut theirs) = UnixStream::pair()?;
/// ours.write_all(&[7; 1000])?;
/// drop(ours);
/// let mut count = 0;
/// let ended = loop {
///     let stream = ring.submit(RecvMulti::new(theirs, &buffers))?;
///     while let Some(lease) = ring.next(&stream)? {
///         count += lease?.len();
///     }
///     // Again, unless it is over for good.
///     match ring.wait(stream)? {
///         ended if matches!(ended.how, Ending::Eof | Ending::Failed(_)) => break ended,
///         ended => theirs = ended.fd,
///     }
/// };
/// if matches!(ended.how, Ending::Eof) {
///     assert_eq!(count, 1000);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_RECV", "IORING_RECV_MULTISHOT"))]
#[doc(alias = "io_uring_prep_recv_multishot")]
#[derive(Debug)]
pub struct RecvMulti<F> {
    fd: F,
    buffers: BufRing,
}

impl<F> RecvMulti<F> {
    /// Receives from `fd` into `buffers`.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone() }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`; the kernel writes to
// buffers of the source, which leases own (OP3). `COMPLETIONS` says that it completes many times.
unsafe impl<F: Target> Op for RecvMulti<F> {
    type Output = Ended<F, io::Result<BufLease>>;
    const COMPLETIONS: Completions = Completions::Multishot;
    const RESULT_KIND: ResultKind = ResultKind::Buffer;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (group, order) = (self.buffers.0.id(), RecvSendFlags::RECV_MULTISHOT);
        self.fd.aim(prep::recv_provided(-1, 0, group, 0, order))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }

    fn finish(self, done: Done) -> Self::Output {
        Ended::new(Ending::of(&done), self.fd, done, Self::item)
    }
}

impl<F: Target> Multishot for RecvMulti<F> {
    type Item = io::Result<BufLease>;

    fn item(completion: Completion) -> Self::Item {
        match completion.resource {
            Resource::Buffer(lease) => Ok(lease),
            _ => Err(completion.refusal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op3_descriptor_0_is_a_connection_and_0_bytes_are_none() {
        assert!(AcceptMulti::<OwnedFd>::last_is_item(0));
        assert!(!AcceptMulti::<OwnedFd>::last_is_item(-libc::ECANCELED));
        assert!(RecvMulti::<OwnedFd>::last_is_item(1));
        assert!(!RecvMulti::<OwnedFd>::last_is_item(0));
    }
}
