//! Sending and receiving bytes through a socket, with one buffer.
//!
//! | to | use | since |
//! |---|---|---|
//! | send a buffer | [`Send`] | Linux 5.6 |
//! | … to an address | [`SendTo`] | Linux 6.0; before, [`SendMsg`](crate::op::SendMsg) |
//! | receive into a buffer | [`Recv`] | Linux 5.6 |
//! | … into one that the kernel selects when data arrives | [`RecvProvided`] | Linux 5.19 |
//! | … again and again | [`RecvMulti`](crate::op::RecvMulti) | Linux 6.0 |
//! | send or receive several buffers, or descriptors | [`SendMsg`](crate::op::SendMsg), [`RecvMsg`](crate::op::RecvMsg) | Linux 5.3 |
//!
//! Leave sockets blocking: an operation that finds nothing to do waits in the kernel, without a
//! thread. (`O_NONBLOCK` makes it fail with `EAGAIN` on some kernels.)
//!
//! # One at a time
//!
//! Operations in flight have no order. So never have two sends, or two receives, in flight on one
//! stream: their bytes may be swapped, or out of place after a short one. Wait for the first, send
//! more in one operation, or make a chain. A send and a receive at the same time are fine.
//!
//! # Closing
//!
//! Closing a descriptor does not end operations in flight: the operation owns the socket, and the
//! kernel holds a reference to it too. To end an operation, [cancel](crate::Ring::cancel) it, or
//! [shut the socket down](crate::op::Shutdown), which makes every receive complete with 0. A cancel
//! may come too late: only the operation's own output says which happened.
//!
//! Keeps OP1. Leaves to others: several buffers and senders' addresses (`message`), multishots.
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::flags::{ProvidedFlags, RecvFlags, SendFlags};
use crate::buf::address::Destination;
use crate::buf::{IoBuf, IoBufMut, MAX_TRANSFER};
use crate::lease::{BufLease, BufRing, Source};
use crate::op::target::Target;
use crate::op::{Done, NO_ROOM, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// Sends a buffer through a connected socket: `send(2)`. Since Linux 5.6.
///
/// Never have [two of them in flight](self#one-at-a-time) on one stream.
///
/// It may be short, also on a blocking socket, for which `send(2)` would wait: of ten million bytes
/// for a unix stream that nobody reads, some 200,000 were taken (seen on 6.18). Send the rest, or
/// set [`WAIT_ALL`](SendFlags::WAIT_ALL). An empty buffer sends nothing through a stream, and an
/// empty datagram through a datagram socket.
///
/// # Completion
///
/// Once, with the number of bytes that the socket has taken. That is less than the buffer holds
/// when the socket was nearly full, unless [`WAIT_ALL`](SendFlags::WAIT_ALL) is set. It does not
/// mean that the peer has received them.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. If a part was already sent, it completes with that
/// count.
///
/// # Errors
///
/// `EPIPE`, without a signal, when the peer has closed the connection, or there never was one.
/// `ECONNRESET` when the peer has reset it, `EMSGSIZE` when a datagram is too long, `EDESTADDRREQ`
/// from a datagram socket that is not connected, `ECONNREFUSED` there when an earlier datagram
/// found nobody. `ENOTSOCK` for another file.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Recv, Send};
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let (ours, theirs) = UnixStream::pair()?;
/// let recv = ring.submit(Recv::new(theirs, Vec::with_capacity(64)))?;
/// let send = ring.submit(Send::new(ours, "hello"))?;
/// assert_eq!(ring.wait(send)?.result?, 5);
/// let (count, buf) = ring.wait(recv)?.ok()?;
/// assert_eq!((count, &buf[..]), (5, &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SEND")]
#[doc(alias = "io_uring_prep_send")]
#[derive(Debug)]
pub struct Send<F, B> {
    fd: F,
    buf: B,
    offered: u32,
    flags: SendFlags,
    order: RecvSendFlags,
}

impl<F, B> Send<F, B> {
    /// Sends through `fd`.
    pub fn new(fd: F, buf: B) -> Self {
        let (flags, order) = (SendFlags::default(), RecvSendFlags::empty());
        Self { fd, buf, offered: 0, flags, order }
    }

    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }

    /// Waits for room before it tries to send: for a socket that is known to be full. Since Linux
    /// 5.19.
    pub fn poll_first(self) -> Self {
        Self { order: RecvSendFlags::POLL_FIRST, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`. It
// completes once.
unsafe impl<F: Target, B: IoBuf> Op for Send<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.buf.region().is_one_transfer()
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region();
        self.offered = region.transfer();
        let sqe = prep::send(-1, region.addr(), self.offered, self.flags.bits(), self.order);
        self.fd.aim(sqe)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.offered), fd: self.fd, buf: self.buf }
    }
}

/// Sends a buffer to an address, as a datagram: `sendto(2)`. Since Linux 6.0. Older kernels refuse
/// an address with `EINVAL`, or ignore it, so that a connected socket would send to its peer: use
/// [`SendMsg`](crate::op::SendMsg) there.
///
/// Success means that the datagram has left the socket, and not that it arrived. That nobody
/// listens is told to a connected socket, and by default to no other. An empty buffer sends an
/// empty datagram.
///
/// # Completion
///
/// Once, with the number of bytes of the datagram: all of them, or it is an error.
///
/// # Cancellation
///
/// A send that waits for room is cancelled, and nothing was sent.
///
/// # Errors
///
/// `EMSGSIZE` when the datagram is too long, `ENETUNREACH` and `EACCES` (a broadcast address
/// without [`BROADCAST`](crate::op::SocketOption::BROADCAST)). On a connected socket either
/// `EISCONN`, or the address of this send is used or ignored: leave it unconnected.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendTo;
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(4).build()?;
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let to = theirs.local_addr()?;
/// let send = ring.submit(SendTo::new(ours, "hello", to))?;
/// match ring.wait(send)?.result {
///     Ok(bytes) => assert_eq!((bytes, theirs.recv(&mut [0; 8])?), (5, 5)),
///     Err(error) => println!("needs Linux 6.0: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_SEND", "io_uring_prep_sendto", "io_uring_prep_send_set_addr"))]
#[derive(Debug)]
pub struct SendTo<F, B, D: Destination> {
    to: D::Bytes,
    send: Send<F, B>,
}

impl<F, B, D: Destination> SendTo<F, B, D> {
    /// Sends through `fd`, to `to`.
    pub fn new(fd: F, buf: B, to: D) -> Self {
        Self { to: to.encode(), send: Send::new(fd, buf) }
    }

    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { send: self.send.flags(flags), ..self }
    }
}

// SAFETY: OP1: the address of the bytes as `Send` takes it; the peer's address is of `to`, which
// lies here. It completes once.
unsafe impl<F: Target, B: IoBuf, D: Destination> Op for SendTo<F, B, D> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.send.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.send.is_offered_whole()
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let (sqe, to) = (self.send.prep(), self.to.as_ref());
        let len = u16::try_from(to.len()).expect("an address has at most 128 bytes");
        prep::send_to(sqe, to.as_ptr().expose_provenance() as u64, len)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        self.send.finish(done)
    }
}

/// Receives into a buffer: `recv(2)`. Since Linux 5.6.
///
/// Never have [two of them in flight](self#one-at-a-time) on one stream. If a datagram is longer
/// than the buffer, the rest is lost; [`RecvMsg`](crate::op::RecvMsg) reports that, and how long
/// the datagram was.
///
/// It completes with the first bytes that come, however large the buffer is: where a message ends
/// is for the program to find. A datagram without bytes is a 0, too, and no end.
///
/// # Completion
///
/// Once, with the number of bytes received, as soon as there are any; 0 when the peer will send no
/// more (and when the buffer has no room).
///
/// # Cancellation
///
/// A receive that waits for data is cancelled, and no data is lost. It may complete as usual
/// instead, if data has arrived in the meantime.
///
/// # Errors
///
/// Those of `recv(2)`: `ECONNRESET` when the peer has reset the connection, which is told once (a
/// receive after it completes with 0); `ENOTCONN`; `ECONNREFUSED` when a datagram that was sent
/// before found nobody; `ENOTSOCK`. A buffer without room is [rejected](crate::Rejection::Invalid),
/// because its 0 would look like the end.
///
/// # Example
///
/// ```
/// use annulus::{Setup, op};
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let (ours, theirs) = UnixStream::pair()?;
/// drop(theirs);
/// let recv = ring.submit(op::Recv::new(ours, Vec::with_capacity(64)))?;
/// let (count, buf) = ring.wait(recv)?.ok()?;
/// assert_eq!((count, buf.len()), (0, 0)); // The peer will send no more.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_RECV")]
#[doc(alias = "io_uring_prep_recv")]
#[derive(Debug)]
pub struct Recv<F, B> {
    fd: F,
    buf: B,
    offered: u32,
    flags: RecvFlags,
    order: RecvSendFlags,
}

impl<F, B> Recv<F, B> {
    /// Receives from `fd`.
    pub fn new(fd: F, buf: B) -> Self {
        let (flags, order) = (RecvFlags::default(), RecvSendFlags::empty());
        Self { fd, buf, offered: 0, flags, order }
    }

    /// Sets the flags of this receive.
    pub fn flags(self, flags: RecvFlags) -> Self {
        Self { flags, ..self }
    }

    /// Waits for data before it tries to receive: for a socket that is known to be empty. Since
    /// Linux 5.19.
    pub fn poll_first(self) -> Self {
        Self { order: RecvSendFlags::POLL_FIRST, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`. It
// completes once, and `count` bounds how many bytes count as written.
unsafe impl<F: Target, B: IoBufMut> Op for Recv<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.buf.region_mut().is_one_transfer()
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.buf.region_mut().is_empty().then_some(NO_ROOM)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region_mut();
        self.offered = region.transfer();
        let sqe = prep::recv(-1, region.addr(), self.offered, self.flags.bits(), self.order);
        self.fd.aim(sqe)
    }

    #[inline]
    fn finish(mut self, done: Done) -> Self::Output {
        let result = done.count(self.offered);
        if let Ok(count) = result {
            // SAFETY: the kernel has written `count` bytes of the region (OP1).
            unsafe { self.buf.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

/// Receives into a buffer that the kernel selects from a [`BufRing`] when there is data. Since
/// Linux 5.19.
///
/// An idle connection therefore holds no buffer.
///
/// Which buffer it is, is known only then. It is leased until the lease is dropped, and any
/// operation of the ring that names the same [`BufRing`] may get it next.
///
/// # Completion
///
/// Once, with the buffer and its data; with `None` when the peer will send no more (an empty
/// datagram looks like that too). If a datagram is longer than the buffer, the rest is lost; with
/// [incremental consumption](crate::raw::register::Consumption::Incremental) only the unused part
/// of a buffer counts. [`RecvMsgMulti`](crate::op::RecvMsgMulti) reports such a loss.
///
/// # Cancellation
///
/// A receive that waits for data is cancelled, and no data is lost; no buffer was selected.
///
/// # Errors
///
/// `ENOBUFS` when every buffer is leased, even before there is data. Data stays in the socket: drop
/// a lease, then submit it again.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::RecvProvided;
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(4, 64) else { return Ok(()) }; // Linux 5.19
/// let (mut ours, theirs) = UnixStream::pair()?;
/// let recv = ring.submit(RecvProvided::new(theirs, &buffers))?;
/// ours.write_all(b"hello")?;
/// let lease = ring.wait(recv)?.result?.expect("the peer has sent something");
/// assert_eq!(&lease[..], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_RECV", "io_uring_prep_recv"))]
#[doc(alias = "IOSQE_BUFFER_SELECT")]
#[derive(Debug)]
pub struct RecvProvided<F> {
    fd: F,
    buffers: BufRing,
    flags: ProvidedFlags,
}

impl<F> RecvProvided<F> {
    /// Receives from `fd` into one of `buffers`.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone(), flags: ProvidedFlags::default() }
    }

    /// Sets the flags of this receive.
    pub fn flags(self, flags: ProvidedFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing; the kernel writes to a buffer of the source, which the
// lease owns (OP3). It completes once.
unsafe impl<F: Target> Op for RecvProvided<F> {
    type Output = Outcome<Option<BufLease>, F>;
    const RESULT_KIND: ResultKind = ResultKind::Buffer;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        // The kernel reads the length as an `int`.
        let (len, group) = (self.buffers.buffer_size().min(MAX_TRANSFER), self.buffers.0.id());
        let (flags, order) = (self.flags.bits(), RecvSendFlags::empty());
        self.fd.aim(prep::recv_provided(-1, len, group, flags, order))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = done.provided(|done| done.lease(), |lease| lease.len());
        Outcome { result, fd: self.fd, buf: () }
    }
}
