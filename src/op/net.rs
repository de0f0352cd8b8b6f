//! Sockets: made, named, connected, shut down.
//!
//! ```text
//!   client   Socket ─► Connect ───────────────► Send, Recv ─► Shutdown
//!   server   Socket ─► Bind ─► Listen ─► Accept ─► OwnedFd ─► Send, Recv
//!                                 │  ▲                 │
//!                                 │  └── AcceptMulti: one operation, many connections
//! ```
//!
//! Each gives its socket back. What brings a new one brings an [`OwnedFd`], which is closed when
//! nobody takes it: also when the operation was given up, or cancelled too late. New sockets are
//! closed on `exec`, and block, [as they should](super::stream).
//!
//! Keeps OP1, and OP3 by way of [`Brings::Fd`]. Leaves to others: bytes (`stream`), messages
//! (`message`), the many connections of one operation (`multi`).
#![allow(unsafe_code, reason = "writes entries that point to addresses")]

use std::io;
use std::net;
use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::AcceptFlags;

use super::addr::{Address, MOST, Storage};
use super::target::Target;
use super::{Brings, Done, Op, Outcome, RingId};
use crate::prep;

/// The new descriptor is closed on `exec`.
pub(crate) const CLOSE_ON_EXEC: u32 = libc::SOCK_CLOEXEC.cast_unsigned();

/// What family of addresses a socket has (`AF_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain(pub i32);

impl Domain {
    /// IPv4.
    pub const V4: Self = Self(libc::AF_INET);
    /// IPv6; and IPv4 too, unless the socket is told otherwise.
    pub const V6: Self = Self(libc::AF_INET6);
    /// Within this machine.
    pub const UNIX: Self = Self(libc::AF_UNIX);

    /// The family of an address.
    pub fn of(address: &net::SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// What a socket carries (`SOCK_*`, without the flags).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketKind(u8);

impl SocketKind {
    /// A stream of bytes: TCP, unless the protocol says otherwise.
    pub const STREAM: Self = Self(1);
    /// Datagrams: UDP, unless the protocol says otherwise.
    pub const DATAGRAM: Self = Self(2);
    /// Packets below any protocol.
    pub const RAW: Self = Self(3);
    /// Datagrams in order, between two that are connected.
    pub const SEQUENCED: Self = Self(5);
}

const _: () = {
    assert!(libc::SOCK_STREAM == 1);
    assert!(libc::SOCK_DGRAM == 2);
    assert!(libc::SOCK_RAW == 3);
    assert!(libc::SOCK_SEQPACKET == 5);
};

/// Makes a socket. Since Linux 5.19.
///
/// # Completion
///
/// Once, with the socket. It is closed on `exec`.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
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
    /// Makes a socket of the usual protocol.
    pub fn new(domain: Domain, kind: SocketKind) -> Self {
        Self { domain, kind, protocol: 0 }
    }

    /// Makes one of this protocol (`IPPROTO_*`).
    pub fn protocol(self, protocol: u32) -> Self {
        Self { protocol, ..self }
    }
}

// SAFETY: OP1: it points to nothing. OP3: `BRINGS` says that its result is a descriptor, which is
// new.
unsafe impl Op for Socket {
    type Output = io::Result<OwnedFd>;
    const BRINGS: Brings = Brings::Fd;

    fn prep(&mut self) -> Sqe {
        let kind = u64::from(self.kind.0) | u64::from(CLOSE_ON_EXEC);
        prep::socket(self.domain.0, kind, self.protocol)
    }

    fn finish(self, mut done: Done) -> Self::Output {
        done.fd()
    }
}

/// Gives a socket its name. Since Linux 6.11.
///
/// # Completion
///
/// Once.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
#[doc(alias = "IORING_OP_BIND")]
#[doc(alias = "io_uring_prep_bind")]
#[derive(Debug)]
pub struct Bind<F> {
    address: Address,
    fd: F,
}

impl<F> Bind<F> {
    /// Names `fd`: an address of the standard library's, or an [`Address`].
    pub fn new(fd: F, address: impl Into<Address>) -> Self {
        Self { address: address.into(), fd }
    }
}

// SAFETY: OP1: it points to `address`, which lies here, and the descriptor is of `fd`. It completes
// once.
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

/// Lets a socket take connections. Since Linux 6.11.
///
/// # Completion
///
/// Once.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
#[doc(alias = "IORING_OP_LISTEN")]
#[doc(alias = "io_uring_prep_listen")]
#[derive(Debug)]
pub struct Listen<F> {
    fd: F,
    backlog: u32,
}

impl<F> Listen<F> {
    /// Lets `fd` take connections, of which as many wait to be accepted as the system lets
    /// (`net.core.somaxconn`).
    pub fn new(fd: F) -> Self {
        Self { fd, backlog: i32::MAX.cast_unsigned() }
    }

    /// Lets no more than so many wait.
    pub fn backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
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

/// Takes one connection. Since Linux 5.5.
///
/// # Completion
///
/// Once, with the connection, which is closed on `exec`. It blocks, whatever the listener does.
///
/// # Cancellation
///
/// An accept that waits is cancelled. When a connection has come in between, it completes with
/// that; given up, it closes it.
///
/// # Errors
///
/// `ECONNABORTED` when the peer was gone first, and `EMFILE` when the process has no descriptor
/// left: the listener is as good as before.
#[doc(alias = "IORING_OP_ACCEPT")]
#[doc(alias = "io_uring_prep_accept")]
#[derive(Debug)]
pub struct Accept<F> {
    fd: F,
}

impl<F> Accept<F> {
    /// Takes a connection from `listener`.
    pub fn new(listener: F) -> Self {
        Self { fd: listener }
    }

    /// Takes a connection, and tells whose it is.
    pub fn with_address(self) -> AcceptFrom<F> {
        AcceptFrom { from: Storage::EMPTY, fd: self.fd }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. OP3: `BRINGS` says that its
// result is a descriptor, which is new. It completes once.
unsafe impl<F: Target> Op for Accept<F> {
    type Output = Outcome<OwnedFd, F>;
    const BRINGS: Brings = Brings::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::accept(-1, 0, 0, CLOSE_ON_EXEC, AcceptFlags::empty()))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.fd, buf: () }
    }
}

/// Takes one connection, and tells whose it is: made by [`Accept::with_address`]. Since Linux 5.5.
///
/// # Completion
///
/// Once, with the connection and the peer's address; `None` if it has none, as the client of a unix
/// listener mostly has not (it is unnamed then, or nothing).
///
/// # Cancellation
///
/// As for [`Accept`].
#[doc(alias = "IORING_OP_ACCEPT")]
#[derive(Debug)]
pub struct AcceptFrom<F> {
    from: Storage<MOST>,
    fd: F,
}

// SAFETY: OP1: it points to `from`, which lies here and is as large as it says, and the descriptor
// is of `fd`. OP3: `BRINGS` says that its result is a descriptor, which is new. It completes once.
unsafe impl<F: Target> Op for AcceptFrom<F> {
    type Output = Outcome<(OwnedFd, Option<Address>), F>;
    const BRINGS: Brings = Brings::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (address, len) = self.from.room();
        self.fd.aim(prep::accept(-1, address, len, CLOSE_ON_EXEC, AcceptFlags::empty()))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = done.fd().map(|fd| (fd, self.from.address()));
        Outcome { result, fd: self.fd, buf: () }
    }
}

/// Connects a socket. Since Linux 5.5.
///
/// # Completion
///
/// Once, when the connection is there or refused. The socket blocks, and nothing waits for that
/// but the kernel; with a socket that does not block it completes in the end too, and never with
/// `EINPROGRESS`.
///
/// # Cancellation
///
/// Waiting is given up; the socket goes on connecting. It is good for nothing then: drop it.
///
/// # Errors
///
/// `ECONNREFUSED` when nobody listens there; `EAGAIN` of a unix socket that does not block, when
/// the listener's queue is full. One that blocks waits for room.
#[doc(alias = "IORING_OP_CONNECT")]
#[doc(alias = "io_uring_prep_connect")]
#[derive(Debug)]
pub struct Connect<F> {
    address: Address,
    fd: F,
}

impl<F> Connect<F> {
    /// Connects `fd` to an address of the standard library's, or an [`Address`].
    pub fn new(fd: F, address: impl Into<Address>) -> Self {
        Self { address: address.into(), fd }
    }
}

// SAFETY: OP1: it points to `address`, which lies here, and the descriptor is of `fd`. It completes
// once.
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

/// Ends a connection in one direction, or in both. Since Linux 5.11.
///
/// Unlike closing a descriptor this ends what is in flight on the socket: a receive completes with
/// what there is, and then with 0; a send fails with `EPIPE`; an accept fails with `EINVAL`.
///
/// # Completion
///
/// Once.
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
    /// Ends what `how` says of the connection `fd`.
    pub fn new(fd: F, how: net::Shutdown) -> Self {
        Self { fd, how }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
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
