//! Nops, which the kernel completes without doing anything: for tests, measurements, and waking a
//! ring.
//!
//! | operation | does nothing, but | since |
//! |---|---|---|
//! | [`Nop`] | completes | Linux 5.1 |
//! | [`NopAnswer`]: [`Nop::answering`] | completes with the result that it is given | Linux 6.10 |
//! | [`NopFile`] | looks up a file | Linux 6.13 |
//! | [`NopBuf`] | looks up a registered buffer | Linux 6.13 |
//!
//! With these a program can rehearse the failure of an operation, or measure the cost of a lookup.
//! Their results are limited to those that other operations can have, and the kernel treats them
//! like any other operation: a failure breaks a chain.
//!
//! Two nops are available only as raw [entries](crate::prep): the one whose completion has 32
//! bytes, since no operation uses the extra bytes, and the one whose entry has 128 bytes.
#![allow(unsafe_code, reason = "writes entries")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{NopFlags, SqeFlags};

use crate::lease::FixedBuf;
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// Does nothing. Since Linux 5.1.
///
/// It goes the whole way of an operation, with a slot, an entry and a completion: what it costs is
/// what the ring costs. On a [drained](Op::drained) one everything that came before has ended; as a
/// step of a chain it is a place that a step before it can break.
///
/// # Completion
///
/// At once, with 0.
///
/// # Cancellation
///
/// Not possible: it has completed before a cancel can find it.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::Nop;
///
/// let mut ring = Setup::new(4).build()?;
/// let nop = ring.submit(Nop)?;
/// assert_eq!(ring.wait(nop)??, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_NOP")]
#[doc(alias = "io_uring_prep_nop")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Nop;

impl Nop {
    /// Returns a nop with this result: a number of at most `i32::MAX`, or an error.
    pub fn answering(self, result: Result<u32, Errno>) -> NopAnswer {
        let result = match result {
            Ok(number) => i32::try_from(number).unwrap_or(i32::MAX),
            // The kernel's error codes end at 4095 (`MAX_ERRNO`).
            Err(errno) => -errno.raw().clamp(1, 4095),
        };
        NopAnswer { result, flags: NopFlags::INJECT_RESULT }
    }
}

// SAFETY: OP1 to OP3: it points to nothing, completes once, and its result names nothing.
unsafe impl Op for Nop {
    type Output = io::Result<u32>;

    #[inline]
    fn prep(&mut self) -> Sqe {
        prep::nop()
    }

    #[inline]
    fn finish(self, done: Done) -> Self::Output {
        done.result()
    }
}

/// Does nothing, and completes with a given result: made by [`Nop::answering`]. Since Linux 6.10.
///
/// It is for tests: the error breaks a chain as that of any other operation, so the path for a
/// failing disk can be walked without one.
///
/// # Completion
///
/// With that result, at once; if [deferred](Self::deferred), when the ring runs its task work.
///
/// # Cancellation
///
/// Not possible: it has completed before a cancel can find it.
///
/// # Errors
///
/// The error that it was given. `EINVAL` before Linux 6.10, and for a deferred nop before Linux
/// 6.17 (6.16 has the flag only in its headers).
///
/// # Example
///
/// ```
/// use annulus::op::Nop;
/// use annulus::sys::errno::Errno;
/// use annulus::Setup;
///
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::BIND) {
/// #     return Ok(());
/// # }
/// let mut ring = Setup::new(4).build()?;
/// let broken = ring.submit(Nop.answering(Err(Errno::new(libc::EIO))))?;
/// let error = ring.wait(broken)?.expect_err("it was told to fail");
/// assert_eq!(error.raw_os_error(), Some(libc::EIO));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_NOP", "io_uring_prep_nop", "IORING_NOP_INJECT_RESULT"))]
#[derive(Debug, Clone, Copy)]
pub struct NopAnswer {
    result: i32,
    flags: NopFlags,
}

impl NopAnswer {
    /// Completes through task work, like an operation that had to wait: the ring is notified, and
    /// completes the nop when it is next entered. Since Linux 6.17.
    #[doc(alias = "IORING_NOP_TW")]
    pub fn deferred(self) -> Self {
        Self { flags: self.flags | NopFlags::TW, ..self }
    }
}

// SAFETY: OP1 to OP3: it points to nothing, completes once, and its result names nothing.
unsafe impl Op for NopAnswer {
    type Output = io::Result<u32>;

    fn prep(&mut self) -> Sqe {
        prep::nop_with(self.flags, self.result, -1, 0)
    }

    fn finish(self, done: Done) -> Self::Output {
        done.result()
    }
}

/// Looks up a file, and does nothing with it. Since Linux 6.13.
///
/// It measures what looking a file up costs: a descriptor, with the process's table, or a
/// [`FixedFile`](crate::lease::FixedFile), with the ring's.
///
/// # Completion
///
/// At once, without a value.
///
/// # Cancellation
///
/// Not possible: it has completed before a cancel can find it.
///
/// # Errors
///
/// `EINVAL` before Linux 6.13.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{NopBuf, NopFile};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let look = ring.submit(NopFile::new(File::open("/dev/null")?))?;
/// if let Err(error) = ring.wait(look)?.result {
///     return Ok(println!("needs Linux 6.13: {error}"));
/// }
/// let pool = ring.fixed_pool(1, 64)?;
/// let look = ring.submit(NopBuf::new(pool.get().expect("it is free")))?;
/// ring.wait(look)?.result?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_NOP", "IORING_NOP_FILE", "IORING_NOP_FIXED_FILE"))]
#[derive(Debug)]
pub struct NopFile<F> {
    fd: F,
}

impl<F: Target> NopFile<F> {
    /// Looks up `fd`.
    pub fn new(fd: F) -> Self {
        Self { fd }
    }
}

// SAFETY: OP1: the descriptor is of `fd`. It completes once, and its result names nothing.
unsafe impl<F: Target> Op for NopFile<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let sqe = self.fd.aim(prep::nop_with(NopFlags::FILE, 0, -1, 0));
        // A nop has its own flag for a fixed file, and ignores the flag of other operations.
        let fixed = sqe.flags.contains(SqeFlags::FIXED_FILE);
        let more = if fixed { NopFlags::FIXED_FILE } else { NopFlags::empty() };
        Sqe { op_flags: sqe.op_flags | more.bits(), ..sqe }
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// Looks up a registered buffer, and does nothing with it. Since Linux 6.13.
///
/// It measures what looking a buffer up costs. Nothing is read or written.
///
/// # Completion
///
/// At once, without a value.
///
/// # Cancellation
///
/// Not possible: it has completed before a cancel can find it.
///
/// # Errors
///
/// `EINVAL` before Linux 6.13.
#[doc(alias("IORING_OP_NOP", "IORING_NOP_FIXED_BUFFER"))]
#[derive(Debug)]
pub struct NopBuf {
    buf: FixedBuf,
}

impl NopBuf {
    /// Looks up `buf`.
    pub fn new(buf: FixedBuf) -> Self {
        Self { buf }
    }
}

// SAFETY: OP1: the buffer's index is of the ring that `belongs_to` compares, and nothing is read or
// written. It completes once, and its result names nothing.
unsafe impl Op for NopBuf {
    type Output = Outcome<(), (), FixedBuf>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.buf.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        prep::nop_with(NopFlags::FIXED_BUFFER, 0, -1, self.buf.index())
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: (), buf: self.buf }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_that_the_kernel_could_give() {
        let answer = |result| Nop.answering(result).result;
        assert_eq!(answer(Ok(u32::MAX)), i32::MAX);
        for (errno, number) in [(0, -1), (5, -5), (-5, -5), (i32::MAX, -4095), (i32::MIN, -1)] {
            assert_eq!(answer(Err(Errno::new(errno))), number);
        }
    }
}
