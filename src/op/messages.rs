//! Messages without end: each in a buffer that the kernel picks, with its sender.
//!
//! ```text
//!   submit(RecvMsgMulti) ─► shot: Datagram ─► shot: Datagram ─► … ─► Ended { how, fd }
//!                                 │
//!                                 └─ payload, from, control, descriptors
//! ```
//!
//! A buffer holds 16 bytes of lengths, room for what was asked for (128 bytes for an address), and
//! then the message; so make buffers that much longer than the longest.
//!
//! Keeps OP1: the header that says so lies in the operation. OP3: what a message brings is owned
//! when its completion is consumed. Leaves to others: the parts of a message (`lease`), one message
//! at a time ([`RecvMsg`](super::RecvMsg)).
#![allow(unsafe_code, reason = "writes entries that point to headers")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::addr::MOST;
use super::ending::{Ended, Ending};
use super::message::Header;
use super::stream::PickedFlags;
use super::target::Target;
use super::{Brings, Done, Multishot, Op, RingId, Shot, Shots};
use crate::lease::datagram::Layout;
use crate::lease::{Brought, BufRing, Datagram, Source};
use crate::prep;

/// Receives every message that comes, each into a buffer that the kernel picks from a [`BufRing`].
/// Since Linux 6.0.
///
/// # Completion
///
/// Once for each message, in order; then once more, with [`Ending`]. A message without bytes ends
/// it: that is a shot, and then [`Eof`](Ending::Eof). So does the end of a stream; a socket of
/// datagrams has none, so submit it anew there.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Messages that came before came as shots, or come with
/// the end, in [`Ended::left`]; descriptors in those that nobody takes are closed.
///
/// # Errors
///
/// [`Ending::NoBuffers`] when every buffer is in a lease. [`Ending::Failed`] in words when the
/// buffers have no room for what was asked for, and with `EINVAL` before Linux 6.0. It is
/// [rejected](crate::Rejection::Invalid) with buffers that are
/// [used in parts](crate::register::Used::InParts): what is left of one may be too little.
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
#[doc(alias = "io_uring_prep_recvmsg_multishot")]
#[doc(alias = "io_uring_recvmsg_out")]
#[derive(Debug)]
pub struct RecvMsgMulti<F> {
    header: Header,
    layout: Layout,
    buffers: BufRing,
    flags: PickedFlags,
    fd: F,
}

impl<F> RecvMsgMulti<F> {
    /// Receives from `fd` into `buffers`, the messages alone.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        let layout = Layout { address: 0, control: 0 };
        let (buffers, flags) = (buffers.clone(), PickedFlags::default());
        Self { header: Header::EMPTY, layout, buffers, flags, fd }
    }

    /// Receives, and learns each sender's address.
    pub fn with_address(self) -> Self {
        let address = u32::try_from(MOST).expect("128");
        Self { layout: Layout { address, ..self.layout }, ..self }
    }

    /// Receives, with up to `bytes` of control data, rounded up to a multiple of eight: descriptors
    /// take 16 bytes and 4 more for each, time stamps 32.
    pub fn with_control(self, bytes: u16) -> Self {
        let control = u32::from(bytes).next_multiple_of(8);
        Self { layout: Layout { control, ..self.layout }, ..self }
    }

    /// Receives as `flags` say.
    pub fn flags(self, flags: PickedFlags) -> Self {
        Self { flags, ..self }
    }

    /// Whether a result says that a message came, without bytes.
    fn is_empty_message(&self, result: i32) -> bool {
        u32::try_from(result).is_ok_and(|result| result == self.layout.head())
    }
}

// SAFETY: OP1: it points to `header`, which lies here and points to nothing, and the descriptor is
// of `fd`; the kernel writes to buffers of the source, which messages own (OP3). `SHOTS` says that
// it completes many times.
unsafe impl<F: Target> Op for RecvMsgMulti<F> {
    type Output = Ended<F, io::Result<Datagram>>;
    const SHOTS: Shots = Shots::Many;
    const BRINGS: Brings = Brings::Buffer;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let header = Header::room(self.layout.address, self.layout.control).put(&mut self.header);
        // Without this flag descriptors would stay open in whatever the process executes.
        let flags = self.flags.bits() | libc::MSG_CMSG_CLOEXEC.cast_unsigned();
        let (group, order) = (self.buffers.0.id(), RecvSendFlags::RECV_MULTISHOT);
        self.fd.aim(prep::recvmsg_picked(-1, header, group, flags, order))
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

    fn item(shot: Shot) -> Self::Item {
        match shot.brought {
            Brought::Message(message) => Ok(message),
            _ => Err(shot.refusal()),
        }
    }
}
