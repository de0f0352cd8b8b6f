//! Reads into buffers that the kernel picks from a ring of buffers when there is data.
//!
//! ```text
//!   submit(ReadMulti) ─► shot: BufLease ─► shot: BufLease ─► … ─► Ended { how, fd }
//! ```
//!
//! A read that waits holds no buffer. What an abandoned one had picked goes back (BR1, OP3).
//!
//! There is no such read that completes once. When one fails, Linux 6.16 and 6.17 name a buffer
//! that they have not picked, as they do for a receive ([`RecvPicked`](super::RecvPicked)), where
//! the kernel is asked whether it has.
//!
//! Leaves to others: the ring of buffers (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a ring of buffers")]

use std::io;

use annulus_sys::abi::Sqe;

use super::ending::{Ended, Ending};
use super::target::Target;
use super::{Brings, Done, Multishot, Offset, Op, RingId, Shot, Shots};
use crate::lease::{Brought, BufLease, BufRing, Source};
use crate::prep;

/// Reads again and again, whenever there is data, each time into a buffer of the kernel's choice.
/// Only from what can be polled, such as pipes and sockets; others end with `EBADFD`. Since Linux
/// 6.7.
///
/// Make an inotify or `/dev/kmsg` descriptor one that does not block (`O_NONBLOCK`): of one that
/// does, nothing comes though there is something to read (seen on 6.18), until it is cancelled.
///
/// # Completion
///
/// For each piece of data, with the buffer that holds it; and once more at the end, with the
/// [`Ending`], which says whether to submit it anew.
///
/// # Cancellation
///
/// It is cancelled. What was read before is not lost: it comes in buffers before the end, or
/// with it, in [`Ended::left`].
#[doc(alias = "IORING_OP_READ_MULTISHOT")]
#[doc(alias = "io_uring_prep_read_multishot")]
#[derive(Debug)]
pub struct ReadMulti<F> {
    fd: F,
    buffers: BufRing,
}

impl<F> ReadMulti<F> {
    /// Reads from `fd` until it ends, or is cancelled, or there is no buffer.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone() }
    }
}

// SAFETY: OP1: it points to nothing; the group is of the ring of buffers that is its source, and
// the descriptor of `fd`. What each completion brings is told by `BRINGS` (OP3).
unsafe impl<F: Target> Op for ReadMulti<F> {
    type Output = Ended<F, io::Result<BufLease>>;

    const SHOTS: Shots = Shots::Many;
    const BRINGS: Brings = Brings::Buffer;

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

    fn item(shot: Shot) -> Self::Item {
        match shot.brought {
            Brought::Buffer(lease) => Ok(lease),
            _ => Err(shot.refusal()),
        }
    }
}
