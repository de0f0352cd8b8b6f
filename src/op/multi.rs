//! Sockets that complete again and again: many connections, or much data, from one operation.
//!
//! ```text
//!   submit(AcceptMulti) ─► shot: OwnedFd ─► shot: OwnedFd ─► … ─► Ended { how, fd }
//!   submit(RecvMulti)   ─► shot: BufLease ─► shot: BufLease ─► … ─► Ended { how, fd }
//! ```
//!
//! Take the shots with [`Ring::next`](crate::Ring::next) or from
//! [`Ring::reap`](crate::Ring::reap). The operation may end at any time, without a fault of
//! anybody's; [`Ending`] says why, and so whether to submit it anew. Nothing is lost between the
//! two: connections and bytes wait in the socket, and those that were not taken come with the end.
//!
//! Keeps OP3: whatever a completion brings is owned, and recycled or closed if nobody takes it.
#![allow(unsafe_code, reason = "says what its entries point to")]

use std::io;
use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, RecvSendFlags};

use super::ending::{Ended, Ending};
use super::net::CLOSE_ON_EXEC;
use super::target::Target;
use super::{Brings, Done, Multishot, Op, RingId, Shot, Shots};
use crate::lease::{Brought, BufLease, BufRing, Source};
use crate::prep;

/// Takes every connection that comes. Since Linux 5.19.
///
/// It does not tell whose they are: there would be one place for the addresses of all. Ask the
/// connection (`getpeername`), or use [`Accept::with_address`](super::Accept::with_address).
///
/// # Completion
///
/// Once for each connection, which is closed on `exec`; then once more, with [`Ending`]. Dropping
/// the listener elsewhere ends nothing: it goes on accepting until it is cancelled or the listener
/// is shut down.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Connections that came before it did come as shots, or with
/// the end, in [`Ended::left`].
///
/// # Errors
///
/// [`Ending::Failed`] with `EINVAL` before Linux 5.19, and when the listener is shut down; with
/// `EMFILE` when the process has no descriptor left.
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
/// println!("ended: {:?}, {} more had come", ended.how, ended.left.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_ACCEPT_MULTISHOT")]
#[doc(alias = "io_uring_prep_multishot_accept")]
#[derive(Debug)]
pub struct AcceptMulti<F> {
    fd: F,
}

impl<F> AcceptMulti<F> {
    /// Takes connections from `listener`.
    pub fn new(listener: F) -> Self {
        Self { fd: listener }
    }

    pub(super) fn into_fd(self) -> F {
        self.fd
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. OP3: `BRINGS` says that each
// result is a descriptor, which is new. `SHOTS` says that it completes many times.
unsafe impl<F: Target> Op for AcceptMulti<F> {
    type Output = Ended<F, io::Result<OwnedFd>>;
    const SHOTS: Shots = Shots::Many;
    const BRINGS: Brings = Brings::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::accept(-1, 0, 0, CLOSE_ON_EXEC, AcceptFlags::MULTISHOT))
    }

    fn finish(self, done: Done) -> Self::Output {
        Ended::new(Ending::of_things(&done), self.fd, done, Self::item)
    }

    /// Descriptor 0 is one too.
    fn last_is_shot(result: i32) -> bool {
        result >= 0
    }
}

impl<F: Target> Multishot for AcceptMulti<F> {
    type Item = io::Result<OwnedFd>;

    fn item(shot: Shot) -> Self::Item {
        match shot.brought {
            Brought::Fd(fd) => Ok(fd),
            _ => Err(shot.refusal()),
        }
    }
}

/// Receives all that comes, each time into a buffer that the kernel picks from a [`BufRing`]. Since
/// Linux 6.0.
///
/// # Completion
///
/// Once for each buffer that was filled, in the order of the bytes; then once more, with
/// [`Ending`]: [`Eof`](Ending::Eof) when the peer will send no more, and
/// [`NoBuffers`](Ending::NoBuffers) when every buffer is in a lease, also before there is data: so
/// submit it anew when one was dropped. A datagram without bytes ends
/// it too, and looks like the end of a stream.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. What came before came as shots, or comes with the end, in
/// [`Ended::left`]; the rest waits in the socket.
///
/// # Errors
///
/// [`Ending::Failed`] with `EINVAL` before Linux 6.0.
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
///     // Anew, unless it is over for good.
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
#[doc(alias = "IORING_RECV_MULTISHOT")]
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

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`; the kernel writes to buffers of
// the source, which leases own (OP3). `SHOTS` says that it completes many times.
unsafe impl<F: Target> Op for RecvMulti<F> {
    type Output = Ended<F, io::Result<BufLease>>;
    const SHOTS: Shots = Shots::Many;
    const BRINGS: Brings = Brings::Buffer;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (group, order) = (self.buffers.0.id(), RecvSendFlags::RECV_MULTISHOT);
        self.fd.aim(prep::recv_picked(-1, 0, group, 0, order))
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

    fn item(shot: Shot) -> Self::Item {
        match shot.brought {
            Brought::Buffer(lease) => Ok(lease),
            _ => Err(shot.refusal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op3_descriptor_0_is_a_connection_and_0_bytes_are_none() {
        assert!(AcceptMulti::<OwnedFd>::last_is_shot(0));
        assert!(!AcceptMulti::<OwnedFd>::last_is_shot(-libc::ECANCELED));
        assert!(RecvMulti::<OwnedFd>::last_is_shot(1));
        assert!(!RecvMulti::<OwnedFd>::last_is_shot(0));
    }
}
