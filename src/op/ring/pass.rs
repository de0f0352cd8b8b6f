//! Passing a registered file to another ring, without a descriptor.
//!
//! ```text
//!   PassFile::new(file, &sender) ──► MSG_RING, SEND_FD ──► Outcome { PassedFile, file }
//!                                        │
//!                                        └─► in a free slot of the table of `sender`
//! ```
//!
//! With this, one thread can accept connections and other threads serve them, each with its own
//! ring and file table.
//!
//! Keeps OP3: the owner of the [`PassedFile`] owns the slot. Leaves to others: tables (`lease`),
//! and waking the other ring ([`RingSender`](crate::RingSender)).
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::MsgRingFlags;

use crate::lease::fixed_file::passed::Passage;
use crate::lease::mailbox;
use crate::lease::mailbox::SendError;
use crate::lease::{FileSender, FixedFile, PassedFile};
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// Puts a file of this ring's table into a free slot of another ring's table. Since Linux 6.3.
///
/// The file also stays in this table, until its last [`FixedFile`] is dropped.
///
/// # Completion
///
/// Once, with a [`PassedFile`], which the other ring uses to
/// [receive](crate::lease::FileTable::receive) the file: send it to that thread, and wake that ring
/// if it waits. If the other ring defers its completions, its thread does the work the next time it
/// runs.
///
/// # Cancellation
///
/// It runs at once, or waits only for the other thread. It cannot be cancelled.
///
/// # Errors
///
/// `ENFILE` when the other table is full, `EINVAL` when the other ring is the sending ring,
/// `EOWNERDEAD` when the other ring's thread has ended, and `ENXIO` when its table is gone.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{InsertFile, Nop, PassFile};
/// use std::fs::File;
///
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::SEND_ZC) {
/// #     return Ok(());
/// # }
/// let (mut here, mut there) = (Setup::new(4).build()?, Setup::new(4).build()?);
/// let (ours, theirs) = (here.file_table(1)?, there.file_table(1)?);
/// let insert = here.submit(InsertFile::new(File::open("/dev/null")?, &ours))?;
/// let file = here.wait(insert)?.result?;
/// let pass = here.submit(PassFile::new(file, &theirs.sender()?)?)?;
/// here.submit_all()?;
/// let nop = there.submit(Nop)?;
/// there.wait(nop)??; // Both rings are of this thread: the other one does its part now.
/// match here.wait(pass)?.result {
///     Ok(passed) => drop(theirs.receive(passed).expect("it is in that table")),
///     Err(error) => println!("needs Linux 6.3: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_MSG_RING", "IORING_MSG_SEND_FD"))]
#[doc(alias("io_uring_prep_msg_ring_fd", "io_uring_prep_msg_ring_fd_alloc"))]
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
    /// [`SendError::Closed`] when the ring of `to` is gone.
    pub fn new(file: FixedFile, to: &FileSender) -> Result<Self, SendError> {
        Ok(Self { file, to: to.passage()? })
    }
}

// SAFETY: OP1: the entry points to nothing, its descriptor is of `to`, and the file's index is of
// the ring that `belongs_to` compares. It completes once, and posts nothing elsewhere (OP2). The
// `PassedFile` that `finish` makes is the only owner of the slot that the result names (OP3).
unsafe impl Op for PassFile {
    type Output = Outcome<PassedFile, FixedFile>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.file.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        let fd = mailbox::named(self.to.base());
        let index = self.file.index().cast_unsigned();
        prep::msg_ring_fd_alloc(fd, index, 0, MsgRingFlags::CQE_SKIP)
    }

    fn finish(self, done: Done) -> Self::Output {
        let Self { file, to } = self;
        let result = done.result().map(|_| to.arrived(done.raw()));
        Outcome { result, fd: file, buf: () }
    }
}
