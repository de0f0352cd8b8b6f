//! Accepting one connection.
//!
//! ```text
//!   Accept      ACCEPT fd               ──► OwnedFd
//!   AcceptFrom  ACCEPT fd, addr, addr2  ──► OwnedFd, Address      the peer's, written here
//! ```
//!
//! Keeps OP1, and OP3 by way of [`ResultKind::Fd`]. Leaves to others: listeners (`net`), accepting
//! many connections (`multishot`).
#![allow(unsafe_code, reason = "writes entries that point to addresses")]

use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::AcceptFlags;

use super::net::CLOSE_ON_EXEC;
use crate::buf::address::{Address, MAX_ADDRESS, Storage};
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// Accepts one connection: `accept4(2)`. Since Linux 5.5.
///
/// One accept is one connection: the next waits in the listener's queue until there is another
/// accept. Several may be in flight, and nobody knows which gets what;
/// [`AcceptMulti`](crate::op::AcceptMulti) is one for all.
///
/// A client that has reset its connection by then is accepted anyway, and the first receive tells
/// (`ECONNRESET`, seen on 6.18).
///
/// # Completion
///
/// Once, with the connection, which is closed on `exec`. It is blocking, even if the listener is
/// not.
///
/// # Cancellation
///
/// An accept that waits is cancelled. If a connection has arrived in the meantime, the accept
/// completes with it; a detached accept closes it.
///
/// # Errors
///
/// `EMFILE` when the process has no descriptor left, and `ENFILE` when the system has none;
/// `ECONNABORTED` and network errors of the connection that would have come. The listener stays
/// usable after all of these. `EINVAL` for a socket that does not listen or was shut down,
/// `EOPNOTSUPP` for one without connections, such as UDP.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::Accept;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let accept = ring.submit(Accept::new(listener))?;
/// let outcome = ring.wait(accept)?;
/// let stream = TcpStream::from(outcome.result?); // `outcome.fd` is the listener.
/// assert_eq!(stream.peer_addr()?, client.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_ACCEPT")]
#[doc(alias = "io_uring_prep_accept")]
#[derive(Debug)]
pub struct Accept<F> {
    fd: F,
    order: AcceptFlags,
}

impl<F> Accept<F> {
    /// Accepts a connection from `listener`.
    pub fn new(listener: F) -> Self {
        Self { fd: listener, order: AcceptFlags::empty() }
    }

    /// Returns the peer's address with the connection.
    pub fn with_address(self) -> AcceptFrom<F> {
        AcceptFrom { from: Storage::EMPTY, fd: self.fd, order: self.order }
    }

    /// Waits for a connection before it tries to accept: for a listener that is known to have none.
    /// Since Linux 6.10; `EINVAL` before.
    #[doc(alias = "IORING_ACCEPT_POLL_FIRST")]
    pub fn poll_first(self) -> Self {
        Self { order: self.order | AcceptFlags::POLL_FIRST, ..self }
    }

    /// Fails with `EAGAIN` instead of waiting for a connection. Since Linux 6.10; `EINVAL` before.
    /// Together with [`poll_first`](Self::poll_first) it always fails.
    #[doc(alias = "IORING_ACCEPT_DONTWAIT")]
    pub fn dont_wait(self) -> Self {
        Self { order: self.order | AcceptFlags::DONTWAIT, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. OP3: `RESULT_KIND` says
// that its result is a descriptor, which is new. It completes once.
unsafe impl<F: Target> Op for Accept<F> {
    type Output = Outcome<OwnedFd, F>;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::accept(-1, 0, 0, CLOSE_ON_EXEC, self.order))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.fd, buf: () }
    }
}

/// Accepts one connection, and returns the peer's address: made by [`Accept::with_address`]. Since
/// Linux 5.5.
///
/// It saves a `getpeername(2)` for each connection, and works for peers that are gone by then.
///
/// # Completion
///
/// Once, with the connection and the peer's address. The address is `None` if the peer has none; a
/// client of a unix listener mostly has none (an unnamed address, or nothing at all).
///
/// # Cancellation
///
/// As for [`Accept`].
///
/// # Errors
///
/// As for [`Accept`].
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::Accept;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let accept = ring.submit(Accept::new(listener).with_address())?;
/// let (_stream, from) = ring.wait(accept)?.result?;
/// assert_eq!(from.and_then(|from| from.as_inet()), Some(client.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_ACCEPT", "io_uring_prep_accept"))]
#[derive(Debug)]
pub struct AcceptFrom<F> {
    from: Storage<MAX_ADDRESS>,
    fd: F,
    order: AcceptFlags,
}

impl<F> AcceptFrom<F> {
    /// Waits for a connection before it tries to accept: for a listener that is known to have none.
    /// Since Linux 6.10; `EINVAL` before.
    #[doc(alias = "IORING_ACCEPT_POLL_FIRST")]
    pub fn poll_first(self) -> Self {
        Self { order: self.order | AcceptFlags::POLL_FIRST, ..self }
    }

    /// Fails with `EAGAIN` instead of waiting for a connection. Since Linux 6.10; `EINVAL` before.
    /// Together with [`poll_first`](Self::poll_first) it always fails.
    #[doc(alias = "IORING_ACCEPT_DONTWAIT")]
    pub fn dont_wait(self) -> Self {
        Self { order: self.order | AcceptFlags::DONTWAIT, ..self }
    }
}

// SAFETY: OP1: the entry points to `from`, which lies here and has the room that it states, and the
// descriptor is of `fd`. OP3: `RESULT_KIND` says that its result is a descriptor, which is new. It
// completes once.
unsafe impl<F: Target> Op for AcceptFrom<F> {
    type Output = Outcome<(OwnedFd, Option<Address>), F>;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (address, len) = self.from.room();
        self.fd.aim(prep::accept(-1, address, len, CLOSE_ON_EXEC, self.order))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = done.fd().map(|fd| (fd, self.from.address()));
        Outcome { result, fd: self.fd, buf: () }
    }
}
