//! Files that last: what a device has of them, and how much room they take.
//!
//! ```text
//!   │ data │ hole │ data │ reserved │        size: what `Ftruncate` sets
//!                        │          └ Room::Reserve, Room::ReserveKeepSize
//!          └ Room::Punch └ size
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
//! Keeps OP1: they point to nothing, and own the file. Leaves to others: the bytes (`file`).
#![allow(unsafe_code, reason = "writes entries")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::FsyncFlags;

use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::prep;

/// Waits until the device has what was written to a file. Since Linux 5.1.
///
/// Writes that are still in flight may be in it or not: wait for them first.
///
/// # Completion
///
/// Once, when the device has told that it is done, with 0. A worker thread of the kernel does the
/// waiting.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `EIO` and others of the device tell of earlier writes, each once for a descriptor: what was not
/// written by then may be lost, and another [`Fsync`] that succeeds does not say that it is not.
/// Since Linux 6.0 an error does not break a chain: what is behind it runs.
#[doc(alias("IORING_OP_FSYNC", "io_uring_prep_fsync", "fdatasync"))]
#[derive(Debug)]
pub struct Fsync<F> {
    fd: F,
    flags: FsyncFlags,
}

impl<F> Fsync<F> {
    /// Waits for the data, and for all that is known of the file, as `fsync(2)`.
    pub fn new(fd: F) -> Self {
        Self { fd, flags: FsyncFlags::empty() }
    }

    /// Waits for the data, and for what is needed to read it back (the size), as `fdatasync(2)`:
    /// not for times, so that often one write to the device less is waited for.
    #[doc(alias = "IORING_FSYNC_DATASYNC")]
    pub fn data_only(self) -> Self {
        Self { flags: FsyncFlags::DATASYNC, ..self }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
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

/// What becomes of a range of a file: the combinations of `FALLOC_FL_*` that the kernel takes.
///
/// Where offset and length must be multiples of the file system's block, others are `EINVAL`.
#[doc(alias = "FALLOC_FL")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Room {
    /// It has room on the device, so that writes to it will not fail for lack of it. What is new
    /// reads as zeroes, and the file grows if the range ends behind it.
    #[default]
    Reserve,
    /// As `Reserve`, and the file's size stays.
    #[doc(alias = "FALLOC_FL_KEEP_SIZE")]
    ReserveKeepSize,
    /// It becomes a hole: it reads as zeroes, and takes no room. The file's size stays.
    #[doc(alias = "FALLOC_FL_PUNCH_HOLE")]
    Punch,
    /// It reads as zeroes and has room. The file grows if the range ends behind it.
    #[doc(alias = "FALLOC_FL_ZERO_RANGE")]
    Zero,
    /// As `Zero`, and the file's size stays.
    ZeroKeepSize,
    /// It is cut out: what lies behind moves up, and the file shrinks. In whole blocks.
    #[doc(alias = "FALLOC_FL_COLLAPSE_RANGE")]
    Collapse,
    /// A hole is put in there: what lies behind moves down, and the file grows. In whole blocks.
    #[doc(alias = "FALLOC_FL_INSERT_RANGE")]
    Insert,
    /// What it shares with other files (reflinks) becomes its own, so that writes to it will not
    /// fail for lack of room.
    #[doc(alias = "FALLOC_FL_UNSHARE_RANGE")]
    Unshare,
    /// It reads as zeroes that the device has written, so that writes to it change no more than
    /// data. The file grows if the range ends behind it. Since Linux 6.17.
    #[doc(alias = "FALLOC_FL_WRITE_ZEROES")]
    WriteZeroes,
}

impl Room {
    /// As the kernel is told.
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

/// Gives a range of a file room on the device, or takes it away. Since Linux 5.6.
///
/// # Completion
///
/// Once, with 0. A worker thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun; where the file system looks for signals, `EINTR` later.
///
/// # Errors
///
/// `EOPNOTSUPP` where the file system cannot do what is asked: all can [`Room::Reserve`], few all
/// of [`Room`]. `EINVAL` for no bytes at all. `ENOSPC`; `EFBIG`. Since Linux 6.0 an error does not
/// break a chain.
#[doc(alias("IORING_OP_FALLOCATE", "io_uring_prep_fallocate"))]
#[derive(Debug)]
pub struct Fallocate<F> {
    fd: F,
    room: Room,
    offset: u64,
    len: u64,
}

impl<F> Fallocate<F> {
    /// Reserves room for the `len` bytes that begin `offset` bytes after the start.
    pub fn new(fd: F, offset: u64, len: u64) -> Self {
        Self { fd, room: Room::Reserve, offset, len }
    }

    /// Does what `room` says instead.
    pub fn room(self, room: Room) -> Self {
        Self { room, ..self }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Fallocate<F> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        self.fd.aim(prep::fallocate(-1, self.room.bits(), self.offset, self.len))
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.fd, buf: () }
    }
}

/// Makes a file so many bytes long: cuts it there, or lets it grow by a hole. Since Linux 6.9.
///
/// # Completion
///
/// Once, with 0. A worker thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// `EINVAL` for what was not opened for writing, or is no file; and before Linux 6.9. An error does
/// not break a chain.
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

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
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
            (Room::Reserve, raw::FALLOC_FL_ALLOCATE_RANGE),
            (Room::ReserveKeepSize, raw::FALLOC_FL_KEEP_SIZE),
            (Room::Punch, raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE),
            (Room::Zero, raw::FALLOC_FL_ZERO_RANGE),
            (Room::ZeroKeepSize, raw::FALLOC_FL_ZERO_RANGE | raw::FALLOC_FL_KEEP_SIZE),
            (Room::Collapse, raw::FALLOC_FL_COLLAPSE_RANGE),
            (Room::Insert, raw::FALLOC_FL_INSERT_RANGE),
            (Room::Unshare, raw::FALLOC_FL_UNSHARE_RANGE),
            (Room::WriteZeroes, raw::FALLOC_FL_WRITE_ZEROES),
        ];
        for (room, bits) in pairs {
            assert_eq!(room.bits(), bits, "{room:?}");
        }
    }
}
