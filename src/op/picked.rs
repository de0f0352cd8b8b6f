//! Reads into a buffer that the kernel picks from a ring of buffers when there is data.
//!
//! | | completes | brings | since |
//! |---|---|---|---|
//! | [`ReadPicked`] | once | a [`BufLease`], none at the end of the file | Linux 5.19 |
//! | [`ReadMulti`] | for each piece of data | a [`BufLease`] each time | Linux 6.7 |
//!
//! A read that waits holds no buffer. What a failed or abandoned read had picked goes back (BR1,
//! OP3).
//!
//! Leaves to others: the ring of buffers (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a ring of buffers")]

use std::io;

use annulus_sys::abi::Sqe;

use super::ending::{Ended, Ending};
use super::target::Target;
use super::{Brings, Done, Multishot, Offset, Op, Outcome, RingId, Shot, Shots};
use crate::lease::{Brought, BufLease, BufRing, Source};
use crate::prep;

/// Reads into a buffer of the kernel's choice. Since Linux 5.19.
///
/// # Completion
///
/// Once, with the buffer, which holds what was read; `None` at the end of the file. `ENOBUFS` when
/// there is data and all buffers are leased.
///
/// # Cancellation
///
/// A read that waits for data is cancelled; one that a device is busy with completes as usual.
#[doc(alias = "IOSQE_BUFFER_SELECT")]
#[derive(Debug)]
pub struct ReadPicked<F> {
    fd: F,
    buffers: BufRing,
    offset: Offset,
}

impl<F> ReadPicked<F> {
    /// Reads from the file's own position, as much as a buffer holds.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone(), offset: Offset::Current }
    }

    /// Reads from `offset` bytes after the start.
    pub fn at(self, offset: u64) -> Self {
        Self { offset: Offset::At(offset), ..self }
    }
}

// SAFETY: OP1: it points to nothing; the group is of the ring of buffers that is its source, and
// the descriptor of `fd`. It completes once.
unsafe impl<F: Target> Op for ReadPicked<F> {
    type Output = Outcome<Option<BufLease>, F>;

    const BRINGS: Brings = Brings::Buffer;

    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    #[inline]
    fn prep(&mut self) -> Sqe {
        let (len, group) = (self.buffers.buffer_size(), self.buffers.0.id());
        self.fd.aim(prep::read_picked(-1, len, self.offset.raw(), group))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = match (done.raw(), done.lease()) {
            // Some kernels name a buffer here too. It goes back.
            (0, _) => Ok(None),
            (1.., Some(lease)) => Ok(Some(lease)),
            _ => Err(done.refusal()),
        };
        Outcome { result, fd: self.fd, buf: () }
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }
}

/// Reads again and again, whenever there is data, each time into a buffer of the kernel's choice.
/// Only from what can be polled, such as pipes and sockets; others end with `EBADFD`. Since Linux
/// 6.7.
///
/// # Completion
///
/// For each piece of data, with the buffer that holds it; and once more at the end, with the
/// [`Ending`], which says whether to submit it anew.
///
/// # Cancellation
///
/// It is cancelled. What was read before is not lost: it comes in buffers before the end.
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
    type Output = Ended<F>;

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
        Ended { how: Ending::of(&done), fd: self.fd }
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
