//! Reading and writing bytes.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

use super::{Entry, UseFixed, address, at, on, selecting};

/// Does nothing, and completes.
#[derive(Debug)]
pub struct Nop(Sqe);

impl Nop {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::NOP.0;

    /// An entry that points to nothing.
    #[inline]
    pub fn new() -> Self {
        Self(at(Opcode::NOP, -1))
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

impl Default for Nop {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads into one buffer, as `pread(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Read(Sqe);

impl Read {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::READ.0;

    /// Reads up to `len` bytes into `buf`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *mut u8, len: u32) -> Self {
        Self(Sqe { addr: address(buf), len, ..on(Opcode::READ, fd) })
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The group from which the kernel selects the buffer, with
    /// [`Flags::BUFFER_SELECT`](super::super::squeue::Flags::BUFFER_SELECT).
    #[inline]
    pub const fn buf_group(mut self, buf_group: u16) -> Self {
        self.0.buf_index = buf_group;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Writes from one buffer, as `pwrite(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Write(Sqe);

impl Write {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::WRITE.0;

    /// Writes up to `len` bytes from `buf`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *const u8, len: u32) -> Self {
        Self(Sqe { addr: address(buf), len, ..on(Opcode::WRITE, fd) })
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The write stream, or 0 for none. Since Linux 6.16; ignored before.
    #[inline]
    pub const fn write_stream(mut self, write_stream: u8) -> Self {
        self.0.file_index = write_stream as u32;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads into several buffers, as `preadv2(2)`.
#[derive(Debug)]
pub struct Readv(Sqe);

impl Readv {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::READV.0;

    /// Reads into the `len` buffers of the array at `iovec`.
    #[inline]
    pub fn new(fd: impl UseFixed, iovec: *const libc::iovec, len: u32) -> Self {
        Self(Sqe { addr: address(iovec), len, ..on(Opcode::READV, fd) })
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The group from which the kernel selects the buffer, with
    /// [`Flags::BUFFER_SELECT`](super::super::squeue::Flags::BUFFER_SELECT).
    #[inline]
    pub const fn buf_group(mut self, buf_group: u16) -> Self {
        self.0.buf_index = buf_group;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Writes from several buffers, as `pwritev2(2)`.
#[derive(Debug)]
pub struct Writev(Sqe);

impl Writev {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::WRITEV.0;

    /// Writes from the `len` buffers of the array at `iovec`.
    #[inline]
    pub fn new(fd: impl UseFixed, iovec: *const libc::iovec, len: u32) -> Self {
        Self(Sqe { addr: address(iovec), len, ..on(Opcode::WRITEV, fd) })
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The write stream, or 0 for none. Since Linux 6.16; ignored before.
    #[inline]
    pub const fn write_stream(mut self, write_stream: u8) -> Self {
        self.0.file_index = write_stream as u32;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads into a registered buffer.
#[derive(Debug)]
pub struct ReadFixed(Sqe);

impl ReadFixed {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::READ_FIXED.0;

    /// Reads up to `len` bytes to `buf`, which lies in the registered buffer `buf_index`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *mut u8, len: u32, buf_index: u16) -> Self {
        Self(Sqe { addr: address(buf), len, buf_index, ..on(Opcode::READ_FIXED, fd) })
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Writes from a registered buffer.
#[derive(Debug)]
pub struct WriteFixed(Sqe);

impl WriteFixed {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::WRITE_FIXED.0;

    /// Writes up to `len` bytes from `buf`, which lies in the registered buffer `buf_index`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *const u8, len: u32, buf_index: u16) -> Self {
        Self(Sqe { addr: address(buf), len, buf_index, ..on(Opcode::WRITE_FIXED, fd) })
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The write stream, or 0 for none. Since Linux 6.16; ignored before.
    #[inline]
    pub const fn write_stream(mut self, write_stream: u8) -> Self {
        self.0.file_index = write_stream as u32;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads into several parts of a registered buffer. Since Linux 6.15.
#[derive(Debug)]
pub struct ReadvFixed(Sqe);

impl ReadvFixed {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::READV_FIXED.0;

    /// Reads into the `len` parts that the array at `iovec` names.
    #[inline]
    pub fn new(fd: impl UseFixed, iovec: *const libc::iovec, len: u32, buf_index: u16) -> Self {
        Self(Sqe { addr: address(iovec), len, buf_index, ..on(Opcode::READV_FIXED, fd) })
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Writes from several parts of a registered buffer. Since Linux 6.15.
#[derive(Debug)]
pub struct WritevFixed(Sqe);

impl WritevFixed {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::WRITEV_FIXED.0;

    /// Writes from the `len` parts that the array at `iovec` names.
    #[inline]
    pub fn new(fd: impl UseFixed, iovec: *const libc::iovec, len: u32, buf_index: u16) -> Self {
        Self(Sqe { addr: address(iovec), len, buf_index, ..on(Opcode::WRITEV_FIXED, fd) })
    }

    /// The priority: see `ioprio_set(2)`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// Where in the file; `u64::MAX` is the file's own position.
    #[inline]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.0.off = offset;
        self
    }

    /// `RWF_*`, as of `preadv2(2)`.
    #[inline]
    pub const fn rw_flags(mut self, rw_flags: i32) -> Self {
        self.0.op_flags = rw_flags.cast_unsigned();
        self
    }

    /// The write stream, or 0 for none. Since Linux 6.16; ignored before.
    #[inline]
    pub const fn write_stream(mut self, write_stream: u8) -> Self {
        self.0.file_index = write_stream as u32;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads again and again, into buffers that the kernel selects. Since Linux 6.7.
#[derive(Debug)]
pub struct ReadMulti(Sqe);

impl ReadMulti {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::READ_MULTISHOT.0;

    /// Reads up to `len` bytes into each buffer; 0 means its size.
    #[inline]
    pub fn new(fd: impl UseFixed, len: u32, buf_group: u16) -> Self {
        Self(Sqe { len, ..selecting(on(Opcode::READ_MULTISHOT, fd), buf_group) })
    }

    /// Where in the file; `u64::MAX` is the file's own position.
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
