//! Bytes that move from file to file, inside the kernel: no buffer of ours holds them.
//!
//! ```text
//!   Splice    file at an offset ══► pipe            pipe ══► socket          pipe ══► pipe
//!   Tee       pipe ══► pipe, and they stay in the first as well
//! ```
//!
//! One side is a pipe always, which is the buffer: to copy a file, splice it into a pipe and out of
//! it again. Either side may be a [`FixedFile`](crate::lease::FixedFile), each on its own.
//!
//! | side | where it begins |
//! |---|---|
//! | a pipe or a socket | has no such thing: [`Offset::Current`] |
//! | a file | at its own position, which moves along, or at an offset |
//!
//! A worker thread of the kernel does the moving, and waits where the pipe is empty or full.
//!
//! Keeps OP1: they point to nothing, and own both files. Leaves to others: bytes that we are to
//! see (`file`), and pipes themselves (`pipe`).
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{SpliceFlags, SqeFlags};

use super::target::Target;
use super::{Done, Offset, Op, Outcome, RingId};
use crate::prep;

/// Moves bytes between a pipe and something else. Since Linux 5.7.
///
/// # Completion
///
/// Once, with how many bytes were moved: 0 at the end of a file, or when nobody writes to the pipe
/// any more; fewer than were asked for when there are not more, or the pipe is full. Fewer break a
/// chain.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. One that waits for a pipe ends with `EINTR`, or on some kernels
/// with 512, which has no name out here; nothing was moved then.
///
/// # Errors
///
/// Those of `splice(2)`: `EINVAL` when neither is a pipe, when both are the same one, or when a
/// file was opened for appending; `ESPIPE` for an offset in a pipe; `EAGAIN` if nothing can be
/// moved now, with [`non_block`](Self::non_block) or when either file does not block.
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
    /// Moves up to `len` bytes from `from` to `to`, from and to where either is.
    pub fn new(from: I, to: T, len: u32) -> Self {
        let (from_at, to_at) = (Offset::Current, Offset::Current);
        Self { from, from_at, to, to_at, len, flags: 0 }
    }

    /// Takes them `offset` bytes after the start. The file's own position stays.
    #[doc(alias = "splice_off_in")]
    pub fn from_at(self, offset: u64) -> Self {
        Self { from_at: Offset::At(offset), ..self }
    }

    /// Puts them `offset` bytes after the start. The file's own position stays.
    #[doc(alias = "off_out")]
    pub fn to_at(self, offset: u64) -> Self {
        Self { to_at: Offset::At(offset), ..self }
    }

    /// More will follow soon: a socket waits for it, to fill its packets.
    #[doc(alias = "SPLICE_F_MORE")]
    pub fn more(self) -> Self {
        Self { flags: self.flags | libc::SPLICE_F_MORE, ..self }
    }

    /// Does not wait for a pipe. The other side may wait all the same.
    #[doc(alias = "SPLICE_F_NONBLOCK")]
    pub fn non_block(self) -> Self {
        Self { flags: self.flags | libc::SPLICE_F_NONBLOCK, ..self }
    }
}

/// How the kernel is told of the file that is read from: its number, and whether that is a place in
/// the ring's table.
fn source(from: &impl Target) -> (i32, u32) {
    let aimed = from.aim(Sqe::ZERO);
    let fixed = aimed.flags.contains(SqeFlags::FIXED_FILE);
    let flags = if fixed { SpliceFlags::FD_IN_FIXED } else { SpliceFlags::empty() };
    (aimed.fd, flags.bits())
}

// SAFETY: OP1: it points to nothing, and the numbers are of `from` and `to`, which it owns and
// whose rings `belongs_to` compares. It completes once.
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

/// Shows what is in a pipe to another pipe too. Since Linux 5.8.
///
/// # Completion
///
/// Once, with how many bytes the second pipe got: 0 when nobody writes to the first any more. Fewer
/// than were asked for break a chain.
///
/// # Cancellation
///
/// As [`Splice`].
///
/// # Errors
///
/// Those of `tee(2)`: `EINVAL` when one of them is no pipe, or both are the same one; `EAGAIN` with
/// [`non_block`](Self::non_block).
#[doc(alias("IORING_OP_TEE", "io_uring_prep_tee"))]
#[derive(Debug)]
pub struct Tee<I, T> {
    from: I,
    to: T,
    len: u32,
    flags: u32,
}

impl<I, T> Tee<I, T> {
    /// Shows up to `len` bytes of `from` to `to`.
    pub fn new(from: I, to: T, len: u32) -> Self {
        Self { from, to, len, flags: 0 }
    }

    /// Waits neither for bytes nor for room.
    #[doc(alias = "SPLICE_F_NONBLOCK")]
    pub fn non_block(self) -> Self {
        Self { flags: libc::SPLICE_F_NONBLOCK, ..self }
    }
}

// SAFETY: OP1: it points to nothing, and the numbers are of `from` and `to`, which it owns and
// whose rings `belongs_to` compares. It completes once.
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
