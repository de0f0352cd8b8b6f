//! Sending what is queued: many buffers, in order, from one operation.
//!
//! ```text
//!   queue │ 3 │ 0 │ 2 │ ─► submit(SendBundle) ─► shot: bytes ─► … ─► Outcome { bytes, SendRing }
//!                   ▲ │
//!   more meanwhile ─┘
//! ```
//!
//! Without it one send must end before the next begins, or their bytes may be swapped
//! ([one at a time](super::stream#one-at-a-time)). Here there is one operation, and bytes that come
//! meanwhile queue behind those that it has.
//!
//! Keeps OP1 and BR1: queued buffers are in nobody's hands, and the ring of them lies in the
//! operation. Leaves to others: filling and queueing (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a ring of buffers")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags, RecvSendFlags};

use super::stream::SendFlags;
use super::target::Target;
use super::{Brings, Done, Multishot, Op, Outcome, RingId, Shot, Shots};
use crate::lease::{SendRing, Source};
use crate::prep;

/// Sends all that is queued in a [`SendRing`], in order, through a stream socket that is connected.
/// Since Linux 6.10.
///
/// # Completion
///
/// As a shot for each part that was sent at one go, with how many bytes that is; then at the end,
/// with how many there were in all, and the ring: 0 when nothing was queued. What was queued while
/// it was ending waits for the next.
///
/// # Cancellation
///
/// A send that waits for room is cancelled. What was not sent, also of a buffer that was sent in
/// part, stays queued in its order: submit it anew to go on.
///
/// # Errors
///
/// `EPIPE` when the peer has closed the connection, without a signal; what was not sent stays
/// queued. `EINVAL` before Linux 6.10. `ECANCELED` when it was [forced](Op::forced) to a worker and
/// there is room, on kernels that let no worker complete more than once (seen on Linux 6.18): do
/// not force it.
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
#[doc(alias = "IORING_RECVSEND_BUNDLE")]
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

    /// Sends as `flags` say.
    pub fn flags(self, flags: SendFlags) -> Self {
        Self { flags, ..self }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`; the kernel reads buffers that
// are queued in `ring`, of which nobody has a lease before the operation has ended. `SHOTS` says
// that it completes many times.
unsafe impl<F: Target> Op for SendBundle<F> {
    type Output = Outcome<usize, F, SendRing>;
    const SHOTS: Shots = Shots::Many;
    const BRINGS: Brings = Brings::Sends;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn source(&self) -> Option<Source> {
        Some(self.ring.source())
    }

    fn prep(&mut self) -> Sqe {
        let (group, flags) = (self.ring.group(), self.flags.bits());
        self.fd.aim(prep::send_picked(-1, 0, group, flags, RecvSendFlags::BUNDLE))
    }

    fn finish(self, done: Done) -> Self::Output {
        let sent = self.ring.settle(done.raw(), named(done.flags()));
        let result = match done.result() {
            // There was nothing, or nothing more.
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

    fn item(shot: Shot) -> Self::Item {
        Ok(shot.result()? as usize)
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
