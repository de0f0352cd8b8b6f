//! Names, and descriptors.

use std::os::fd::RawFd;

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

use super::super::types::{DestinationSlot, Fixed, OpenHow, Target, UseFd};
use super::{Entry, UseFixed, address, at, on};

/// Opens a file, as `openat(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct OpenAt(Sqe);

impl OpenAt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::OPENAT.0;

    /// The file at `pathname`, a string that ends in a zero byte.
    #[inline]
    pub fn new(dirfd: impl UseFd, pathname: *const libc::c_char) -> Self {
        Self(Sqe { addr: address(pathname), ..at(Opcode::OPENAT, dirfd.number()) })
    }

    /// Registers the new file at this place, in place of a descriptor.
    #[inline]
    pub const fn file_index(mut self, file_index: Option<DestinationSlot>) -> Self {
        self.0.file_index = DestinationSlot::or_descriptor(file_index);
        self
    }

    /// `O_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The permissions of a new file.
    #[inline]
    pub const fn mode(mut self, mode: libc::mode_t) -> Self {
        self.0.len = mode;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Opens a file, as `openat2(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct OpenAt2(Sqe);

impl OpenAt2 {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::OPENAT2.0;

    /// The file at `pathname`, a string that ends in a zero byte.
    #[inline]
    pub fn new(dirfd: impl UseFd, pathname: *const libc::c_char, how: *const OpenHow) -> Self {
        Self(Sqe {
            addr: address(pathname),
            len: OPEN_HOW_SIZE,
            off: address(how),
            ..at(Opcode::OPENAT2, dirfd.number())
        })
    }

    /// Registers the new file at this place, in place of a descriptor.
    #[inline]
    pub const fn file_index(mut self, file_index: Option<DestinationSlot>) -> Self {
        self.0.file_index = DestinationSlot::or_descriptor(file_index);
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// How much of an [`OpenHow`] the kernel reads.
const OPEN_HOW_SIZE: u32 = 24;
const _: () = assert!(size_of::<OpenHow>() == 24);

/// Closes a descriptor, as `close(2)`, or empties the place of a registered file. Since Linux 5.6;
/// a registered file since 5.15.
#[derive(Debug)]
pub struct Close(Sqe);

impl Close {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::CLOSE.0;

    /// The descriptor, or the registered file.
    #[inline]
    pub fn new(fd: impl UseFixed) -> Self {
        Self(match fd.target() {
            Target::Fd(fd) => at(Opcode::CLOSE, fd),
            // The kernel counts from 1 here.
            Target::Fixed(index) => {
                Sqe { file_index: index.wrapping_add(1), ..at(Opcode::CLOSE, 0) }
            }
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Replaces registered files. Since Linux 5.5.
#[derive(Debug)]
pub struct FilesUpdate(Sqe);

impl FilesUpdate {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FILES_UPDATE.0;

    /// By the `len` descriptors at `fds`. -1 empties a place.
    #[inline]
    pub fn new(fds: *const RawFd, len: u32) -> Self {
        Self(Sqe { addr: address(fds), len, ..at(Opcode::FILES_UPDATE, -1) })
    }

    /// The first index. -1 lets the kernel find empty places, whose indices it writes to `fds`.
    #[inline]
    pub const fn offset(mut self, offset: i32) -> Self {
        self.0.off = (offset as i64).cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Renames a file, as `renameat2(2)`. Since Linux 5.11.
#[derive(Debug)]
pub struct RenameAt(Sqe);

impl RenameAt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RENAMEAT.0;

    /// From `oldpath` to `newpath`.
    #[inline]
    pub fn new(
        olddirfd: impl UseFd,
        oldpath: *const libc::c_char,
        newdirfd: impl UseFd,
        newpath: *const libc::c_char,
    ) -> Self {
        Self(Sqe {
            addr: address(oldpath),
            len: newdirfd.number().cast_unsigned(),
            off: address(newpath),
            ..at(Opcode::RENAMEAT, olddirfd.number())
        })
    }

    /// `RENAME_*`.
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

/// Removes a name, as `unlinkat(2)`. Since Linux 5.11.
#[derive(Debug)]
pub struct UnlinkAt(Sqe);

impl UnlinkAt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::UNLINKAT.0;

    /// The name `pathname`.
    #[inline]
    pub fn new(dirfd: impl UseFd, pathname: *const libc::c_char) -> Self {
        Self(Sqe { addr: address(pathname), ..at(Opcode::UNLINKAT, dirfd.number()) })
    }

    /// `AT_REMOVEDIR`, or 0.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Makes a directory, as `mkdirat(2)`. Since Linux 5.15.
#[derive(Debug)]
pub struct MkDirAt(Sqe);

impl MkDirAt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::MKDIRAT.0;

    /// With the name `pathname`.
    #[inline]
    pub fn new(dirfd: impl UseFd, pathname: *const libc::c_char) -> Self {
        Self(Sqe { addr: address(pathname), ..at(Opcode::MKDIRAT, dirfd.number()) })
    }

    /// Its permissions.
    #[inline]
    pub const fn mode(mut self, mode: libc::mode_t) -> Self {
        self.0.len = mode;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Makes a symbolic link, as `symlinkat(2)`. Since Linux 5.15.
#[derive(Debug)]
pub struct SymlinkAt(Sqe);

impl SymlinkAt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SYMLINKAT.0;

    /// With the name `linkpath`, to `target`.
    #[inline]
    pub fn new(
        newdirfd: impl UseFd,
        target: *const libc::c_char,
        linkpath: *const libc::c_char,
    ) -> Self {
        Self(Sqe {
            addr: address(target),
            off: address(linkpath),
            ..at(Opcode::SYMLINKAT, newdirfd.number())
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Gives a file another name, as `linkat(2)`. Since Linux 5.15.
#[derive(Debug)]
pub struct LinkAt(Sqe);

impl LinkAt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::LINKAT.0;

    /// The file at `oldpath` is also at `newpath`.
    #[inline]
    pub fn new(
        olddirfd: impl UseFd,
        oldpath: *const libc::c_char,
        newdirfd: impl UseFd,
        newpath: *const libc::c_char,
    ) -> Self {
        Self(Sqe {
            addr: address(oldpath),
            len: newdirfd.number().cast_unsigned(),
            off: address(newpath),
            ..at(Opcode::LINKAT, olddirfd.number())
        })
    }

    /// `AT_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Gives a registered file a descriptor. Since Linux 6.8.
#[derive(Debug)]
pub struct FixedFdInstall(Sqe);

impl FixedFdInstall {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FIXED_FD_INSTALL.0;

    /// `file_flags` is `IORING_FIXED_FD_NO_CLOEXEC`, or 0.
    #[inline]
    pub fn new(fd: Fixed, file_flags: u32) -> Self {
        Self(Sqe { op_flags: file_flags, ..on(Opcode::FIXED_FD_INSTALL, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Makes a pipe, as `pipe2(2)`. Since Linux 6.16.
#[derive(Debug)]
pub struct Pipe(Sqe);

impl Pipe {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::PIPE.0;

    /// The two ends go to `fds`: first the one to read from.
    #[inline]
    pub fn new(fds: *mut RawFd) -> Self {
        Self(Sqe { addr: address(fds), ..at(Opcode::PIPE, 0) })
    }

    /// `O_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// Registers the new file at this place, in place of a descriptor.
    #[inline]
    pub const fn file_index(mut self, file_index: Option<DestinationSlot>) -> Self {
        self.0.file_index = DestinationSlot::or_descriptor(file_index);
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}
