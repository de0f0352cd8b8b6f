//! What is stored, how it is moved, and which buffers the kernel has.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SpliceFlags;
use annulus_sys::opcode::Opcode;

use super::super::types::{FsyncFlags, Target};
use super::{Entry, UseFixed, address, at, on};

/// Waits until what was written is on the device, as `fsync(2)`. It is not ordered after writes
/// that are in flight: link it to them, or wait for them first.
#[derive(Debug)]
pub struct Fsync(Sqe);

impl Fsync {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FSYNC.0;

    /// All of the file.
    #[inline]
    pub fn new(fd: impl UseFixed) -> Self {
        Self(on(Opcode::FSYNC, fd))
    }

    /// Where the range begins.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// How many bytes the range has; 0 means up to the end.
    #[inline]
    pub const fn len(mut self, len: u32) -> Self {
        self.0.len = len;
        self
    }

    /// Flags.
    #[inline]
    pub const fn flags(mut self, flags: FsyncFlags) -> Self {
        self.0.op_flags = flags.bits();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Writes a range back, as `sync_file_range(2)`. Since Linux 5.2.
#[derive(Debug)]
pub struct SyncFileRange(Sqe);

impl SyncFileRange {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SYNC_FILE_RANGE.0;

    /// `len` bytes; 0 means up to the end.
    #[inline]
    pub fn new(fd: impl UseFixed, len: u32) -> Self {
        Self(Sqe { len, ..on(Opcode::SYNC_FILE_RANGE, fd) })
    }

    /// Where the range begins.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `SYNC_FILE_RANGE_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Allocates, frees or zeroes space, as `fallocate(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Fallocate(Sqe);

impl Fallocate {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FALLOCATE.0;

    /// `len` bytes.
    #[inline]
    pub fn new(fd: impl UseFixed, len: u64) -> Self {
        Self(Sqe { addr: len, ..on(Opcode::FALLOCATE, fd) })
    }

    /// Where the range begins.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `FALLOC_FL_*`.
    #[inline]
    pub const fn mode(mut self, mode: i32) -> Self {
        self.0.len = mode.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sets the size of a file, as `ftruncate(2)`. Since Linux 6.9.
#[derive(Debug)]
pub struct Ftruncate(Sqe);

impl Ftruncate {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FTRUNCATE.0;

    /// To `len` bytes.
    #[inline]
    pub fn new(fd: impl UseFixed, len: u64) -> Self {
        Self(Sqe { off: len, ..on(Opcode::FTRUNCATE, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Says how a range of a file will be used, as `posix_fadvise(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Fadvise(Sqe);

impl Fadvise {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FADVISE.0;

    /// `len` bytes; 0 means up to the end. More than `u32::MAX` need Linux 6.10: earlier kernels
    /// refuse them.
    #[inline]
    pub fn new(fd: impl UseFixed, len: libc::off_t, advice: i32) -> Self {
        let sqe = Sqe { op_flags: advice.cast_unsigned(), ..on(Opcode::FADVISE, fd) };
        Self(match u32::try_from(len) {
            Ok(len) => Sqe { len, ..sqe },
            Err(_) => Sqe { addr: len.cast_unsigned(), ..sqe },
        })
    }

    /// Where the range begins.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Says how memory will be used, as `madvise(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Madvise(Sqe);

impl Madvise {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::MADVISE.0;

    /// `len` bytes from `addr` on. More than `u32::MAX` need Linux 6.10: earlier kernels refuse
    /// them.
    #[inline]
    pub fn new(addr: *const libc::c_void, len: libc::off_t, advice: i32) -> Self {
        let op_flags = advice.cast_unsigned();
        let sqe = Sqe { addr: address(addr), op_flags, ..at(Opcode::MADVISE, -1) };
        Self(match u32::try_from(len) {
            Ok(len) => Sqe { len, ..sqe },
            Err(_) => Sqe { off: len.cast_unsigned(), ..sqe },
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Moves bytes through a pipe, as `splice(2)`. Since Linux 5.7.
#[derive(Debug)]
pub struct Splice(Sqe);

impl Splice {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SPLICE.0;

    /// Up to `len` bytes. An offset of -1 is the file's own position, and right for a pipe.
    #[inline]
    pub fn new(
        fd_in: impl UseFixed,
        off_in: i64,
        fd_out: impl UseFixed,
        off_out: i64,
        len: u32,
    ) -> Self {
        let sqe = between(Opcode::SPLICE, fd_in, fd_out, len);
        Self(Sqe { addr: off_in.cast_unsigned(), off: off_out.cast_unsigned(), ..sqe })
    }

    /// `SPLICE_F_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = self.0.op_flags & FIXED_IN | flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Copies bytes from pipe to pipe, as `tee(2)`. Since Linux 5.8.
#[derive(Debug)]
pub struct Tee(Sqe);

impl Tee {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::TEE.0;

    /// Up to `len` bytes.
    #[inline]
    pub fn new(fd_in: impl UseFixed, fd_out: impl UseFixed, len: u32) -> Self {
        Self(between(Opcode::TEE, fd_in, fd_out, len))
    }

    /// `SPLICE_F_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = self.0.op_flags & FIXED_IN | flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Says that the file to read from is a registered one.
const FIXED_IN: u32 = SpliceFlags::FD_IN_FIXED.bits();

/// An entry with two files: the one to write to is at the usual place.
#[inline]
fn between(opcode: Opcode, fd_in: impl UseFixed, fd_out: impl UseFixed, len: u32) -> Sqe {
    let (file_index, op_flags) = match fd_in.target() {
        Target::Fd(fd) => (fd.cast_unsigned(), 0),
        Target::Fixed(index) => (index, FIXED_IN),
    };
    Sqe { file_index, op_flags, len, ..on(opcode, fd_out) }
}

/// Gives the kernel buffers to select from. Since Linux 5.7.
#[derive(Debug)]
pub struct ProvideBuffers(Sqe);

impl ProvideBuffers {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::PROVIDE_BUFFERS.0;

    /// `nbufs` buffers of `len` bytes each, adjacent from `addr` on, with ids from `bid` on.
    #[inline]
    pub fn new(addr: *mut u8, len: i32, nbufs: u16, bgid: u16, bid: u16) -> Self {
        Self(Sqe {
            addr: address(addr),
            len: len.cast_unsigned(),
            buf_index: bgid,
            off: u64::from(bid),
            ..at(Opcode::PROVIDE_BUFFERS, i32::from(nbufs))
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Takes provided buffers back. Since Linux 5.7.
#[derive(Debug)]
pub struct RemoveBuffers(Sqe);

impl RemoveBuffers {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::REMOVE_BUFFERS.0;

    /// Up to `nbufs` buffers of the group `bgid`.
    #[inline]
    pub fn new(nbufs: u16, bgid: u16) -> Self {
        Self(Sqe { buf_index: bgid, ..at(Opcode::REMOVE_BUFFERS, i32::from(nbufs)) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}
