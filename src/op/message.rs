//! Messages: several buffers at once, with an address, and with descriptors.
//!
//! ```text
//!   SendMsg { fd, bufs, table, cover }          RecvMsg { fd, bufs, table, cover }
//!                │       ▲       │
//!                └─ iov ─┘       ├─ Bare        header
//!                                ├─ Addressed   header │ address of the internet
//!                                └─ Box<Envelope> ───► header │ any address │ descriptors
//! ```
//!
//! The header (`struct msghdr`) lies in the operation, beside the table of its buffers, so nothing
//! is allocated for a message. What does not fit there, any address and descriptors, lies in an
//! [`Envelope`], which the caller hands in and gets back, for the next message.
//!
//! | | without an envelope | with one |
//! |---|---|---|
//! | send to | the peer, or [`to`](SendMsg::to) an address of the internet | any address |
//! | learn the sender | [`with_address`](RecvMsg::with_address), of the internet | any address |
//! | descriptors | none: what comes is closed by the kernel | sent and received |
//!
//! Keeps OP1; OP3 for descriptors that come with a message. Leaves to others: what is in an
//! envelope (`envelope`), what control data is (`control`), sending without a copy (`zerocopy`).
#![allow(unsafe_code, reason = "writes entries that point to headers, and says what was written")]

pub(crate) mod control;
mod envelope;
mod header;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::addr::{Address, MOST_INET, Storage};
use super::stream::{RecvFlags, SendFlags};
use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::buf::{IoBufs, IoBufsMut, IoVec, total};
use crate::prep;

pub use control::Control;
pub use envelope::Envelope;
pub use header::Header;

mod sealed {
    /// Only what is in this module covers a message.
    pub trait Sealed {}
}

/// What goes with the bytes of a message: [`Bare`], [`Addressed`], or an [`Envelope`] in its box.
pub trait Cover: sealed::Sealed {
    /// What comes back beside the buffers: they alone, or they and the envelope.
    type With<B>;

    /// Writes the header of a message that goes out, in place, and returns where it lies.
    #[doc(hidden)]
    fn outgoing(&mut self, table: &[IoVec]) -> u64;

    /// Writes the header of a message that comes in, in place, and returns where it lies.
    #[doc(hidden)]
    fn incoming(&mut self, table: &[IoVec]) -> u64;

    /// A message came in: takes what must not be lost, before any code of the caller's runs.
    #[doc(hidden)]
    fn arrived(&mut self) {}

    /// The kernel is done with a message that went out.
    #[doc(hidden)]
    fn sent<B>(self, bufs: B, result: &io::Result<usize>) -> Self::With<B>;

    /// The kernel is done with a message that came in, of so many bytes; or failed.
    #[doc(hidden)]
    fn received<B>(
        self,
        bufs: B,
        result: io::Result<usize>,
    ) -> (Self::With<B>, io::Result<Received>);
}

/// A message without anything beside its bytes.
#[derive(Debug)]
pub struct Bare(Header);

/// A message with an address of the internet.
#[derive(Debug)]
pub struct Addressed {
    header: Header,
    address: Storage<MOST_INET>,
}

/// What came with a message.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// How many bytes.
    pub bytes: usize,
    /// Who sent it; `None` when the message came through a connection, when the sender has no
    /// address, when there was no place for such an address, and when it [may name a
    /// descriptor](Address::from_bytes).
    pub from: Option<Address>,
    flags: u32,
}

impl Received {
    fn of(bytes: usize, from: Option<Address>, header: &Header) -> Self {
        Self { bytes, from, flags: header.flags }
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }

    /// Whether the datagram was longer than the buffers, so that its rest is lost (`MSG_TRUNC`).
    pub fn is_truncated(&self) -> bool {
        self.has(libc::MSG_TRUNC)
    }

    /// Whether more came beside the bytes than there was a place for, such as descriptors without
    /// an envelope, or beyond what the process may have open (`MSG_CTRUNC`). The kernel has dropped
    /// it.
    pub fn is_control_truncated(&self) -> bool {
        self.has(libc::MSG_CTRUNC)
    }

    /// Whether it ends a record (`MSG_EOR`).
    pub fn is_end_of_record(&self) -> bool {
        self.has(libc::MSG_EOR)
    }
}

impl sealed::Sealed for Bare {}

impl Cover for Bare {
    type With<B> = B;

    #[inline]
    fn outgoing(&mut self, table: &[IoVec]) -> u64 {
        Header::of(table).put(&mut self.0)
    }

    #[inline]
    fn incoming(&mut self, table: &[IoVec]) -> u64 {
        Header::of(table).put(&mut self.0)
    }

    #[inline]
    fn sent<B>(self, bufs: B, _: &io::Result<usize>) -> B {
        bufs
    }

    #[inline]
    fn received<B>(self, bufs: B, result: io::Result<usize>) -> (B, io::Result<Received>) {
        (bufs, result.map(|bytes| Received::of(bytes, None, &self.0)))
    }
}

impl sealed::Sealed for Addressed {}

impl Cover for Addressed {
    type With<B> = B;

    #[inline]
    fn outgoing(&mut self, table: &[IoVec]) -> u64 {
        let (name, name_len) = self.address.place();
        Header { name, name_len, ..Header::of(table) }.put(&mut self.header)
    }

    #[inline]
    fn incoming(&mut self, table: &[IoVec]) -> u64 {
        let (name, _) = self.address.room();
        let name_len = self.address.capacity();
        Header { name, name_len, ..Header::of(table) }.put(&mut self.header)
    }

    #[inline]
    fn sent<B>(self, bufs: B, _: &io::Result<usize>) -> B {
        bufs
    }

    #[inline]
    fn received<B>(mut self, bufs: B, result: io::Result<usize>) -> (B, io::Result<Received>) {
        self.address.set_len(self.header.name_len);
        let from = self.address.address();
        (bufs, result.map(|bytes| Received::of(bytes, from, &self.header)))
    }
}

/// Sends several buffers as one message. Since Linux 5.3.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream.
///
/// # Completion
///
/// Once, with how many bytes the socket has taken: all of a datagram; of a stream perhaps fewer,
/// unless told to [wait for all](SendFlags::WAIT_ALL). Descriptors go with the first byte, so a
/// message without bytes takes none along on a stream.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. If a part was sent already, it completes with that.
///
/// # Errors
///
/// `EPIPE` when the peer has closed the connection, without a signal. `EMSGSIZE` when a datagram is
/// too long.
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
        Self { fd, bufs, table: B::EMPTY, cover: Bare(Header::EMPTY), flags, order }
    }

    /// Sends to an address of the internet.
    pub fn to(self, address: impl Into<SocketAddr>) -> SendMsg<F, B, Addressed> {
        let address = Storage::inet(address.into());
        self.covered(Addressed { header: Header::EMPTY, address })
    }

    /// Sends to the address of an envelope, if it has one, and what is attached to it. The envelope
    /// comes back beside the buffers: `(bufs, envelope)`.
    pub fn with(self, envelope: Box<Envelope>) -> SendMsg<F, B, Box<Envelope>> {
        self.covered(envelope)
    }

    fn covered<C>(self, cover: C) -> SendMsg<F, B, C> {
        let Self { fd, bufs, table, flags, order, .. } = self;
        SendMsg { fd, bufs, table, cover, flags, order }
    }
}

impl<F, B: IoBufs, C> SendMsg<F, B, C> {
    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }
}

impl<F: Target, B: IoBufs, C: Cover> SendMsg<F, B, C> {
    /// The entry of a message, by one of the two operations that send one.
    #[inline]
    pub(crate) fn entry(&mut self, make: impl FnOnce(i32, u64, u32, RecvSendFlags) -> Sqe) -> Sqe {
        self.table = self.bufs.table();
        let header = self.cover.outgoing(self.table.as_ref());
        self.fd.aim(make(-1, header, self.flags.bits(), self.order))
    }

    /// The result beside what was given.
    #[inline]
    pub(crate) fn outcome(self, done: &Done) -> Outcome<usize, F, C::With<B>> {
        let result = done.count(offered(self.table.as_ref()));
        let buf = self.cover.sent(self.bufs, &result);
        Outcome { result, fd: self.fd, buf }
    }
}

/// How many bytes a table gives the kernel.
fn offered(table: &[IoVec]) -> u32 {
    u32::try_from(total(table)).expect("a table has at most MAX_TRANSFER bytes")
}

// SAFETY: OP1: it points to the header in `cover`, which lies here or in the box that is here; that
// points to `table`, which lies here and was made from borrows of `bufs` in place, and to what
// `cover` owns. It completes once.
unsafe impl<F: Target, B: IoBufs, C: Cover> Op for SendMsg<F, B, C> {
    type Output = Outcome<usize, F, C::With<B>>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
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

/// Receives one message into several buffers. Since Linux 5.3.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream.
///
/// # Completion
///
/// Once, with how many bytes came and [who sent them](Received::from); 0 when the peer will send no
/// more, or sent a datagram without bytes.
///
/// # Cancellation
///
/// A receive that waits is cancelled, and no data is lost. It may complete as usual instead, when a
/// message has come in between; given up, the descriptors that came with it are closed.
#[doc(alias = "IORING_OP_RECVMSG")]
#[doc(alias = "io_uring_prep_recvmsg")]
#[doc(alias = "recvfrom")]
pub struct RecvMsg<F, B: IoBufsMut, C = Bare> {
    fd: F,
    bufs: B,
    table: B::Table,
    cover: C,
    flags: RecvFlags,
}

impl<F, B: IoBufsMut> RecvMsg<F, B> {
    /// Receives from `fd`.
    pub fn new(fd: F, bufs: B) -> Self {
        let (cover, flags) = (Bare(Header::EMPTY), RecvFlags::default());
        Self { fd, bufs, table: B::EMPTY, cover, flags }
    }

    /// Receives, and learns the sender's address if it is of the internet.
    pub fn with_address(self) -> RecvMsg<F, B, Addressed> {
        self.covered(Addressed { header: Header::EMPTY, address: Storage::EMPTY })
    }

    /// Receives, with all that comes beside the bytes: any address, and descriptors. The envelope
    /// comes back beside the buffers: `(bufs, envelope)`; it is then addressed to the sender. Even
    /// if told to [wait for all](RecvFlags::WAIT_ALL), it may complete with a part.
    pub fn with(self, envelope: Box<Envelope>) -> RecvMsg<F, B, Box<Envelope>> {
        self.covered(envelope)
    }

    fn covered<C>(self, cover: C) -> RecvMsg<F, B, C> {
        let Self { fd, bufs, table, flags, .. } = self;
        RecvMsg { fd, bufs, table, cover, flags }
    }
}

impl<F, B: IoBufsMut, C> RecvMsg<F, B, C> {
    /// Receives as `flags` say.
    pub fn flags(self, flags: RecvFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: it points to the header in `cover`, which lies here or in the box that is here; that
// points to `table`, which lies here and was made from borrows of `bufs` in place, and to what
// `cover` owns. It completes once, and `count` bounds what counts as written. OP3: descriptors that
// come with the message are taken by `cover` when it is finished, wanted or not.
unsafe impl<F: Target, B: IoBufsMut, C: Cover> Op for RecvMsg<F, B, C> {
    type Output = Outcome<Received, F, C::With<B>>;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        self.table = self.bufs.table_mut();
        let header = self.cover.incoming(self.table.as_ref());
        // Without this flag descriptors would stay open in whatever the process executes.
        let flags = self.flags.bits() | libc::MSG_CMSG_CLOEXEC.cast_unsigned();
        self.fd.aim(prep::recvmsg(-1, header, flags, RecvSendFlags::empty()))
    }

    #[inline]
    fn finish(mut self, done: Done) -> Self::Output {
        self.cover.arrived();
        let result = done.count(offered(self.table.as_ref()));
        if let Ok(count) = result {
            // SAFETY: the kernel has written so many bytes of the regions, one after the other
            // (OP1), and this is the table that it was given.
            unsafe { self.bufs.set_filled(&self.table, count as u64) };
        }
        let (buf, result) = self.cover.received(self.bufs, result);
        Outcome { result, fd: self.fd, buf }
    }
}

/// Without the table, which says nothing before the operation is where it stays.
impl<F: fmt::Debug, B: IoBufs + fmt::Debug, C: fmt::Debug> fmt::Debug for SendMsg<F, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fd, bufs, cover, .. } = self;
        let mut fields = f.debug_struct("SendMsg");
        fields.field("fd", fd).field("bufs", bufs).field("cover", cover).finish_non_exhaustive()
    }
}

/// Without the table, which says nothing before the operation is where it stays.
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

    use super::super::{AcceptFrom, SendTo};
    use super::*;
    use crate::inflight::PAYLOAD;

    #[test]
    fn messages_with_addresses_fit_into_a_slot() {
        type Two = (Vec<u8>, Vec<u8>);
        type Socket = Rc<OwnedFd>;
        let sizes = [
            size_of::<SendMsg<Socket, Two>>(),
            size_of::<SendMsg<Socket, Two, Addressed>>(),
            size_of::<SendMsg<Socket, (Vec<u8>, Vec<u8>, Rc<[u8]>), Box<Envelope>>>(),
            size_of::<RecvMsg<Socket, [Vec<u8>; 1], Addressed>>(),
            size_of::<RecvMsg<Socket, Two, Box<Envelope>>>(),
            size_of::<SendTo<Socket, Vec<u8>, Address>>(),
            size_of::<AcceptFrom<Socket>>(),
        ];
        assert!(sizes.iter().all(|&size| size <= PAYLOAD), "{sizes:?}");
    }
}
