//! Pipes that the ring creates.
//!
//! ```text
//!   Pipe { ends: [-1, -1] } ──► PIPE, address of `ends` ──► Pipe { ends: [8, 9] }
//!                                                                         │  │
//!                                          (PipeReader, PipeWriter) ◄─────┴──┘
//! ```
//!
//! The kernel does not return the ends in its result, but writes them to the operation's memory.
//! They are owned as soon as the completion is consumed, and are closed if nothing takes the output
//! (OP3).
//!
//! Leaves to others: the bytes (`file`, `splice`), and the file table (`lease`).
#![allow(unsafe_code, reason = "writes entries that point to numbers, and makes those into fds")]

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use annulus_sys::abi::Sqe;

use crate::lease::{FileTable, FixedFile, Table};
use crate::op::{Done, Op, RingId};
use crate::prep;

/// Neither a descriptor nor a slot in a table.
const NONE: [i32; 2] = [-1; 2];

/// Creates a pipe, with both ends closed on `exec`: `pipe2(2)`. Since Linux 6.16.
///
/// Both ends are blocking, which an operation of a ring does not notice, but the standard library
/// does: a `read` of it waits. It holds 64 KiB; a write of more is short.
///
/// # Completion
///
/// Once, with both ends. Bytes written to the second are read from the first.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun: it does not wait.
///
/// # Errors
///
/// Those of `pipe2(2)`: `EMFILE`, `ENFILE`. `EINVAL` before Linux 6.16.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Pipe, Read, Write};
///
/// let mut ring = Setup::new(4).build()?;
/// let pipe = ring.submit(Pipe::new())?;
/// let Ok((reader, writer)) = ring.wait(pipe)? else { return Ok(()) }; // Linux 6.16
/// let write = ring.submit(Write::new(writer, "through"))?;
/// let read = ring.submit(Read::new(reader, [0; 7]))?;
/// ring.wait(write)?.result?;
/// assert_eq!(ring.wait(read)?.buf, *b"through");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_PIPE", "io_uring_prep_pipe", "pipe2"))]
#[derive(Debug)]
pub struct Pipe {
    /// Written by the kernel: the descriptors.
    ends: [i32; 2],
    flags: i32,
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipe {
    /// Creates a pipe of bytes.
    pub fn new() -> Self {
        Self { ends: NONE, flags: 0 }
    }

    /// Creates a pipe of packets: each write is one packet, and a read takes at most one.
    #[doc(alias = "O_DIRECT")]
    pub fn packets(self) -> Self {
        Self { flags: self.flags | libc::O_DIRECT, ..self }
    }

    /// Creates ends at which `read(2)` and `write(2)` do not wait. Operations of a ring still wait.
    #[doc(alias = "O_NONBLOCK")]
    pub fn non_block(self) -> Self {
        Self { flags: self.flags | libc::O_NONBLOCK, ..self }
    }

    /// Creates both ends in the ring's file table instead. Since Linux 6.16.
    #[doc(alias = "io_uring_prep_pipe_direct")]
    pub fn direct(self, table: &FileTable) -> PipeDirect {
        PipeDirect { pipe: self, table: Rc::clone(&table.0) }
    }

    /// The entry, with `more` flags.
    fn entry(&mut self, more: i32) -> Sqe {
        self.ends = NONE;
        let address = (&raw mut self.ends).expose_provenance() as u64;
        prep::pipe(address, (self.flags | more).cast_unsigned())
    }
}

// SAFETY: OP1: the address is of `ends`, which lie in place. It completes once; `finish`, which is
// called even if nothing waits, owns the descriptors that the kernel writes (OP3).
unsafe impl Op for Pipe {
    type Output = io::Result<(PipeReader, PipeWriter)>;

    fn prep(&mut self) -> Sqe {
        self.entry(libc::O_CLOEXEC)
    }

    fn finish(self, done: Done) -> Self::Output {
        done.result()?;
        // Both are taken before either is checked, so that none is lost.
        let [reader, writer] = self.ends.map(end);
        match (reader, writer) {
            (Some(reader), Some(writer)) => Ok((reader.into(), writer.into())),
            _ => Err(io::Error::other("the kernel reported success, but made no pipe")),
        }
    }
}

/// The descriptor that the kernel wrote, if it wrote one.
fn end(number: i32) -> Option<OwnedFd> {
    if number < 0 {
        return None;
    }
    // SAFETY: the kernel made it for this request, and reported it only here (OP3).
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Creates a pipe in the ring's file table: made by [`Pipe::direct`]. Since Linux 6.16.
///
/// The kernel chooses both places. There is no version for places of your own: some releases would
/// not say which they took.
///
/// # Completion
///
/// Once, with both ends: the first is read from, the second written to.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun: it does not wait.
///
/// # Errors
///
/// `ENFILE` when the table has fewer than two free slots; the table is unchanged then. `EINVAL`
/// before Linux 6.16.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Pipe, Read, Write};
///
/// let mut ring = Setup::new(4).build()?;
/// let Ok(table) = ring.file_table(2) else { return Ok(()) }; // Linux 5.19
/// let pipe = ring.submit(Pipe::new().direct(&table))?;
/// let Ok((reader, writer)) = ring.wait(pipe)? else { return Ok(()) }; // Linux 6.16
/// let write = ring.submit(Write::new(writer, "through"))?;
/// let read = ring.submit(Read::new(reader, [0; 7]))?;
/// ring.wait(write)?.result?;
/// assert_eq!(ring.wait(read)?.buf, *b"through");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_PIPE", "io_uring_prep_pipe_direct"))]
#[derive(Debug)]
pub struct PipeDirect {
    /// Written by the kernel: the slots.
    pipe: Pipe,
    table: Rc<Table>,
}

// SAFETY: OP1: the address is of the numbers in `pipe`, which lie in place; the table is of the
// ring that `belongs_to` compares. It completes once; only `finish` adopts the slots that the
// kernel writes (OP3).
unsafe impl Op for PipeDirect {
    type Output = io::Result<(FixedFile, FixedFile)>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.table.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::direct_alloc(self.pipe.entry(0))
    }

    fn finish(self, done: Done) -> Self::Output {
        done.result()?;
        let [reader, writer] = self.pipe.ends.map(|place| Table::adopt(&self.table, place));
        let both = reader.zip(writer);
        both.ok_or_else(|| io::Error::other("the kernel named slots that are not free"))
    }
}
