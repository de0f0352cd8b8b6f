//! Bytes that move between files inside the kernel, without a buffer in user space.
//!
//! ```text
//!   Splice    file at an offset ══► pipe            pipe ══► socket          pipe ══► pipe
//!   Tee       pipe ══► pipe, and they stay in the first as well
//! ```
//!
//! One side is always a pipe, which acts as the buffer: to copy a file, splice it into a pipe and
//! out of it again. Each side may be a [`FixedFile`](crate::lease::FixedFile).
//!
//! | side | where it begins |
//! |---|---|
//! | a pipe or a socket | has no position: [`Offset::Current`] |
//! | a file | at its own position, which advances, or at an offset |
//!
//! A worker thread of the kernel moves the bytes, and waits while the pipe is empty or full.
//!
//! Keeps OP1: the entries point to nothing, and the operations own both files. Leaves to others:
//! bytes that the program needs to see (`file`), and pipes themselves (`pipe`).
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{SpliceFlags, SqeFlags};

use crate::op::target::Target;
use crate::op::{Done, Offset, Op, Outcome, RingId};
use crate::prep;

/// Moves bytes between a pipe and another file: `splice(2)`. Since Linux 5.7.
///
/// It always runs in a worker thread, which it occupies while it waits: eight splices from silent
/// pipes are eight threads, where eight reads are none. [`Poll`](crate::op::Poll) the pipe first if
/// it may stay silent.
///
/// A file that is shorter gives what it has, and the next splice gives 0. Without
/// [`from_at`](Self::from_at) the file's own position moves.
///
/// Since Linux 6.15 a linked timeout does not limit it while it waits there: see
/// [`within`](crate::StepExt::within).
///
/// # Completion
///
/// Once, with the number of bytes moved. That is 0 at the end of a file, or when the pipe is empty
/// and has no writer left; it is less than asked for when there are no more bytes, or the pipe is
/// full. A short count breaks a chain.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. A splice that waits for a pipe ends with `EINTR`, or on some
/// kernels with 512 (`ERESTARTSYS`, which has no name in user space); no bytes were moved then.
///
/// # Errors
///
/// Those of `splice(2)`: `EINVAL` when neither file is a pipe, when both are the same pipe, or when
/// the target was opened for appending; `ESPIPE` for an offset in a pipe; `EAGAIN` if no bytes can
/// be moved now, with [`non_block`](Self::non_block) or when either file is non-blocking.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Read, Splice};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let (reader, writer) = std::io::pipe()?;
/// let splice = ring.submit(Splice::new(File::open("/proc/self/exe")?, writer, 4).from_at(0))?;
/// let moved = ring.wait(splice)?.result?;
/// let read = ring.submit(Read::new(reader, [0; 4]))?;
/// assert_eq!((moved, ring.wait(read)?.buf), (4, *b"\x7fELF"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_SPLICE", "io_uring_prep_splice"))]
#[derive(Debug)]
pub struct Splice<I, T> {
    from: I,
    from_at: Offset,
    to: T,
    to_at: Offset,
    len: u32,
    flags: u32,
}

impl<I, T> Splice<I, T> {
    /// Moves up to `len` bytes from `from` to `to`, at the current position of each.
    pub fn new(from: I, to: T, len: u32) -> Self {
        let (from_at, to_at) = (Offset::Current, Offset::Current);
        Self { from, from_at, to, to_at, len, flags: 0 }
    }

    /// Reads at `offset` bytes after the start of `from`. The file's own position stays.
    #[doc(alias = "splice_off_in")]
    pub fn from_at(self, offset: u64) -> Self {
        Self { from_at: Offset::At(offset), ..self }
    }

    /// Writes at `offset` bytes after the start of `to`. The file's own position stays.
    #[doc(alias = "off_out")]
    pub fn to_at(self, offset: u64) -> Self {
        Self { to_at: Offset::At(offset), ..self }
    }

    /// Says that more data follows soon: a socket waits for it, to fill its packets.
    #[doc(alias = "SPLICE_F_MORE")]
    pub fn more(self) -> Self {
        Self { flags: self.flags | libc::SPLICE_F_MORE, ..self }
    }

    /// Does not wait for a pipe. The other file may still make it wait.
    #[doc(alias = "SPLICE_F_NONBLOCK")]
    pub fn non_block(self) -> Self {
        Self { flags: self.flags | libc::SPLICE_F_NONBLOCK, ..self }
    }
}

/// How the entry names the file that is read from: its number, and a flag if that is an index into
/// the ring's file table.
fn source(from: &impl Target) -> (i32, u32) {
    let aimed = from.aim(Sqe::ZERO);
    let fixed = aimed.flags.contains(SqeFlags::FIXED_FILE);
    let flags = if fixed { SpliceFlags::FD_IN_FIXED } else { SpliceFlags::empty() };
    (aimed.fd, flags.bits())
}

// SAFETY: OP1: the entry points to nothing, and the numbers are of `from` and `to`, which the
// operation owns and whose rings `belongs_to` compares. It completes once.
unsafe impl<I: Target, T: Target> Op for Splice<I, T> {
    type Output = Outcome<usize, (I, T)>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.from.belongs_to(ring) && self.to.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (from, fixed) = source(&self.from);
        let (from_at, to_at) = (self.from_at.raw(), self.to_at.raw());
        self.to.aim(prep::splice(from, from_at, -1, to_at, self.len, self.flags | fixed))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.len), fd: (self.from, self.to), buf: () }
    }
}

/// Copies bytes from one pipe to another, without consuming them: `tee(2)`. Since Linux 5.8.
///
/// The bytes stay in the first pipe, so the next tee copies them again: take them out with a
/// [`Splice`] or a read. It runs in a worker thread, as a splice does.
///
/// # Completion
///
/// Once, with the number of bytes copied: 0 when the first pipe is empty and has no writer left. A
/// count that is less than asked for breaks a chain.
///
/// # Cancellation
///
/// As [`Splice`].
///
/// # Errors
///
/// Those of `tee(2)`: `EINVAL` when either file is not a pipe, or both are the same pipe; `EAGAIN`
/// if no bytes can be copied now, with [`non_block`](Self::non_block).
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Read, Tee};
/// use std::io::Write;
///
/// let mut ring = Setup::new(4).build()?;
/// let (first, mut writer) = std::io::pipe()?;
/// let (second, to) = std::io::pipe()?;
/// writer.write_all(b"both")?;
/// let tee = ring.submit(Tee::new(first, to, 4))?;
/// let outcome = ring.wait(tee)?;
/// assert_eq!(outcome.result?, 4);
/// for pipe in [outcome.fd.0, second] {
///     let read = ring.submit(Read::new(pipe, [0; 4]))?;
///     assert_eq!(ring.wait(read)?.buf, *b"both");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_TEE", "io_uring_prep_tee"))]
#[derive(Debug)]
pub struct Tee<I, T> {
    from: I,
    to: T,
    len: u32,
    flags: u32,
}

impl<I, T> Tee<I, T> {
    /// Copies up to `len` bytes from the pipe `from` to the pipe `to`.
    pub fn new(from: I, to: T, len: u32) -> Self {
        Self { from, to, len, flags: 0 }
    }

    /// Waits neither for bytes nor for room.
    #[doc(alias = "SPLICE_F_NONBLOCK")]
    pub fn non_block(self) -> Self {
        Self { flags: libc::SPLICE_F_NONBLOCK, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the numbers are of `from` and `to`, which the
// operation owns and whose rings `belongs_to` compares. It completes once.
unsafe impl<I: Target, T: Target> Op for Tee<I, T> {
    type Output = Outcome<usize, (I, T)>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.from.belongs_to(ring) && self.to.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (from, fixed) = source(&self.from);
        self.to.aim(prep::tee(from, -1, self.len, self.flags | fixed))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.count(self.len), fd: (self.from, self.to), buf: () }
    }
}
