//! Zero-copy sends: the kernel owns the bytes until the network no longer needs them.
//!
//! ```text
//!   submit(SendZc) ─► item: number of bytes taken ─► … ─► the notification ─► Outcome
//!                     (the next send may start)           the buffer comes back
//! ```
//!
//! | operation | since | sends |
//! |---|---|---|
//! | [`SendZc`] | Linux 6.0 | one buffer |
//! | [`SendMsgZc`] | Linux 6.1 | several buffers, also to an address |
//!
//! It pays off only for large buffers, and where the network path supports it: copying a few KiB is
//! faster than pinning their pages, and data that stays on this machine is copied anyway. Have
//! several sends in flight on different sockets, and never wait for a notification before the next
//! send: it arrives only when the peer has acknowledged the bytes. On one stream the
//! [items](Multishot) say when the next send may start.
//!
//! Keeps OP1: the buffer is returned when the second completion has arrived. Leaves to others:
//! plain sends (`stream`), messages (`message`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::fmt;
use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{NOTIF_USAGE_ZC_COPIED, RecvSendFlags};

use super::flags::SendFlags;
use crate::buf::{IoBuf, IoBufs};
use crate::op::messages::message::{Bare, MsgHeader, MsgParts, SendMsg};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, Outcome, RingId};
use crate::prep;

/// The result of a zero-copy send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// How many bytes the socket has taken.
    pub bytes: usize,
    /// Whether some of the bytes were copied anyway; `None` unless a report was requested.
    pub copied: Option<bool>,
}

impl Sent {
    pub(in crate::op) fn of(bytes: usize, order: RecvSendFlags, done: &Done) -> Self {
        let asked = order.contains(RecvSendFlags::ZC_REPORT_USAGE);
        let told = |notified: i32| notified.cast_unsigned() & NOTIF_USAGE_ZC_COPIED != 0;
        Self { bytes, copied: done.notified().filter(|_| asked).map(told) }
    }
}

/// Sends a buffer without copying it, if possible. Since Linux 6.0.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream before the first
/// one's item has arrived.
///
/// The end comes late. It waits for the acknowledgement of the peer, which the peer may put off:
/// with a small buffer and an idle connection, also on loopback where the bytes are copied anyway,
/// 30 to 40 ms were seen. So a program that waits for each end may send some thirty times a second.
/// Have more buffers than are on their way, or use [`Send`](crate::op::Send) for what is small.
///
/// The bytes must not change before the end, or the peer may get the new ones; here the operation
/// owns them, so they cannot.
///
/// # Completion
///
/// First an item, with the number of bytes that the socket has taken, or the error. Then the end,
/// when the network no longer needs the buffer, with [`Sent`] and the buffer. An error may arrive
/// without an item.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. Once the socket has taken the bytes, the notification
/// cannot be hurried: the buffer comes back when the peer has acknowledged the bytes, or the
/// connection is reset.
///
/// # Errors
///
/// `EOPNOTSUPP` for a socket without zero-copy support, such as a unix socket. `EPIPE`, without a
/// signal, when the peer has closed the connection. `EINVAL` before Linux 6.0.
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

    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }

    /// Requests a report whether the bytes were [copied](Sent::copied) anyway. Since Linux 6.2;
    /// `EINVAL` before.
    #[doc(alias = "IORING_SEND_ZC_REPORT_USAGE")]
    pub fn report(self) -> Self {
        Self { order: self.order | RecvSendFlags::ZC_REPORT_USAGE, ..self }
    }
}

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`.
// `COMPLETIONS` says that the notification comes after the result.
unsafe impl<F: Target, B: IoBuf> Op for SendZc<F, B> {
    type Output = Outcome<Sent, F, B>;
    const COMPLETIONS: Completions = Completions::WithNotification;

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

    fn item(completion: Completion) -> Self::Item {
        Ok(completion.result()? as usize)
    }
}

/// Sends several buffers as one message without copying them, if possible. Since Linux 6.1.
///
/// All buffers come back together, at an end that is as late as that of [`SendZc`].
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
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendMsgZc;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let ours = TcpStream::connect(listener.local_addr()?)?;
/// let (_theirs, _) = listener.accept()?;
/// let send = ring.submit(SendMsgZc::new(ours, (vec![1; 4000], vec![2; 6000])))?;
/// let sent = ring.wait(send)?; // When both vectors are ours again.
/// match sent.result {
///     Ok(sent) => assert_eq!(sent.bytes, 10_000),
///     Err(error) => println!("needs Linux 6.1: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SENDMSG_ZC")]
#[doc(alias = "io_uring_prep_sendmsg_zc")]
pub struct SendMsgZc<F, B: IoBufs, C = Bare>(SendMsg<F, B, C>);

impl<F, B: IoBufs> SendMsgZc<F, B> {
    /// Sends through `fd`, to its peer.
    pub fn new(fd: F, bufs: B) -> Self {
        Self(SendMsg::new(fd, bufs))
    }

    /// Sends to the address of a message header, with the control messages that were added to it.
    /// The header comes back with the buffers: `(bufs, header)`.
    pub fn with(self, header: Box<MsgHeader>) -> SendMsgZc<F, B, Box<MsgHeader>> {
        SendMsgZc(self.0.with(header))
    }
}

impl<F, B: IoBufs, C> SendMsgZc<F, B, C> {
    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self(self.0.flags(flags))
    }

    /// Requests a report whether the bytes were [copied](Sent::copied) anyway. Since Linux 6.2;
    /// `EINVAL` before.
    pub fn report(mut self) -> Self {
        self.0.order |= RecvSendFlags::ZC_REPORT_USAGE;
        self
    }
}

// SAFETY: OP1: the entry points to the parts of a `SendMsg`, which lies here. `COMPLETIONS` says
// that the notification comes after the result.
unsafe impl<F: Target, B: IoBufs, C: MsgParts> Op for SendMsgZc<F, B, C> {
    type Output = Outcome<Sent, F, C::With<B>>;
    const COMPLETIONS: Completions = Completions::WithNotification;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        self.0.is_offered_whole()
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

impl<F: Target, B: IoBufs, C: MsgParts> Multishot for SendMsgZc<F, B, C> {
    type Item = io::Result<usize>;

    fn item(completion: Completion) -> Self::Item {
        Ok(completion.result()? as usize)
    }
}

impl<F: fmt::Debug, B: IoBufs + fmt::Debug, C: fmt::Debug> fmt::Debug for SendMsgZc<F, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendMsgZc").field(&self.0).finish()
    }
}
