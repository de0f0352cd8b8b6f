//! Multishot reads into provided buffers: the kernel selects a buffer when there is data.
//!
//! ```text
//!   submit(ReadMulti) ─► item: BufLease ─► item: BufLease ─► … ─► Ended { how, fd }
//! ```
//!
//! A read that waits holds no buffer. Buffers that were selected for a detached read go back to the
//! buffer ring (BR1, OP3).
//!
//! There is no such read that completes once. When one fails, Linux 6.16 and 6.17 name a buffer
//! that they have not selected. They do the same for a receive
//! ([`RecvProvided`](crate::op::RecvProvided)), but there the kernel is asked whether it selected
//! one.
//!
//! Leaves to others: the buffer ring (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a buffer ring")]

use std::io;

use annulus_sys::abi::Sqe;

use crate::lease::{BufLease, BufRing, Resource, Source};
use crate::op::ending::{Ended, Ending};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Offset, Op, ResultKind, RingId};
use crate::prep;

/// Reads again and again, whenever there is data, each time into a buffer that the kernel selects.
/// Since Linux 6.7.
///
/// Works only on files that can be polled, such as pipes and sockets; others end with `EBADFD`.
///
/// Set `O_NONBLOCK` on an inotify or `/dev/kmsg` descriptor. From a blocking one nothing arrives
/// although there is something to read (seen on 6.18), until the read is cancelled.
///
/// Linux 6.16, 6.17 and early 6.18 may miss one of two wake-ups that arrive together, as
/// [`RecvMulti`](crate::op::RecvMulti) says.
///
/// # Completion
///
/// Once for each piece of data, with the buffer that holds it; then once more at the end, with the
/// [`Ending`], which says whether to submit the read again.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Data that was read before is not lost: it is in earlier
/// items, or in [`Ended::remaining`].
///
/// # Errors
///
/// [`Ending::Failed`] with `EBADFD` for a file that cannot be polled, and with `EINVAL` before
/// Linux 6.7. [`Ending::NoBuffers`] when every buffer is leased: drop leases, and submit it again.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::ReadMulti;
/// use std::io::Write;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(2, 64) else { return Ok(()) }; // Linux 5.19
/// let (reader, mut writer) = std::io::pipe()?;
/// let reads = ring.submit(ReadMulti::new(reader, &buffers))?;
/// for word in ["one", "two"] {
///     writer.write_all(word.as_bytes())?;
///     let Some(lease) = ring.next(&reads)? else { break }; // Linux 6.7
///     assert_eq!(&lease?[..], word.as_bytes()); // Dropped here, so the kernel has it again.
/// }
/// drop(writer);
/// println!("{:?}", ring.wait(reads)?.how); // Eof
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_READ_MULTISHOT")]
#[doc(alias = "io_uring_prep_read_multishot")]
#[derive(Debug)]
pub struct ReadMulti<F> {
    fd: F,
    buffers: BufRing,
}

impl<F> ReadMulti<F> {
    /// Reads from `fd` until the data ends, the read is cancelled, or no buffer is left.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone() }
    }
}

// SAFETY: OP1: the entry points to nothing; the group is of the buffer ring that is its source, and
// the descriptor is of `fd`. `RESULT_KIND` says what each completion carries (OP3).
unsafe impl<F: Target> Op for ReadMulti<F> {
    type Output = Ended<F, io::Result<BufLease>>;

    const COMPLETIONS: Completions = Completions::Multishot;
    const RESULT_KIND: ResultKind = ResultKind::Buffer;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let group = self.buffers.0.id();
        self.fd.aim(prep::read_multishot(-1, Offset::Current.raw(), group))
    }

    fn finish(self, done: Done) -> Self::Output {
        Ended::new(Ending::of(&done), self.fd, done, Self::item)
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }
}

impl<F: Target> Multishot for ReadMulti<F> {
    type Item = io::Result<BufLease>;

    fn item(completion: Completion) -> Self::Item {
        match completion.resource {
            Resource::Buffer(lease) => Ok(lease),
            _ => Err(completion.refusal()),
        }
    }
}
