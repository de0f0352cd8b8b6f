//! Durable files: what has reached the device, and how much space a file takes.
//!
//! ```text
//!   │ data │ hole │ data │ reserved │        size: what `Ftruncate` sets
//!                        │          └ FallocateMode::Reserve, FallocateMode::ReserveKeepSize
//!          └ FallocateMode::Punch └ size
//! ```
//!
//! | operation | about | since |
//! |---|---|---|
//! | [`Fsync`] | whether what was written survives a crash | Linux 5.1 |
//! | [`Fallocate`] | which bytes have room on the device | Linux 5.6 |
//! | [`Ftruncate`] | where the file ends | Linux 6.9 |
//!
//! None of them is ordered after writes that are in flight: wait for those first, or chain them.
//!
//! Keeps OP1: the entries point to nothing, and the operations own the file. Leaves to others: the
//! bytes (`file`).
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::FsyncFlags;

use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// Waits until the data that was written to a file is on the device: `fsync(2)`. Since Linux 5.1.
///
/// It may or may not cover writes that are still in flight: wait for those first.
///
/// It is about the file, and not about its name: that a new file is found after a crash is certain
/// only if its directory was synced, too.
///
/// # Completion
///
/// Once, with 0, when the device has reported that it is done. A worker thread of the kernel does
/// the waiting.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `EIO` and other errors of the device are about earlier writes. Each is reported once for a
/// descriptor: the data may be lost, and a later [`Fsync`] that succeeds does not mean that it was
/// written. Since Linux 6.0 an error does not break a chain: the next operation still runs.
/// `EINVAL` for a file that cannot be synced, such as a pipe. A descriptor that was opened only for
/// reading will do.
///
/// # Example
///
/// ```
/// use annulus::{Setup, op};
/// use std::fs::File;
///
/// let mut ring = Setup::new(8).build()?;
/// let path = std::env::temp_dir().join(format!("annulus-fsync-{}", std::process::id()));
/// let file = File::create(&path)?;
/// let write = ring.submit(op::Write::new(file, "important"))?;
/// let outcome = ring.wait(write)?; // Only then is the write certain to be covered.
/// assert_eq!(outcome.result?, 9);
/// let fsync = ring.submit(op::Fsync::new(outcome.fd).data_only())?;
/// ring.wait(fsync)?.result?;
/// std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FSYNC", "io_uring_prep_fsync", "fdatasync"))]
#[derive(Debug)]
pub struct Fsync<F> {
    fd: F,
    flags: FsyncFlags,
}

impl<F> Fsync<F> {
    /// Waits for the data and all metadata, as `fsync(2)` does.
    pub fn new(fd: F) -> Self {
        Self { fd, flags: FsyncFlags::empty() }
    }

    /// Waits for the data, and for the metadata that is needed to read it back (the size), as
    /// `fdatasync(2)` does. It does not wait for timestamps, which often saves one write to the
    /// device.
    #[doc(alias = "IORING_FSYNC_DATASYNC")]
    pub fn data_only(self) -> Self {
        Self { flags: FsyncFlags::DATASYNC, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Fsync<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::fsync(-1, self.flags))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// What happens to a range of a file: the combinations of `FALLOC_FL_*` that the kernel accepts.
///
/// Some modes need an offset and a length that are multiples of the file system's block; other
/// values end with `EINVAL`.
#[doc(alias = "FALLOC_FL")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FallocateMode {
    /// Reserves space on the device, so that writes to the range cannot fail for lack of it. New
    /// bytes read as zeroes, and the file grows if the range ends after it.
    #[default]
    Reserve,
    /// As `Reserve`, but the file's size stays.
    #[doc(alias = "FALLOC_FL_KEEP_SIZE")]
    ReserveKeepSize,
    /// Makes the range a hole: it reads as zeroes, and takes no space. The file's size stays.
    #[doc(alias = "FALLOC_FL_PUNCH_HOLE")]
    Punch,
    /// Makes the range read as zeroes, with space reserved. The file grows if the range ends after
    /// it.
    #[doc(alias = "FALLOC_FL_ZERO_RANGE")]
    Zero,
    /// As `Zero`, but the file's size stays.
    ZeroKeepSize,
    /// Removes the range: the bytes after it move up, and the file shrinks. In whole blocks.
    #[doc(alias = "FALLOC_FL_COLLAPSE_RANGE")]
    Collapse,
    /// Inserts a hole: the bytes after it move down, and the file grows. In whole blocks.
    #[doc(alias = "FALLOC_FL_INSERT_RANGE")]
    Insert,
    /// Copies blocks that the range shares with other files (reflinks), so that writes to it cannot
    /// fail for lack of space.
    #[doc(alias = "FALLOC_FL_UNSHARE_RANGE")]
    Unshare,
    /// Makes the range read as zeroes that the device has written, so that later writes change only
    /// data, not metadata. The file grows if the range ends after it. Since Linux 6.17.
    #[doc(alias = "FALLOC_FL_WRITE_ZEROES")]
    WriteZeroes,
}

impl FallocateMode {
    /// The flags that the kernel sees.
    pub(crate) fn bits(self) -> u32 {
        const KEEP_SIZE: u32 = 0x1;
        const PUNCH_HOLE: u32 = 0x2;
        const ZERO_RANGE: u32 = 0x10;
        match self {
            Self::Reserve => 0,
            Self::ReserveKeepSize => KEEP_SIZE,
            // Without `KEEP_SIZE` the kernel refuses it.
            Self::Punch => PUNCH_HOLE | KEEP_SIZE,
            Self::Zero => ZERO_RANGE,
            Self::ZeroKeepSize => ZERO_RANGE | KEEP_SIZE,
            Self::Collapse => 0x8,
            Self::Insert => 0x20,
            Self::Unshare => 0x40,
            Self::WriteZeroes => 0x80,
        }
    }
}

/// Reserves space on the device for a range of a file, or frees it: `fallocate(2)`. Since Linux
/// 5.6.
///
/// The default mode makes the file longer, if the range ends behind its end, and the new bytes read
/// as zeroes: [`FallocateMode::ReserveKeepSize`] leaves the size as it is.
///
/// # Completion
///
/// Once, with 0. It runs in a worker thread of the kernel.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun; once begun, `EINTR` where the file system checks for signals.
///
/// # Errors
///
/// `EOPNOTSUPP` where the file system does not support the mode: all support
/// [`FallocateMode::Reserve`], few support every [`FallocateMode`]. `EINVAL` for a length of 0,
/// `EBADF` for a descriptor that was not opened for writing, `ESPIPE` for a pipe. `ENOSPC`;
/// `EFBIG`. Since Linux 6.0 an error does not break a chain.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Fallocate, FallocateMode, Ftruncate};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// # let path = std::env::temp_dir().join(format!("annulus-fallocate-{}", std::process::id()));
/// let file = File::create_new(&path)?;
/// # std::fs::remove_file(path)?;
/// let reserve = ring.submit(Fallocate::new(file, 0, 4096))?;
/// let outcome = ring.wait(reserve)?;
/// outcome.result?;
/// assert_eq!(outcome.fd.metadata()?.len(), 4096);
///
/// let cut = ring.submit(Ftruncate::new(outcome.fd, 10))?;
/// let outcome = ring.wait(cut)?;
/// match outcome.result {
///     Ok(()) => assert_eq!(outcome.fd.metadata()?.len(), 10),
///     Err(error) => println!("needs Linux 6.9: {error}"),
/// }
/// let hole = Fallocate::new(outcome.fd, 0, 10).mode(FallocateMode::Punch);
/// let hole = ring.submit(hole)?;
/// let _ = ring.wait(hole)?.result; // EOPNOTSUPP on some file systems
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FALLOCATE", "io_uring_prep_fallocate"))]
#[derive(Debug)]
pub struct Fallocate<F> {
    fd: F,
    mode: FallocateMode,
    offset: u64,
    len: u64,
}

impl<F> Fallocate<F> {
    /// Reserves space for the `len` bytes that begin at `offset` bytes from the start.
    pub fn new(fd: F, offset: u64, len: u64) -> Self {
        Self { fd, mode: FallocateMode::Reserve, offset, len }
    }

    /// Does what `mode` says instead of reserving.
    pub fn mode(self, mode: FallocateMode) -> Self {
        Self { mode, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Fallocate<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::fallocate(-1, self.mode.bits(), self.offset, self.len))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// Sets the length of a file: cuts it, or extends it with a hole. As `ftruncate(2)`. Since Linux
/// 6.9.
///
/// The file's own position stays. A write there after a cut leaves a hole before it, which reads as
/// zeroes. Memory that is mapped from behind the new end answers with `SIGBUS`.
///
/// # Completion
///
/// Once, with 0. It runs in a worker thread of the kernel.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `EINVAL` for a descriptor that was not opened for writing or is not of a regular file, for a
/// length of more than `i64::MAX`, and before Linux 6.9. An error does not break a chain.
#[doc(alias("IORING_OP_FTRUNCATE", "io_uring_prep_ftruncate"))]
#[derive(Debug)]
pub struct Ftruncate<F> {
    fd: F,
    len: u64,
}

impl<F> Ftruncate<F> {
    /// Makes the file `len` bytes long.
    pub fn new(fd: F, len: u64) -> Self {
        Self { fd, len }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Ftruncate<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::ftruncate(-1, self.len))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

#[cfg(test)]
mod tests {
    use linux_raw_sys::general as raw;

    use super::*;

    #[test]
    fn a_room_is_the_flags_of_that_name() {
        let pairs = [
            (FallocateMode::Reserve, raw::FALLOC_FL_ALLOCATE_RANGE),
            (FallocateMode::ReserveKeepSize, raw::FALLOC_FL_KEEP_SIZE),
            (FallocateMode::Punch, raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE),
            (FallocateMode::Zero, raw::FALLOC_FL_ZERO_RANGE),
            (FallocateMode::ZeroKeepSize, raw::FALLOC_FL_ZERO_RANGE | raw::FALLOC_FL_KEEP_SIZE),
            (FallocateMode::Collapse, raw::FALLOC_FL_COLLAPSE_RANGE),
            (FallocateMode::Insert, raw::FALLOC_FL_INSERT_RANGE),
            (FallocateMode::Unshare, raw::FALLOC_FL_UNSHARE_RANGE),
            (FallocateMode::WriteZeroes, raw::FALLOC_FL_WRITE_ZEROES),
        ];
        for (room, bits) in pairs {
            assert_eq!(room.bits(), bits, "{room:?}");
        }
    }
}
