//! Sending without a copy: the bytes stay the kernel's until the network is done with them.
//!
//! ```text
//!   submit(SendZc) ─► shot: how many bytes were taken ─► … ─► the notification ─► Outcome
//!                     (the next send may go)                  the buffer comes back
//! ```
//!
//! | | since | of |
//! |---|---|---|
//! | [`SendZc`] | Linux 6.0 | one buffer |
//! | [`SendMsgZc`] | Linux 6.1 | several, and an address |
//!
//! It pays for large buffers only, and where the path can do it: a few KiB are copied faster than
//! their pages are pinned, and what stays on this machine is copied anyway. Have several in flight
//! on different sockets, and never wait for a notification before the next send: it comes when the
//! peer has acknowledged the bytes. On one stream the [shots](Multishot) say when the next may go.
//!
//! Keeps OP1: the buffer is given back when the second completion has come. Leaves to others: plain
//! sends (`stream`), messages (`message`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::fmt;
use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{NOTIF_USAGE_ZC_COPIED, RecvSendFlags};

use super::message::{Bare, Cover, Envelope, SendMsg};
use super::stream::SendFlags;
use super::target::Target;
use super::{Done, Multishot, Op, Outcome, RingId, Shot, Shots};
use crate::buf::{IoBuf, IoBufs};
use crate::prep;

/// What became of a send without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// How many bytes the socket has taken.
    pub bytes: usize,
    /// Whether some of them were copied after all; `None` unless asked for.
    pub copied: Option<bool>,
}

impl Sent {
    pub(super) fn of(bytes: usize, order: RecvSendFlags, done: &Done) -> Self {
        let asked = order.contains(RecvSendFlags::ZC_REPORT_USAGE);
        let told = |notified: i32| notified.cast_unsigned() & NOTIF_USAGE_ZC_COPIED != 0;
        Self { bytes, copied: done.notified().filter(|_| asked).map(told) }
    }
}

/// Sends what is in a buffer without copying it, if it can. Since Linux 6.0.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream before the first
/// one's shot has come.
///
/// # Completion
///
/// First as a shot, with how many bytes the socket has taken, or the error; then, when the network
/// has done with the buffer, at the end, with [`Sent`] and the buffer. An error may come without a
/// shot.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. Once it was taken, the notification cannot be hurried:
/// the buffer comes back when the peer has acknowledged the bytes, or the connection is reset.
///
/// # Errors
///
/// `EOPNOTSUPP` for a socket that cannot, such as a unix socket. `EPIPE` when the peer has closed
/// the connection, without a signal.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendZc;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let ours = TcpStream::connect(listener.local_addr()?)?;
/// let (_theirs, _) = listener.accept()?;
/// let send = ring.submit(SendZc::new(ours, vec![7; 10_000]))?;
/// if let Some(taken) = ring.next(&send)? { // Linux 6.0
///     println!("{} bytes are on their way, and still the kernel's", taken?);
/// }
/// let outcome = ring.wait(send)?;
/// assert_eq!(outcome.buf, [7; 10_000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SEND_ZC")]
#[doc(alias = "io_uring_prep_send_zc")]
#[doc(alias = "MSG_ZEROCOPY")]
#[derive(Debug)]
pub struct SendZc<F, B> {
    fd: F,
    buf: B,
    offered: u32,
    flags: SendFlags,
    order: RecvSendFlags,
}

impl<F, B> SendZc<F, B> {
    /// Sends through `fd`.
    pub fn new(fd: F, buf: B) -> Self {
        let (flags, order) = (SendFlags::default(), RecvSendFlags::empty());
        Self { fd, buf, offered: 0, flags, order }
    }

    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }

    /// Asks whether the bytes were [copied](Sent::copied) after all. Since Linux 6.2; `EINVAL`
    /// before.
    #[doc(alias = "IORING_SEND_ZC_REPORT_USAGE")]
    pub fn report(self) -> Self {
        Self { order: self.order | RecvSendFlags::ZC_REPORT_USAGE, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor of `fd`. `SHOTS` says
// that the notification comes after the result.
unsafe impl<F: Target, B: IoBuf> Op for SendZc<F, B> {
    type Output = Outcome<Sent, F, B>;
    const SHOTS: Shots = Shots::Notified;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let region = self.buf.region();
        self.offered = region.transfer();
        let sqe = prep::send_zc(-1, region.addr(), self.offered, self.flags.bits(), self.order);
        self.fd.aim(sqe)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        let result = done.count(self.offered).map(|bytes| Sent::of(bytes, self.order, &done));
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

impl<F: Target, B: IoBuf> Multishot for SendZc<F, B> {
    type Item = io::Result<usize>;

    fn item(shot: Shot) -> Self::Item {
        Ok(shot.result()? as usize)
    }
}

/// Sends several buffers as one message without copying them, if it can. Since Linux 6.1.
///
/// # Completion
///
/// As for [`SendZc`].
///
/// # Cancellation
///
/// As for [`SendZc`].
///
/// # Errors
///
/// As for [`SendZc`].
#[doc(alias = "IORING_OP_SENDMSG_ZC")]
#[doc(alias = "io_uring_prep_sendmsg_zc")]
pub struct SendMsgZc<F, B: IoBufs, C = Bare>(SendMsg<F, B, C>);

impl<F, B: IoBufs> SendMsgZc<F, B> {
    /// Sends through `fd`, to its peer.
    pub fn new(fd: F, bufs: B) -> Self {
        Self(SendMsg::new(fd, bufs))
    }

    /// Sends to the address of an envelope, which comes back beside the buffers: `(bufs,
    /// envelope)`.
    pub fn with(self, envelope: Box<Envelope>) -> SendMsgZc<F, B, Box<Envelope>> {
        SendMsgZc(self.0.with(envelope))
    }
}

impl<F, B: IoBufs, C> SendMsgZc<F, B, C> {
    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self(self.0.flags(flags))
    }

    /// Asks whether the bytes were [copied](Sent::copied) after all. Since Linux 6.2; `EINVAL`
    /// before.
    pub fn report(mut self) -> Self {
        self.0.order |= RecvSendFlags::ZC_REPORT_USAGE;
        self
    }
}

// SAFETY: OP1: it points to what a `SendMsg` points to, which lies here. `SHOTS` says that the
// notification comes after the result.
unsafe impl<F: Target, B: IoBufs, C: Cover> Op for SendMsgZc<F, B, C> {
    type Output = Outcome<Sent, F, C::With<B>>;
    const SHOTS: Shots = Shots::Notified;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        self.0.entry(prep::sendmsg_zc)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        let order = self.0.order;
        let Outcome { result, fd, buf } = self.0.outcome(&done);
        Outcome { result: result.map(|bytes| Sent::of(bytes, order, &done)), fd, buf }
    }
}

impl<F: Target, B: IoBufs, C: Cover> Multishot for SendMsgZc<F, B, C> {
    type Item = io::Result<usize>;

    fn item(shot: Shot) -> Self::Item {
        Ok(shot.result()? as usize)
    }
}

impl<F: fmt::Debug, B: IoBufs + fmt::Debug, C: fmt::Debug> fmt::Debug for SendMsgZc<F, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendMsgZc").field(&self.0).finish()
    }
}
