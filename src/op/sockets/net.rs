//! Sockets: create, bind, listen, connect, shut down.
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
//! (`message`), accepting connections (`accept`, and many of them: `multishot`).
#![allow(unsafe_code, reason = "writes entries that point to addresses")]

use std::io;
use std::net;
use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;

use super::kind::{Domain, SocketKind};
use crate::buf::address::Address;
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// The flag that closes the new descriptor on `exec`.
pub(crate) const CLOSE_ON_EXEC: u32 = libc::SOCK_CLOEXEC.cast_unsigned();

/// Creates a socket: `socket(2)`. Since Linux 5.19.
///
/// The output is the socket, or the error: there is no [`Outcome`], because nothing was given. The
/// socket is blocking, and should stay so: an operation that has to wait does that in the kernel,
/// without a thread.
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
/// Those of `socket(2)`: `EAFNOSUPPORT`, `EPROTONOSUPPORT` for a protocol that the kind does not
/// have, `EMFILE` when the process has no descriptor left, `EACCES` for a raw socket without the
/// privilege. `EINVAL` before Linux 5.19.
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
/// Port 0 lets the system choose one: [`GetName`](crate::op::GetName) or `getsockname(2)` tells
/// which. A server that begins again may find its port taken by its own old connections, unless
/// [`REUSE_ADDRESS`](crate::op::SocketOption::REUSE_ADDRESS) is set first. The path of a unix
/// socket stays when the socket is closed, and the next bind to it fails:
/// [`UnlinkAt`](crate::op::UnlinkAt) it.
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
/// Those of `bind(2)`: `EADDRINUSE`, `EADDRNOTAVAIL` for an address that is not of this machine,
/// `EACCES` for a port below 1024 without the privilege, `EINVAL` for a socket that is bound
/// already, and before Linux 6.11.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Bind, Domain, Listen, Socket, SocketKind};
/// use std::net::{SocketAddr, TcpListener};
///
/// let mut ring = Setup::new(4).build()?;
/// let socket = ring.submit(Socket::new(Domain::V4, SocketKind::STREAM))?;
/// let Ok(socket) = ring.wait(socket)? else { return Ok(()) }; // Linux 5.19
/// let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
/// let bind = ring.submit(Bind::new(socket, any_port))?;
/// let bound = ring.wait(bind)?;
/// let Ok(()) = bound.result else { return Ok(()) }; // Linux 6.11
/// let listen = ring.submit(Listen::new(bound.fd))?;
/// let listening = ring.wait(listen)?;
/// listening.result?;
/// assert_ne!(TcpListener::from(listening.fd).local_addr()?.port(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
/// From now on clients connect, and may send, although nobody accepts: the system does that, as far
/// as the backlog has room. An internet socket that was not bound gets a port of the system's
/// choice. To listen again only changes the backlog.
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
/// Those of `listen(2)`: `EADDRINUSE` when another listener has the address, `EOPNOTSUPP` for a
/// socket without connections, such as UDP, `EINVAL` for one that is connected, and before Linux
/// 6.11.
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

/// Connects a socket: `connect(2)`. Since Linux 5.5.
///
/// A peer that does not answer is noticed after some minutes (`ETIMEDOUT`): set a limit with
/// [`within`](crate::StepExt::within) or a wait that ends.
///
/// On a datagram socket it only records the address, and completes at once, whoever is there: that
/// nobody listens is told by a later send or receive (`ECONNREFUSED`). After that error on a
/// stream, the socket can be connected again.
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
/// `ECONNREFUSED` when nothing listens at the address, `ETIMEDOUT`, `ENETUNREACH` and
/// `EHOSTUNREACH`, `EISCONN` for a stream that is connected already, `EADDRNOTAVAIL` when no port
/// is left here. `EAGAIN` from a non-blocking unix socket when the listener's queue is full; a
/// blocking one waits for room, and in a worker thread.
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
/// Only a shutdown for writing reaches the peer, whose receive ends with 0 once it has taken what
/// was sent. One for reading is about this side: what arrives later at a TCP socket is still there.
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
/// `ENOTCONN` when the socket is not connected, `ENOTSOCK` for another file. `EINVAL` before Linux
/// 5.11.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Recv, Shutdown};
/// use std::net;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(4).build()?;
/// let (ours, theirs) = UnixStream::pair()?;
/// let recv = ring.submit(Recv::new(theirs, [0; 8]))?;
/// let shutdown = ring.submit(Shutdown::new(ours, net::Shutdown::Write))?;
/// let outcome = ring.wait(shutdown)?;
/// let Ok(()) = outcome.result else { return Ok(()) }; // Linux 5.11
/// assert_eq!(ring.wait(recv)?.result?, 0); // And `outcome.fd` can still receive.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
