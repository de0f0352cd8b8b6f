//! Sending queued buffers, in order, with one operation.
//!
//! ```text
//!   queue │ 3 │ 0 │ 2 │ ─► submit(SendBundle) ─► item: bytes ─► … ─► Outcome { bytes, SendRing }
//!                   ▲ │
//!   more meanwhile ─┘
//! ```
//!
//! Without it, one send must end before the next begins, or their bytes may be swapped ([one at a
//! time](super::stream#one-at-a-time)). Here one operation sends everything, and new bytes queue
//! behind those that it is sending.
//!
//! Keeps OP1 and BR1: queued buffers have no other owner, and the send ring lies in the operation.
//! Leaves to others: filling and queueing (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a buffer ring")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags, RecvSendFlags};

use super::flags::SendFlags;
use crate::lease::{SendRing, Source};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// Sends everything that is queued in a [`SendRing`], in order, through a connected stream socket.
/// Since Linux 6.10.
///
/// The bytes are the queue's, and not the operation's: after an error or a cancel the rest waits
/// for the next send, which may go through another socket. What is queued while a send is in flight
/// may go out with it or not, so look at [`SendQueue::bytes`](crate::lease::SendQueue::bytes) when
/// it has ended. The operation owns the send ring, so two of them can never mix up the bytes.
///
/// # Completion
///
/// An item for each part that the kernel sent in one go, with its number of bytes; then once at the
/// end, with the total, 0 when nothing was queued, and the send ring. Buffers that were queued
/// while it was ending wait for the next send.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. Bytes that were not sent stay queued in order,
/// including the rest of a buffer that was sent in part. Submit it again to go on.
///
/// # Errors
///
/// `EPIPE`, without a signal, when the peer has closed the connection; bytes that were not sent
/// stay queued. `EINVAL` before Linux 6.10. `ECANCELED` when it was [forced](Op::forced) to a
/// worker thread and there is room, on kernels where a worker thread cannot post more than one
/// completion (seen on Linux 6.18): do not force it.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::SendBundle;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(bytes) = ring.send_ring(8, 16) else { return Ok(()) }; // Linux 5.19
/// let queue = bytes.queue();
/// for word in ["one ", "two ", "three"] {
///     let mut buf = queue.get().expect("eight are free");
///     buf.set_len(word.len());
///     buf.copy_from_slice(word.as_bytes());
///     buf.queue();
/// }
/// let (ours, _theirs) = UnixStream::pair()?;
/// let send = ring.submit(SendBundle::new(ours, bytes))?;
/// match ring.wait(send)?.result {
///     Ok(bytes) => assert_eq!(bytes, 13),
///     Err(error) => println!("needs Linux 6.10: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_SEND", "IORING_RECVSEND_BUNDLE"))]
#[doc(alias = "io_uring_prep_send_bundle")]
#[derive(Debug)]
pub struct SendBundle<F> {
    fd: F,
    ring: SendRing,
    flags: SendFlags,
}

impl<F> SendBundle<F> {
    /// Sends what is queued in `ring` through `fd`.
    pub fn new(fd: F, ring: SendRing) -> Self {
        Self { fd, ring, flags: SendFlags::default() }
    }

    /// Sets the flags of this send.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`; the kernel reads buffers
// that are queued in `ring`, and nothing holds a lease on them before the operation has ended.
// `COMPLETIONS` says that it completes many times.
unsafe impl<F: Target> Op for SendBundle<F> {
    type Output = Outcome<usize, F, SendRing>;
    const COMPLETIONS: Completions = Completions::Multishot;
    const RESULT_KIND: ResultKind = ResultKind::Sends;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn source(&self) -> Option<Source> {
        Some(self.ring.source())
    }

    fn prep(&mut self) -> Sqe {
        let (group, flags) = (self.ring.group(), self.flags.bits());
        self.fd.aim(prep::send_provided(-1, 0, group, flags, RecvSendFlags::BUNDLE))
    }

    fn finish(self, done: Done) -> Self::Output {
        // SAFETY: the operation has ended, and no other could own its send ring meanwhile.
        let sent = unsafe { self.ring.record(done.raw(), named(done.flags())) };
        let result = match done.result() {
            // Nothing was queued, or nothing was left.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(sent),
            result => result.map(|_| sent),
        };
        Outcome { result, fd: self.fd, buf: self.ring }
    }
}

/// The buffer that a completion names.
fn named(flags: CqeFlags) -> Option<u16> {
    let [.., low, high] = (flags.bits() >> CQE_BUFFER_SHIFT << CQE_BUFFER_SHIFT).to_le_bytes();
    flags.contains(CqeFlags::BUFFER).then_some(u16::from_le_bytes([low, high]))
}

impl<F: Target> Multishot for SendBundle<F> {
    type Item = io::Result<usize>;

    fn item(completion: Completion) -> Self::Item {
        Ok(completion.result()? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_names_a_buffer_only_if_it_says_so() {
        let flags = |bits| CqeFlags::from_bits_retain(bits);
        assert_eq!(named(flags(0x1234_0003)), Some(0x1234));
        assert_eq!(named(flags(0xffff_0001)), Some(0xffff));
        assert_eq!(named(flags(0x1234_0002)), None);
    }
}
