//! Sockets: create, bind, listen, accept, connect, shut down.
//!
//! ```text
//!   client   Socket ─► Connect ───────────────► Send, Recv ─► Shutdown
//!   server   Socket ─► Bind ─► Listen ─► Accept ─► OwnedFd ─► Send, Recv
//!                                 │  ▲                 │
//!                                 │  └── AcceptMulti: one operation, many connections
//! ```
//!
//! Each operation returns its socket. Operations that create a socket return an [`OwnedFd`], which
//! is closed if it is not taken, even when the operation was detached or cancelled too late. New
//! sockets are closed on `exec`, and are blocking, [as they should be](super::stream).
//!
//! Keeps OP1, and OP3 by way of [`ResultKind::Fd`]. Leaves to others: bytes (`stream`), messages
//! (`message`), accepting many connections (`multishot`).
#![allow(unsafe_code, reason = "writes entries that point to addresses")]

use std::io;
use std::net;
use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::AcceptFlags;

use super::kind::{Domain, SocketKind};
use crate::buf::address::{Address, MAX_ADDRESS, Storage};
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// The flag that closes the new descriptor on `exec`.
pub(crate) const CLOSE_ON_EXEC: u32 = libc::SOCK_CLOEXEC.cast_unsigned();

/// Creates a socket: `socket(2)`. Since Linux 5.19.
///
/// # Completion
///
/// Once, with the socket, which is closed on `exec`.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// Those of `socket(2)`. `EINVAL` before Linux 5.19.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Connect, Domain, SocketKind, Socket};
/// use std::net::TcpListener;
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = ring.submit(Socket::new(Domain::V4, SocketKind::STREAM))?;
/// let Ok(socket) = ring.wait(socket)? else { return Ok(()) }; // Linux 5.19
/// let connect = ring.submit(Connect::new(socket, listener.local_addr()?))?;
/// ring.wait(connect)?.result?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SOCKET")]
#[doc(alias = "io_uring_prep_socket")]
#[derive(Debug)]
pub struct Socket {
    domain: Domain,
    kind: SocketKind,
    protocol: u32,
}

impl Socket {
    /// Creates a socket of the usual protocol.
    pub fn new(domain: Domain, kind: SocketKind) -> Self {
        Self { domain, kind, protocol: 0 }
    }

    /// Creates a socket of this protocol (`IPPROTO_*`) instead.
    pub fn protocol(self, protocol: u32) -> Self {
        Self { protocol, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing. OP3: `RESULT_KIND` says that its result is a
// descriptor, which is new.
unsafe impl Op for Socket {
    type Output = io::Result<OwnedFd>;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn prep(&mut self) -> Sqe {
        let kind = u64::from(self.kind.0) | u64::from(CLOSE_ON_EXEC);
        prep::socket(self.domain.0, kind, self.protocol)
    }

    fn finish(self, mut done: Done) -> Self::Output {
        done.fd()
    }
}

/// Binds a socket to an address: `bind(2)`. Since Linux 6.11.
///
/// # Completion
///
/// Once, without a value.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// Those of `bind(2)`, such as `EADDRINUSE`. `EINVAL` before Linux 6.11.
#[doc(alias = "IORING_OP_BIND")]
#[doc(alias = "io_uring_prep_bind")]
#[derive(Debug)]
pub struct Bind<F> {
    address: Address,
    fd: F,
}

impl<F> Bind<F> {
    /// Binds `fd` to an address of the standard library, or an [`Address`].
    pub fn new(fd: F, address: impl Into<Address>) -> Self {
        Self { address: address.into(), fd }
    }
}

// SAFETY: OP1: the entry points to `address`, which lies here, and the descriptor is of `fd`. It
// completes once.
unsafe impl<F: Target> Op for Bind<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (address, len) = self.address.0.place();
        self.fd.aim(prep::bind(-1, address, len))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// Makes a socket listen for connections: `listen(2)`. Since Linux 6.11.
///
/// # Completion
///
/// Once, without a value.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// Those of `listen(2)`, such as `EADDRINUSE`. `EINVAL` before Linux 6.11.
#[doc(alias = "IORING_OP_LISTEN")]
#[doc(alias = "io_uring_prep_listen")]
#[derive(Debug)]
pub struct Listen<F> {
    fd: F,
    backlog: u32,
}

impl<F> Listen<F> {
    /// Makes `fd` listen. As many connections may wait to be accepted as the system allows
    /// (`net.core.somaxconn`).
    pub fn new(fd: F) -> Self {
        Self { fd, backlog: i32::MAX.cast_unsigned() }
    }

    /// Lets at most this many connections wait: the `backlog` of `listen(2)`.
    pub fn backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Listen<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::listen(-1, self.backlog))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// Accepts one connection: `accept4(2)`. Since Linux 5.5.
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
/// `ECONNABORTED` when the peer has already gone, and `EMFILE` when the process has no descriptor
/// left. The listener stays usable after both.
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

/// Connects a socket: `connect(2)`. Since Linux 5.5.
///
/// # Completion
///
/// Once, when the connection is established or refused. With a non-blocking socket it also
/// completes only then, and never with `EINPROGRESS`.
///
/// # Cancellation
///
/// The operation stops waiting; the socket goes on connecting. The socket is useless then: drop it.
///
/// # Errors
///
/// `ECONNREFUSED` when nothing listens at the address; `EAGAIN` from a non-blocking unix socket
/// when the listener's queue is full. A blocking one waits for room.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Connect, Domain, Socket, SocketKind};
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let socket = ring.submit(Socket::new(Domain::of(&address), SocketKind::STREAM))?;
/// let Ok(socket) = ring.wait(socket)? else { return Ok(()) }; // Linux 5.19
/// let connect = ring.submit(Connect::new(socket, address))?;
/// let outcome = ring.wait(connect)?;
/// outcome.result?; // ECONNREFUSED where nobody listens
/// assert_eq!(TcpStream::from(outcome.fd).peer_addr()?, address);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_CONNECT")]
#[doc(alias = "io_uring_prep_connect")]
#[derive(Debug)]
pub struct Connect<F> {
    address: Address,
    fd: F,
}

impl<F> Connect<F> {
    /// Connects `fd` to an address of the standard library, or an [`Address`].
    pub fn new(fd: F, address: impl Into<Address>) -> Self {
        Self { address: address.into(), fd }
    }
}

// SAFETY: OP1: the entry points to `address`, which lies here, and the descriptor is of `fd`. It
// completes once.
unsafe impl<F: Target> Op for Connect<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (address, len) = self.address.0.place();
        self.fd.aim(prep::connect(-1, address, len))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// Shuts down one direction of a connection, or both: `shutdown(2)`. Since Linux 5.11.
///
/// Unlike closing a descriptor, this ends the operations in flight on the socket: a receive
/// completes with the data that is there, then with 0; a send fails with `EPIPE`; an accept fails
/// with `EINVAL`.
///
/// # Completion
///
/// Once, without a value.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `ENOTCONN` when the socket is not connected.
#[doc(alias = "IORING_OP_SHUTDOWN")]
#[doc(alias = "io_uring_prep_shutdown")]
#[derive(Debug)]
pub struct Shutdown<F> {
    fd: F,
    how: net::Shutdown,
}

impl<F> Shutdown<F> {
    /// Shuts down the direction `how` of the connection `fd`.
    pub fn new(fd: F, how: net::Shutdown) -> Self {
        Self { fd, how }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Shutdown<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let how = match self.how {
            net::Shutdown::Read => libc::SHUT_RD,
            net::Shutdown::Write => libc::SHUT_WR,
            net::Shutdown::Both => libc::SHUT_RDWR,
        };
        self.fd.aim(prep::shutdown(-1, how.cast_unsigned()))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}
