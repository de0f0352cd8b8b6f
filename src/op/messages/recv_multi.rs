//! Multishot receive of messages: each arrives in a provided buffer, with its sender.
//!
//! ```text
//!   submit(RecvMsgMulti) ─► item: Datagram ─► item: Datagram ─► … ─► Ended { how, fd }
//!                                 │
//!                                 └─ payload, from, control, descriptors
//! ```
//!
//! A buffer holds 16 bytes of lengths, then room for the requested parts (128 bytes for an
//! address), then the message. So make buffers that much longer than the longest message.
//!
//! Keeps OP1: the header that states these sizes lies in the operation. OP3: what a message carries
//! is owned as soon as its completion is consumed. Leaves to others: the parts of a message
//! (`lease`), one message at a time ([`RecvMsg`](crate::op::RecvMsg)).
#![allow(unsafe_code, reason = "writes entries that point to headers")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::length::Length;
use super::message::Header;
use crate::buf::address::MAX_ADDRESS;
use crate::lease::datagram::Layout;
use crate::lease::{BufRing, Datagram, Resource, Source};
use crate::op::ending::{Ended, Ending};
use crate::op::sockets::flags::ProvidedFlags;
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, ResultKind, RingId};
use crate::prep;

/// Receives every message, each into a buffer that the kernel selects from a [`BufRing`]. Since
/// Linux 6.0.
///
/// A buffer needs 16 bytes more than the longest message, 128 more for its address, and the room
/// for control data that was asked for, each with a header of 16 bytes: packet info of IPv4 takes
/// 32 bytes, of IPv6 40, a counter 24. What does not fit is cut off.
///
/// # Completion
///
/// Once for each message, in order; then once more, with [`Ending`]. An empty message ends it: that
/// is an item, and then [`Eof`](Ending::Eof). So does the end of a stream. A datagram socket has no
/// end, so submit it again there.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Messages that arrived before are in items, or in
/// [`Ended::remaining`]; descriptors in messages that are not taken are closed.
///
/// # Errors
///
/// [`Ending::NoBuffers`] when every buffer is leased. [`Ending::Failed`] with a message when the
/// buffers have no room for the requested parts, and with `EINVAL` before Linux 6.0. The operation
/// is [rejected](crate::Rejection::Invalid) with buffers that use [incremental
/// consumption](crate::raw::register::Consumption::Incremental), because the unused part of one may
/// be too small.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::RecvMsgMulti;
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(4, 1024) else { return Ok(()) }; // Linux 5.19
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let (from, to) = (ours.local_addr()?, theirs.local_addr()?);
/// let messages = ring.submit(RecvMsgMulti::new(theirs, &buffers).with_address())?;
/// ours.send_to(b"hello", to)?;
/// match ring.next(&messages)? {
///     Some(message) => {
///         let message = message?;
///         assert_eq!(message.payload(), b"hello");
///         assert_eq!(message.from().and_then(|from| from.as_inet()), Some(from));
///     }
///     None => println!("needs Linux 6.0"),
/// }
/// ring.detach(messages);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_RECVMSG", "io_uring_prep_recvmsg_multishot"))]
#[doc(alias = "io_uring_recvmsg_out")]
#[derive(Debug)]
pub struct RecvMsgMulti<F> {
    header: Header,
    layout: Layout,
    buffers: BufRing,
    flags: ProvidedFlags,
    length: Length,
    fd: F,
}

impl<F> RecvMsgMulti<F> {
    /// Receives from `fd` into `buffers`, the bytes of messages only.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        let layout = Layout { address: 0, control: 0 };
        let (buffers, flags) = (buffers.clone(), ProvidedFlags::default());
        Self { header: Header::EMPTY, layout, buffers, flags, length: Length::Unasked, fd }
    }

    /// Also returns each sender's address.
    pub fn with_address(self) -> Self {
        let address = u32::try_from(MAX_ADDRESS).expect("an address has at most 128 bytes");
        Self { layout: Layout { address, ..self.layout }, ..self }
    }

    /// Also receives up to `bytes` of control data, rounded up to a multiple of eight: descriptors
    /// take 16 bytes and 4 more for each, timestamps 32.
    pub fn with_control(self, bytes: u16) -> Self {
        let control = u32::from(bytes).next_multiple_of(8);
        Self { layout: Layout { control, ..self.layout }, ..self }
    }

    /// Also asks for the [length](Datagram::length) of each whole datagram, if it is longer than
    /// the buffer (`MSG_TRUNC`). For the files that [`RecvMsg::with_length`] accepts; the operation
    /// is [rejected](crate::Rejection::Invalid) for others.
    ///
    /// [`RecvMsg::with_length`]: crate::op::RecvMsg::with_length
    #[doc(alias = "MSG_TRUNC")]
    pub fn with_length(self) -> Self {
        Self { length: Length::Asked, ..self }
    }

    /// Sets the flags of this receive.
    pub fn flags(self, flags: ProvidedFlags) -> Self {
        Self { flags, ..self }
    }

    /// Whether a result means an empty message.
    fn is_empty_message(&self, result: i32) -> bool {
        u32::try_from(result).is_ok_and(|result| result == self.layout.head())
    }
}

// SAFETY: OP1: the entry points to `header`, which lies here and points to nothing, and the
// descriptor is of `fd`; the kernel writes to buffers of the source, which messages own (OP3).
// `COMPLETIONS` says that it completes many times.
unsafe impl<F: Target> Op for RecvMsgMulti<F> {
    type Output = Ended<F, io::Result<Datagram>>;
    const COMPLETIONS: Completions = Completions::Multishot;
    const RESULT_KIND: ResultKind = ResultKind::Buffer;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        self.length.refusal(&self.fd, self.flags.bits())
    }

    fn prep(&mut self) -> Sqe {
        let header = Header::room(self.layout.address, self.layout.control).put(&mut self.header);
        // Without this flag the descriptors would stay open in programs that the process executes.
        let flags = self.flags.bits() | libc::MSG_CMSG_CLOEXEC.cast_unsigned();
        let (group, order) = (self.buffers.0.id(), RecvSendFlags::RECV_MULTISHOT);
        self.length.asked_in(self.fd.aim(prep::recvmsg_provided(-1, header, group, flags, order)))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::messages(self.buffers.0.clone(), self.layout))
    }

    fn finish(self, done: Done) -> Self::Output {
        let (size, head) = (self.buffers.buffer_size(), self.layout.head());
        let how = if self.is_empty_message(done.raw()) {
            Ending::Eof
        } else if done.raw() == -libc::EFAULT && size < head {
            let text = format!(
                "buffers of {size} bytes have no room for {head} bytes in front of a message: \
                 make them larger, or ask for less"
            );
            Ending::Failed(io::Error::other(text))
        } else {
            Ending::of(&done)
        };
        Ended::new(how, self.fd, done, Self::item)
    }
}

impl<F: Target> Multishot for RecvMsgMulti<F> {
    type Item = io::Result<Datagram>;

    fn item(completion: Completion) -> Self::Item {
        match completion.resource {
            Resource::Message(message) => Ok(message),
            _ => Err(completion.refusal()),
        }
    }
}
