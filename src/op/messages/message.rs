//! Messages: several buffers at once, with an address, and with descriptors.
//!
//! ```text
//!   SendMsg { fd, bufs, table, cover }          RecvMsg { fd, bufs, table, cover }
//!                │       ▲       │
//!                └─ iov ─┘       ├─ Bare        header
//!                                ├─ Addressed   header │ address of the internet
//!                                └─ Box<MsgHeader> ───► header │ any address │ control data
//! ```
//!
//! The header (`struct msghdr`) lies in the operation, next to the table of its buffers, so nothing
//! is allocated for a message. Other kinds of address, descriptors, and other control data do not
//! fit there. They lie in a [`MsgHeader`], which the caller passes in and gets back, for the next
//! message.
//!
//! | | without a [`MsgHeader`] | with one |
//! |---|---|---|
//! | send to | the peer, or [`to`](SendMsg::to) an internet address | any address |
//! | learn the sender | [`with_address`](RecvMsg::with_address), if it has an internet address | any address |
//! | descriptors | none: received ones are closed by the kernel | sent and received |
//! | other control messages | none | sent and received |
//!
//! A datagram that is longer than the buffers is cut; [`with_length`](RecvMsg::with_length) tells
//! how long it was.
//!
//! Keeps OP1; OP3 for descriptors that arrive with a message. Leaves to others: the parts of a
//! message (`parts`), the message header (`msghdr`), control data (`control`), zero-copy sends
//! (`zerocopy`).
#![allow(unsafe_code, reason = "writes entries that point to headers, records what was written")]

mod header;
mod msghdr;
mod parts;
mod received;

use std::fmt;
use std::net::SocketAddr;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::length::Length;
use crate::buf::address::Storage;
use crate::buf::{IoBufs, IoBufsMut, IoVec, is_one_transfer, is_one_transfer_mut, total};
use crate::op::sockets::flags::{RecvFlags, SendFlags};
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

pub use header::Header;
pub use msghdr::MsgHeader;
pub use parts::{Addressed, Bare, MsgParts};
pub use received::Received;

/// Sends several buffers as one message: `sendmsg(2)`. Since Linux 5.3.
///
/// Never have [two of them in flight](crate::op::sockets::stream#one-at-a-time) on one stream.
///
/// On a stream the borders of a message are lost: the peer receives bytes. Descriptors that are
/// attached to a [`MsgHeader`] leave with the first message that takes a byte, and control data
/// with the first that succeeds; its address stays for the next one.
///
/// # Completion
///
/// Once, with the number of bytes that the socket has taken: all of a datagram; of a stream perhaps
/// fewer, unless [`WAIT_ALL`](SendFlags::WAIT_ALL) is set. Descriptors travel with the first byte,
/// so on a stream a message without bytes takes none along.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. If a part was already sent, it completes with that
/// count.
///
/// # Errors
///
/// `EPIPE`, without a signal, when the peer has closed the connection. `EMSGSIZE` when a datagram
/// is too long, `EDESTADDRREQ` when there is neither an address nor a connection, `ECONNREFUSED`
/// when an earlier datagram found nobody, `EISCONN` for an address on a connected stream of a unix
/// socket. `EINVAL` for control data that the socket does not know, `ETOOMANYREFS` when too many
/// descriptors are under way.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{RecvMsg, SendMsg};
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let (from, to) = (ours.local_addr()?, theirs.local_addr()?);
/// let recv = ring.submit(RecvMsg::new(theirs, [Vec::with_capacity(64)]).with_address())?;
/// let send = ring.submit(SendMsg::new(ours, ("head ", "body")).to(to))?;
/// assert_eq!(ring.wait(send)?.result?, 9);
/// let outcome = ring.wait(recv)?;
/// let received = outcome.result?;
/// assert_eq!(received.from.and_then(|from| from.as_inet()), Some(from));
/// assert_eq!((received.bytes, outcome.buf), (9, [b"head body".to_vec()]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SENDMSG")]
#[doc(alias = "io_uring_prep_sendmsg")]
pub struct SendMsg<F, B: IoBufs, C = Bare> {
    pub(crate) fd: F,
    pub(crate) bufs: B,
    pub(crate) table: B::Table,
    pub(crate) cover: C,
    pub(crate) flags: SendFlags,
    pub(crate) order: RecvSendFlags,
}

impl<F, B: IoBufs> SendMsg<F, B> {
    /// Sends through `fd`, to its peer.
    pub fn new(fd: F, bufs: B) -> Self {
        let (flags, order) = (SendFlags::default(), RecvSendFlags::empty());
        Self { fd, bufs, table: B::EMPTY, cover: Bare::NEW, flags, order }
    }

    /// Sends to an internet address.
    pub fn to(self, address: impl Into<SocketAddr>) -> SendMsg<F, B, Addressed> {
        let address = Storage::inet(address.into());
        self.covered(Addressed::of(address))
    }

    /// Sends to the address of a message header, if it has one, with the descriptors that are
    /// attached to it and the control messages that were added to it. The header comes back with
    /// the buffers: `(bufs, header)`.
    pub fn with(self, header: Box<MsgHeader>) -> SendMsg<F, B, Box<MsgHeader>> {
        self.covered(header)
    }

    fn covered<C>(self, cover: C) -> SendMsg<F, B, C> {
        let Self { fd, bufs, table, flags, order, .. } = self;
        SendMsg { fd, bufs, table, cover, flags, order }
    }
}

impl<F, B: IoBufs, C> SendMsg<F, B, C> {
    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }
}

impl<F: Target, B: IoBufs, C: MsgParts> SendMsg<F, B, C> {
    /// The entry of a message, for either of the two opcodes that send one.
    #[inline]
    pub(crate) fn entry(&mut self, make: impl FnOnce(i32, u64, u32, RecvSendFlags) -> Sqe) -> Sqe {
        self.table = self.bufs.table();
        let header = self.cover.outgoing(self.table.as_ref());
        self.fd.aim(make(-1, header, self.flags.bits(), self.order))
    }

    /// The result, with everything that the operation was given.
    #[inline]
    pub(crate) fn outcome(self, done: &Done) -> Outcome<usize, F, C::With<B>> {
        let result = done.count(offered(self.table.as_ref()));
        let buf = self.cover.sent(self.bufs, &result);
        Outcome { result, fd: self.fd, buf }
    }
}

/// How many bytes a table offers to the kernel.
fn offered(table: &[IoVec]) -> u32 {
    u32::try_from(total(table)).expect("a table has at most MAX_TRANSFER bytes")
}

// SAFETY: OP1: the entry points to the header in `cover`, which lies here or in the box that is
// here; the header points to `table`, which lies here and was made from borrows of `bufs` in place,
// and to memory that `cover` owns. It completes once.
unsafe impl<F: Target, B: IoBufs, C: MsgParts> Op for SendMsg<F, B, C> {
    type Output = Outcome<usize, F, C::With<B>>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        is_one_transfer(&self.bufs)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        self.entry(prep::sendmsg)
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        self.outcome(&done)
    }
}

/// Receives one message into several buffers: `recvmsg(2)`. Since Linux 5.3.
///
/// Never have [two of them in flight](crate::op::sockets::stream#one-at-a-time) on one stream.
///
/// A datagram that is longer than the buffers is cut, and [`is_truncated`](Received::is_truncated)
/// says so. Without a [`MsgHeader`] the kernel closes descriptors that come with a message. Linux
/// 6.17 adds a control message to those of unix sockets that nobody asked for (`SCM_INQ`).
///
/// # Completion
///
/// Once, with the number of bytes and [the sender](Received::from); 0 bytes when the peer will send
/// no more, or sent an empty datagram.
///
/// # Cancellation
///
/// A receive that waits is cancelled, and no data is lost. It may complete as usual instead, if a
/// message has arrived in the meantime; if it was detached, the descriptors of that message are
/// closed.
///
/// # Errors
///
/// Those of `recvmsg(2)`: `ECONNRESET`, `ENOTCONN`, `ENOTSOCK`; `EAGAIN` with
/// [`DONT_WAIT`](RecvFlags::DONT_WAIT) when no message is there.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::RecvMsg;
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// theirs.send_to(b"hello", ours.local_addr()?)?;
/// let (head, body) = (vec![0; 2], vec![0; 62]);
/// let recv = ring.submit(RecvMsg::new(ours, (head, body)).with_address())?;
/// let (received, (head, body)) = ring.wait(recv)?.ok()?;
/// assert_eq!((received.bytes, &head[..], &body[..3]), (5, &b"he"[..], &b"llo"[..]));
/// let from = received.from.and_then(|from| from.as_inet());
/// assert_eq!(from, Some(theirs.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_RECVMSG")]
#[doc(alias = "io_uring_prep_recvmsg")]
#[doc(alias = "recvfrom")]
pub struct RecvMsg<F, B: IoBufsMut, C = Bare> {
    fd: F,
    bufs: B,
    table: B::Table,
    cover: C,
    flags: RecvFlags,
    length: Length,
}

impl<F, B: IoBufsMut> RecvMsg<F, B> {
    /// Receives from `fd`.
    pub fn new(fd: F, bufs: B) -> Self {
        let (cover, flags) = (Bare::NEW, RecvFlags::default());
        Self { fd, bufs, table: B::EMPTY, cover, flags, length: Length::Unasked }
    }

    /// Also returns the sender's address, if that is an internet address.
    pub fn with_address(self) -> RecvMsg<F, B, Addressed> {
        self.covered(Addressed::of(Storage::EMPTY))
    }

    /// Also receives everything else that a message can carry: any address, and descriptors. The
    /// message header comes back with the buffers, addressed to the sender: `(bufs, header)`.
    /// With a header, a receive may complete with a part even if [`WAIT_ALL`](RecvFlags::WAIT_ALL)
    /// is set.
    pub fn with(self, header: Box<MsgHeader>) -> RecvMsg<F, B, Box<MsgHeader>> {
        self.covered(header)
    }

    fn covered<C>(self, cover: C) -> RecvMsg<F, B, C> {
        let Self { fd, bufs, table, flags, length, .. } = self;
        RecvMsg { fd, bufs, table, cover, flags, length }
    }
}

impl<F, B: IoBufsMut, C> RecvMsg<F, B, C> {
    /// Sets the flags of this receive.
    pub fn flags(self, flags: RecvFlags) -> Self {
        Self { flags, ..self }
    }

    /// Also asks for the [length](Received::length) of the whole datagram, if it is longer than the
    /// buffers (`MSG_TRUNC`). For datagrams of the internet, of raw, unix, netlink and packet
    /// sockets, and unix `SOCK_SEQPACKET`.
    ///
    /// Together with [`PEEK`](RecvFlags::PEEK), the length is known before the datagram is
    /// received, and the buffers are filled with zeroes first: if the socket peeks from an offset
    /// (`SO_PEEK_OFF`), the count is that of the whole datagram, and zeroes follow its bytes.
    ///
    /// The operation is [rejected](crate::Rejection::Invalid) for other files, such as a TCP
    /// connection, which would throw the bytes away; for a registered file, since nothing tells
    /// what it is; and together with [`WAIT_ALL`](RecvFlags::WAIT_ALL). Some datagram
    /// sockets of the internet do not tell (ICMP, L2TP): there the length is `None`.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::RecvMsg;
    /// use std::net::UdpSocket;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.send_to(b"more than four", socket.local_addr()?)?;
    /// let recv = ring.submit(RecvMsg::new(socket, [[0; 4]]).with_length())?;
    /// let received = ring.wait(recv)?.result?;
    /// assert_eq!((received.bytes, received.length()), (4, Some(14)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "MSG_TRUNC")]
    pub fn with_length(self) -> Self {
        Self { length: Length::Asked, ..self }
    }
}

// SAFETY: OP1: the entry points to the header in `cover`, which lies here or in the box that is
// here; the header points to `table`, which lies here and was made from borrows of `bufs` in place,
// and to memory that `cover` owns. It completes once, and `count` bounds how many bytes count as
// written; where the result may count bytes that were not written, `length` does not ask for it, or
// has filled the buffers. OP3: `cover` takes the descriptors that arrive with the message when it
// is finished, wanted or not.
unsafe impl<F: Target, B: IoBufsMut, C: MsgParts> Op for RecvMsg<F, B, C> {
    type Output = Outcome<Received, F, C::With<B>>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn is_offered_whole(&mut self) -> bool {
        is_one_transfer_mut(&mut self.bufs)
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.length.refusal(&self.fd, self.flags.bits())
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        self.table = self.bufs.table_mut();
        // SAFETY: the table was just made of exclusive borrows of `bufs`, in place, and the kernel
        // has not got it yet (OP1).
        unsafe { self.length.clear(self.table.as_ref()) };
        let header = self.cover.incoming(self.table.as_ref());
        // Without this flag the descriptors would stay open in programs that the process executes.
        let flags = self.flags.bits() | libc::MSG_CMSG_CLOEXEC.cast_unsigned();
        self.length.asked_in(self.fd.aim(prep::recvmsg(-1, header, flags, RecvSendFlags::empty())))
    }

    #[inline]
    fn finish(mut self, done: Done) -> Self::Output {
        self.cover.arrived();
        let result = done.count(offered(self.table.as_ref()));
        if let Ok(count) = result {
            // SAFETY: the kernel has written `count` bytes of the regions, one after the other
            // (OP1), and this is the table that it was given.
            unsafe { self.bufs.set_filled(&self.table, count as u64) };
        }
        let (buf, result) = self.cover.received(self.bufs, result);
        let told = u32::try_from(done.raw()).unwrap_or(0);
        Outcome { result: result.map(|it| it.with_length(told)), fd: self.fd, buf }
    }
}

/// Without the table, which has no meaning before the operation is at its final place.
impl<F: fmt::Debug, B: IoBufs + fmt::Debug, C: fmt::Debug> fmt::Debug for SendMsg<F, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fd, bufs, cover, .. } = self;
        let mut fields = f.debug_struct("SendMsg");
        fields.field("fd", fd).field("bufs", bufs).field("cover", cover).finish_non_exhaustive()
    }
}

/// Without the table, which has no meaning before the operation is at its final place.
impl<F: fmt::Debug, B: IoBufsMut + fmt::Debug, C: fmt::Debug> fmt::Debug for RecvMsg<F, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fd, bufs, cover, .. } = self;
        let mut fields = f.debug_struct("RecvMsg");
        fields.field("fd", fd).field("bufs", bufs).field("cover", cover).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::rc::Rc;

    use super::*;
    use crate::buf::address::Address;
    use crate::lease::{Datagram, FixedBuf};
    use crate::op::{AcceptFrom, PAYLOAD, SendTo};

    #[test]
    fn messages_with_addresses_fit_into_a_slot() {
        type Two = (Vec<u8>, Vec<u8>);
        type Socket = Rc<OwnedFd>;
        let sizes = [
            size_of::<SendMsg<Socket, Two>>(),
            size_of::<SendMsg<Socket, Two, Addressed>>(),
            size_of::<SendMsg<Socket, (Vec<u8>, Vec<u8>, Rc<[u8]>), Box<MsgHeader>>>(),
            size_of::<RecvMsg<Socket, [Vec<u8>; 1], Addressed>>(),
            size_of::<RecvMsg<Socket, Two, Box<MsgHeader>>>(),
            size_of::<SendTo<Socket, Vec<u8>, Address>>(),
            size_of::<SendTo<Socket, Datagram, Address>>(),
            size_of::<SendTo<Socket, FixedBuf, Address>>(),
            size_of::<AcceptFrom<Socket>>(),
        ];
        assert!(sizes.iter().all(|&size| size <= PAYLOAD), "{sizes:?}");
    }
}
