//! Zero-copy sends of registered buffers, whose pages need not be pinned for each send.
//!
//! ```text
//!   submit(SendZcFixed) ─► item: number of bytes taken ─► … ─► the notification ─► Outcome
//!                                                                 the FixedBuf comes back
//! ```
//!
//! | operation | since | sends |
//! |---|---|---|
//! | [`SendZcFixed`] | Linux 6.0 | the filled bytes of one buffer |
//! | [`SendMsgZcFixed`] | Linux 6.15 | these bytes, to an address |
//!
//! Keeps OP1: the lease lies in the operation, so the buffer is not handed out again before the
//! second completion. Leaves to others: when a zero-copy send pays off (`zerocopy`), the pool
//! (`lease`).
#![allow(unsafe_code, reason = "writes entries that point to buffers")]

use std::fmt;
use std::io;
use std::net::SocketAddr;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::flags::SendFlags;
use super::zerocopy::Sent;
use crate::buf::IoBuf;
use crate::lease::FixedBuf;
use crate::op::messages::message::{Addressed, Bare, MsgHeader, MsgParts, SendMsg};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, Outcome, RingId};
use crate::prep;

/// Sends the filled bytes of a registered buffer without copying them, if possible. Since Linux
/// 6.0.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream before the first
/// one's item has arrived.
///
/// # Completion
///
/// As for [`SendZc`](crate::op::SendZc): an item with the number of bytes that the socket has
/// taken, and the end when the network no longer needs the buffer.
///
/// # Cancellation
///
/// As for [`SendZc`](crate::op::SendZc).
///
/// # Errors
///
/// `EOPNOTSUPP` for a socket without zero-copy support, such as a unix socket. `EINVAL` before
/// Linux 6.0.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendZcFixed;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let pool = ring.fixed_pool(2, 4096)?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let ours = TcpStream::connect(listener.local_addr()?)?;
/// let mut page = pool.get().expect("both are free");
/// page.set_len(4096);
/// let send = ring.submit(SendZcFixed::new(ours, page))?;
/// let sent = ring.wait(send)?;
/// match sent.result {
///     Ok(sent) => assert_eq!(sent.bytes, 4096),
///     Err(error) => println!("needs Linux 6.0: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_SEND_ZC", "IORING_RECVSEND_FIXED_BUF"))]
#[doc(alias = "io_uring_prep_send_zc_fixed")]
#[derive(Debug)]
pub struct SendZcFixed<F> {
    fd: F,
    buf: FixedBuf,
    offered: u32,
    flags: SendFlags,
    order: RecvSendFlags,
}

impl<F> SendZcFixed<F> {
    /// Sends through `fd`.
    pub fn new(fd: F, buf: FixedBuf) -> Self {
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

// SAFETY: OP1: the address is of `buf`, borrowed in place, and the descriptor is of `fd`; the
// buffer's index is of the ring that `belongs_to` compares. `COMPLETIONS` says that the
// notification comes after the result.
unsafe impl<F: Target> Op for SendZcFixed<F> {
    type Output = Outcome<Sent, F, FixedBuf>;
    const COMPLETIONS: Completions = Completions::WithNotification;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring) && self.buf.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        let region = self.buf.region();
        self.offered = region.transfer();
        let (addr, flags, index) = (region.addr(), self.flags.bits(), self.buf.index());
        self.fd.aim(prep::send_zc_fixed(-1, addr, self.offered, flags, self.order, index))
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = done.count(self.offered).map(|bytes| Sent::of(bytes, self.order, &done));
        Outcome { result, fd: self.fd, buf: self.buf }
    }
}

impl<F: Target> Multishot for SendZcFixed<F> {
    type Item = io::Result<usize>;

    fn item(completion: Completion) -> Self::Item {
        Ok(completion.result()? as usize)
    }
}

/// Sends the filled bytes of a registered buffer as a message, without copying them, if possible:
/// to an address. Since Linux 6.15; `EINVAL` before.
///
/// The pages are pinned already, which a send from other memory must do each time. The end is as
/// late as that of [`SendZc`](crate::op::SendZc).
///
/// # Completion
///
/// As for [`SendZc`](crate::op::SendZc).
///
/// # Cancellation
///
/// As for [`SendZc`](crate::op::SendZc).
///
/// # Errors
///
/// `EMSGSIZE` when a datagram is too long, and `EOPNOTSUPP` for a socket without zero-copy support.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendMsgZcFixed;
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let pool = ring.fixed_pool(1, 1024)?;
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let mut page = pool.get().expect("it is free");
/// page.set_len(1024);
/// let send = ring.submit(SendMsgZcFixed::new(ours, page).to(theirs.local_addr()?))?;
/// match ring.wait(send)?.result {
///     Ok(sent) => assert_eq!((sent.bytes, theirs.recv(&mut [0; 2048])?), (1024, 1024)),
///     Err(error) => println!("needs Linux 6.15: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_SENDMSG_ZC", "io_uring_prep_sendmsg_zc_fixed"))]
pub struct SendMsgZcFixed<F, C = Bare>(SendMsg<F, [FixedBuf; 1], C>);

impl<F> SendMsgZcFixed<F> {
    /// Sends through `fd`, to its peer.
    pub fn new(fd: F, buf: FixedBuf) -> Self {
        Self(SendMsg::new(fd, [buf]))
    }

    /// Sends to an internet address.
    pub fn to(self, address: impl Into<SocketAddr>) -> SendMsgZcFixed<F, Addressed> {
        SendMsgZcFixed(self.0.to(address))
    }

    /// Sends to the address of a message header, with the control messages that were added to it.
    /// The header comes back with the buffer: `([buf], header)`.
    pub fn with(self, header: Box<MsgHeader>) -> SendMsgZcFixed<F, Box<MsgHeader>> {
        SendMsgZcFixed(self.0.with(header))
    }
}

impl<F, C> SendMsgZcFixed<F, C> {
    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self(self.0.flags(flags))
    }

    /// Requests a report whether the bytes were [copied](Sent::copied) anyway.
    pub fn report(mut self) -> Self {
        self.0.order |= RecvSendFlags::ZC_REPORT_USAGE;
        self
    }
}

// SAFETY: OP1: the entry points to the parts of a `SendMsg`, which lies here; the buffer's index is
// of the ring that `belongs_to` compares. `COMPLETIONS` says that the notification comes after the
// result.
unsafe impl<F: Target, C: MsgParts> Op for SendMsgZcFixed<F, C> {
    type Output = Outcome<Sent, F, C::With<[FixedBuf; 1]>>;
    const COMPLETIONS: Completions = Completions::WithNotification;

    fn belongs_to(&self, ring: RingId) -> bool {
        let [buf] = &self.0.bufs;
        self.0.belongs_to(ring) && buf.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        let [buf] = &self.0.bufs;
        let index = buf.index();
        self.0.entry(|fd, message, flags, order| {
            prep::sendmsg_zc_fixed(fd, message, flags, order, index)
        })
    }

    fn finish(self, done: Done) -> Self::Output {
        let order = self.0.order;
        let Outcome { result, fd, buf } = self.0.outcome(&done);
        Outcome { result: result.map(|bytes| Sent::of(bytes, order, &done)), fd, buf }
    }
}

impl<F: Target, C: MsgParts> Multishot for SendMsgZcFixed<F, C> {
    type Item = io::Result<usize>;

    fn item(completion: Completion) -> Self::Item {
        Ok(completion.result()? as usize)
    }
}

impl<F: fmt::Debug, C: fmt::Debug> fmt::Debug for SendMsgZcFixed<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendMsgZcFixed").field(&self.0).finish()
    }
}
