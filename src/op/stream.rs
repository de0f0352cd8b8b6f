//! Bytes through a socket: one buffer, out or in.
//!
//! | to | use | since |
//! |---|---|---|
//! | send what is in a buffer | [`Send`] | Linux 5.6 |
//! | … to an address | [`SendTo`] | Linux 6.0; before, [`SendMsg`](super::SendMsg) |
//! | receive into a buffer | [`Recv`] | Linux 5.6 |
//! | … into one that the kernel picks when data comes | [`RecvPicked`] | Linux 5.19 |
//! | … again and again | [`RecvMulti`](super::RecvMulti) | Linux 6.0 |
//! | send or receive several buffers, or descriptors | [`SendMsg`](super::SendMsg), [`RecvMsg`](super::RecvMsg) | Linux 5.3 |
//!
//! Leave sockets blocking. An operation that finds nothing to do waits in the kernel, without a
//! thread; there is no need to poll before. (`O_NONBLOCK` made such operations fail with `EAGAIN`
//! on some kernels, and makes no difference on others.)
//!
//! # One at a time
//!
//! Operations in flight have no order, so never have two sends, or two receives, in flight on one
//! stream: their bytes may be swapped, and when the first one is short, what follows it is out of
//! place. Wait for the first, send more in one operation, or make a chain. A send and a receive
//! beside each other are fine; and datagrams stay whole, whatever their order.
//!
//! # Closing
//!
//! Closing a descriptor ends nothing that is in flight: the operation owns the socket, and the
//! kernel refers to it too, so a receive completes with data after that, and a listener goes on
//! accepting. To end an operation, [cancel](crate::Ring::cancel) it, or [shut the socket
//! down](super::Shutdown), which lets every receive complete with 0; then wait for it as before.
//! A cancel may come too late, and then the operation completes as usual: only its own output says
//! which.
//!
//! Keeps OP1. Leaves to others: several buffers, addresses that come in (`message`), completions
//! without end (`multi`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::ops::BitOr;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::addr::Destination;
use super::target::Target;
use super::{Brings, Done, Op, Outcome, RingId};
use crate::buf::{IoBuf, IoBufMut, MAX_TRANSFER};
use crate::lease::{BufLease, BufRing, Source};
use crate::prep;

/// How to send: any of these, joined by `|`.
///
/// A closed connection is always an error (`EPIPE`), and never a signal: `MSG_NOSIGNAL` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendFlags(u32);

impl SendFlags {
    /// More follows soon: wait for it before a packet is made (`MSG_MORE`).
    pub const MORE: Self = Self(libc::MSG_MORE.cast_unsigned());
    /// Complete when everything is sent, or on an error: no short sends (`MSG_WAITALL`). Since
    /// Linux 5.19; without effect before. A part that was sent before the error is told, if the
    /// kernel knows of it: see [`RecvFlags::WAIT_ALL`].
    pub const WAIT_ALL: Self = Self(libc::MSG_WAITALL.cast_unsigned());
    /// Fail with `EAGAIN` rather than wait for room (`MSG_DONTWAIT`).
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT.cast_unsigned());
    /// The last byte is urgent (`MSG_OOB`).
    pub const OUT_OF_BAND: Self = Self(libc::MSG_OOB.cast_unsigned());
    /// To hosts on the same network only (`MSG_DONTROUTE`).
    pub const DONT_ROUTE: Self = Self(libc::MSG_DONTROUTE.cast_unsigned());
    /// The peer is known to be there: it has answered (`MSG_CONFIRM`).
    pub const CONFIRM: Self = Self(libc::MSG_CONFIRM.cast_unsigned());
    /// Ends a record, where a socket has such a thing (`MSG_EOR`).
    pub const END_OF_RECORD: Self = Self(libc::MSG_EOR.cast_unsigned());

    /// As the kernel is told.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0 | libc::MSG_NOSIGNAL.cast_unsigned()
    }
}

impl BitOr for SendFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How to receive: any of these, joined by `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecvFlags(u32);

impl RecvFlags {
    /// Leave the data where it is, for the next one (`MSG_PEEK`).
    pub const PEEK: Self = Self(libc::MSG_PEEK.cast_unsigned());
    /// Complete when the buffer is full, or at the end, or on an error (`MSG_WAITALL`). Since Linux
    /// 5.18; before, it may complete with less.
    ///
    /// When it fails or is cancelled with a part of the bytes there, it completes with that part.
    /// Not so on Debian's Linux 5.10: what was received is lost there, and an operation that is
    /// [forced](super::Op::forced) fails so, with `EAGAIN`, where one that was not would wait.
    pub const WAIT_ALL: Self = Self(libc::MSG_WAITALL.cast_unsigned());
    /// Fail with `EAGAIN` rather than wait for data (`MSG_DONTWAIT`).
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT.cast_unsigned());
    /// The urgent byte (`MSG_OOB`).
    pub const OUT_OF_BAND: Self = Self(libc::MSG_OOB.cast_unsigned());

    /// As the kernel is told.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for RecvFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How to receive into buffers that the kernel picks: any of these, joined by `|`.
///
/// Neither `MSG_WAITALL` nor `MSG_PEEK` is among them. A receive that has picked a buffer and waits
/// for more bytes would have it counted, and so offered, twice (seen up to Linux 7.3); one that
/// leaves the data in the socket brings it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PickedFlags(u32);

impl PickedFlags {
    /// Fail with `EAGAIN` rather than wait for data (`MSG_DONTWAIT`).
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT.cast_unsigned());
    /// The urgent byte (`MSG_OOB`).
    pub const OUT_OF_BAND: Self = Self(libc::MSG_OOB.cast_unsigned());

    /// As the kernel is told.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for PickedFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Sends what is in a buffer, through a socket that is connected. Since Linux 5.6.
///
/// Never have [two of them in flight](self#one-at-a-time) on one stream.
///
/// # Completion
///
/// Once, with how many bytes the socket has taken: fewer than there are when it was nearly full,
/// unless told to [wait for all](SendFlags::WAIT_ALL). That says nothing of the peer.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. If a part was sent already, it completes with that.
///
/// # Errors
///
/// `EPIPE` when the peer has closed the connection, without a signal.
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

    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }

    /// Waits for room first, and does not try at once: for a socket that is known to be full.
    /// Since Linux 5.19.
    pub fn poll_first(self) -> Self {
        Self { order: RecvSendFlags::POLL_FIRST, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`. It completes
// once.
unsafe impl<F: Target, B: IoBuf> Op for Send<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
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

/// Sends what is in a buffer to an address, as a datagram. Since Linux 6.0; before, an address is
/// refused with `EINVAL`, or not seen, so that a connected socket would send to its peer: use
/// [`SendMsg`](super::SendMsg) there.
///
/// # Completion
///
/// Once, with how many bytes the datagram has: all, or it is an error.
///
/// # Cancellation
///
/// A send that waits for room is cancelled, and nothing was sent.
///
/// # Errors
///
/// `EMSGSIZE` when the datagram is too long. `EISCONN`, or an address that is ignored, on a socket
/// that is connected.
#[doc(alias = "IORING_OP_SEND")]
#[doc(alias = "io_uring_prep_sendto")]
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

    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { send: self.send.flags(flags), ..self }
    }
}

// SAFETY: OP1: the address of the bytes as `Send` takes it, and that of the peer's of `to`, which
// lies here. It completes once.
unsafe impl<F: Target, B: IoBuf, D: Destination> Op for SendTo<F, B, D> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.send.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let to = self.to.as_ref();
        let len = u16::try_from(to.len()).expect("an address has at most 128 bytes");
        let to = to.as_ptr().expose_provenance() as u64;
        prep::send_to(self.send.prep(), to, len)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        self.send.finish(done)
    }
}

/// Receives into a buffer. Since Linux 5.6.
///
/// Never have [two of them in flight](self#one-at-a-time) on one stream. Of a datagram that is
/// longer than the buffer, the rest is lost; [`RecvMsg`](super::RecvMsg) tells.
///
/// # Completion
///
/// Once, with how many bytes came, as soon as there are any; 0 when the peer will send no more (and
/// when the buffer has no room).
///
/// # Cancellation
///
/// A receive that waits for data is cancelled, and no data is lost. It may complete as usual
/// instead, when data has come in between.
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

    /// Receives as `flags` say.
    pub fn flags(self, flags: RecvFlags) -> Self {
        Self { flags, ..self }
    }

    /// Waits for data first, and does not try at once: for a socket that is known to be empty.
    /// Since Linux 5.19.
    pub fn poll_first(self) -> Self {
        Self { order: RecvSendFlags::POLL_FIRST, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`. It completes
// once, and `count` bounds what counts as written.
unsafe impl<F: Target, B: IoBufMut> Op for Recv<F, B> {
    type Output = Outcome<usize, F, B>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
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
            // SAFETY: the kernel has written so many bytes of the region (OP1).
            unsafe { self.buf.set_filled(count) };
        }
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

/// Receives into a buffer that the kernel picks from a [`BufRing`], when there is data. Since Linux
/// 5.19.
///
/// So a connection that is idle holds no buffer.
///
/// # Completion
///
/// Once, with the buffer and what came; with `None` when the peer will send no more (a datagram
/// without bytes looks like that too). Of a datagram that is longer than the buffer the rest is
/// lost, and of buffers [used in parts](crate::register::Used::InParts) only what is left of one
/// counts: [`RecvMsgMulti`](super::RecvMsgMulti) tells.
///
/// # Cancellation
///
/// A receive that waits for data is cancelled, and no data is lost; no buffer was picked.
///
/// # Errors
///
/// `ENOBUFS` when every buffer is in a lease, also before there is data. That waits: drop a lease,
/// and submit it anew.
#[doc(alias = "IORING_OP_RECV")]
#[doc(alias = "IOSQE_BUFFER_SELECT")]
#[derive(Debug)]
pub struct RecvPicked<F> {
    fd: F,
    buffers: BufRing,
    flags: PickedFlags,
}

impl<F> RecvPicked<F> {
    /// Receives from `fd` into one of `buffers`.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone(), flags: PickedFlags::default() }
    }

    /// Receives as `flags` say.
    pub fn flags(self, flags: PickedFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: it points to nothing; the kernel writes to a buffer of the source, which the lease
// owns (OP3). It completes once.
unsafe impl<F: Target> Op for RecvPicked<F> {
    type Output = Outcome<Option<BufLease>, F>;
    const BRINGS: Brings = Brings::Buffer;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        // The kernel takes it for an `int`.
        let len = self.buffers.buffer_size().min(MAX_TRANSFER);
        let group = self.buffers.0.id();
        let (flags, order) = (self.flags.bits(), RecvSendFlags::empty());
        self.fd.aim(prep::recv_picked(-1, len, group, flags, order))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = done.picked(|done| done.lease(), |lease| lease.len());
        Outcome { result, fd: self.fd, buf: () }
    }
}
