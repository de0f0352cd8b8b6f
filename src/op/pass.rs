//! A registered file goes to another ring, without ever being a descriptor.
//!
//! ```text
//!   PassFile::new(file, &sender) ──► MSG_RING, SEND_FD ──► Outcome { PassedFile, file }
//!                                        │
//!                                        └─► in a free place of the table of `sender`
//! ```
//!
//! So one thread accepts connections, and others serve them, each with a ring and a table of its
//! own.
//!
//! Keeps OP3: whoever has the [`PassedFile`] owns the place. Leaves to others: tables (`lease`),
//! and waking the other ring ([`RingSender`](crate::RingSender)).
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::MsgRingFlags;

use super::{Done, Op, Outcome, RingId};
use crate::lease::passed::Passage;
use crate::lease::{FileSender, FixedFile, PassedFile};
use crate::prep;
use crate::sender::{self, SendError};

/// Puts a file of this ring's table into a free place of another's. Since Linux 6.3.
///
/// The file stays in this table too, until its last [`FixedFile`] is dropped.
///
/// # Completion
///
/// Once, with what the other ring [receives](crate::lease::FileTable::receive) the file by: bring
/// it to that thread, and wake its ring if it waits. Where completions are deferred, the other
/// thread does the work, as soon as it runs.
///
/// # Cancellation
///
/// It is done at once, or waits for nothing but the other thread, and cannot be cancelled.
///
/// # Errors
///
/// `ENFILE` when the other table is full, `EINVAL` for the ring that sends, `EOWNERDEAD` when the
/// other ring's thread has ended, and `ENXIO` when its table is gone.
#[doc(alias("IORING_MSG_SEND_FD", "io_uring_prep_msg_ring_fd_alloc"))]
#[derive(Debug)]
pub struct PassFile {
    file: FixedFile,
    to: Passage,
}

impl PassFile {
    /// Puts `file` into the table of `to`.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] when that one's ring is gone.
    pub fn new(file: FixedFile, to: &FileSender) -> Result<Self, SendError> {
        Ok(Self { file, to: to.passage()? })
    }
}

// SAFETY: OP1: the entry points to nothing, its descriptor is of `to`, and the number of the file
// is of the ring that `belongs_to` compares. It completes once, and posts nothing elsewhere (OP2).
// The place that it names is owned by what `finish` makes of it, which nobody else does (OP3).
unsafe impl Op for PassFile {
    type Output = Outcome<PassedFile, FixedFile>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.file.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        let fd = sender::named(self.to.base());
        let index = self.file.index().cast_unsigned();
        prep::msg_ring_fd_alloc(fd, index, 0, MsgRingFlags::CQE_SKIP)
    }

    fn finish(self, done: Done) -> Self::Output {
        let Self { file, to } = self;
        let result = done.result().map(|_| to.arrived(done.raw()));
        Outcome { result, fd: file, buf: () }
    }
}
