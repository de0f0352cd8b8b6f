//! How to open: for what, and what to make if there is no such file.
//!
//! ```text
//!   How::read_write().create(Mode::new(0o640)).append()
//!        └ O_RDWR     └ O_CREAT, and the mode  └ O_APPEND      and always O_CLOEXEC, O_LARGEFILE
//! ```
//!
//! What makes a file takes its permissions along, so neither is there without the other.
//!
//! Leaves to others: the path, and the opening (`fs`).

use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

/// The permissions of a file, as `chmod(2)` takes them: `Mode::new(0o640)`. A new file gets those
/// that the process's `umask` does not take away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mode(u32);

impl Mode {
    /// The permissions in `bits`; what else is in there is not.
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// As a number, at most `0o7777`.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode({:#o})", self.0)
    }
}

impl From<Permissions> for Mode {
    fn from(permissions: Permissions) -> Self {
        Self::new(permissions.mode())
    }
}

impl From<Mode> for Permissions {
    fn from(mode: Mode) -> Self {
        Self::from_mode(mode.0)
    }
}

/// How to open: for what, and what to make if there is no such file.
///
/// # Example
///
/// ```
/// use annulus::op::{How, Mode};
///
/// const LOG: How = How::write().create(Mode::new(0o640)).append();
/// ```
#[doc(alias("OpenOptions", "O_CLOEXEC", "O_LARGEFILE"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nothing is opened before an operation that has it completes"]
pub struct How {
    pub(super) flags: u32,
    mode: Mode,
}

/// `O_LARGEFILE` of the kernel; the C library's is 0 on machines where it is always meant.
const LARGEFILE: u32 = if cfg!(target_arch = "aarch64") { 0o400_000 } else { 0o100_000 };

impl How {
    const fn with(flags: i32) -> Self {
        let always = libc::O_CLOEXEC.cast_unsigned();
        Self { flags: flags.cast_unsigned() | always, mode: Mode(0) }
    }

    /// To read.
    #[doc(alias = "O_RDONLY")]
    pub const fn read() -> Self {
        Self::with(libc::O_RDONLY).and(LARGEFILE)
    }

    /// To write.
    #[doc(alias = "O_WRONLY")]
    pub const fn write() -> Self {
        Self::with(libc::O_WRONLY).and(LARGEFILE)
    }

    /// To read and write.
    #[doc(alias = "O_RDWR")]
    pub const fn read_write() -> Self {
        Self::with(libc::O_RDWR).and(LARGEFILE)
    }

    /// To have a name for it, as a [`Dir`] or for a [`Statx`](super::Statx): nothing can be read or
    /// written, and so no permission is needed but to find it.
    #[doc(alias = "O_PATH")]
    pub const fn path() -> Self {
        // Without `LARGEFILE`: `OPENAT2` refuses what means nothing here.
        Self::with(libc::O_PATH)
    }

    const fn and(self, flags: u32) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// Makes a file with these permissions if there is none.
    #[doc(alias = "O_CREAT")]
    pub const fn create(self, mode: Mode) -> Self {
        Self { mode, ..self.custom_flags(libc::O_CREAT) }
    }

    /// Makes a file with these permissions, and fails with `EEXIST` if there is one.
    #[doc(alias = "O_EXCL")]
    pub const fn create_new(self, mode: Mode) -> Self {
        self.create(mode).custom_flags(libc::O_EXCL)
    }

    /// Makes a file without a name, with these permissions, on the file system of the directory
    /// that the path names. To write, or to read and write.
    #[doc(alias = "O_TMPFILE")]
    pub const fn temporary(self, mode: Mode) -> Self {
        Self { mode, ..self.custom_flags(libc::O_TMPFILE) }
    }

    /// Empties the file.
    #[doc(alias = "O_TRUNC")]
    pub const fn truncate(self) -> Self {
        self.custom_flags(libc::O_TRUNC)
    }

    /// Writes go to the file's end.
    #[doc(alias = "O_APPEND")]
    pub const fn append(self) -> Self {
        self.custom_flags(libc::O_APPEND)
    }

    /// Transfers bypass the page cache, and must be aligned: [`Stat::dio`](super::Stat::dio) says
    /// how.
    #[doc(alias = "O_DIRECT")]
    pub const fn direct(self) -> Self {
        self.custom_flags(libc::O_DIRECT)
    }

    /// Each write is durable when it completes, with what is needed to read it back.
    #[doc(alias = "O_DSYNC")]
    pub const fn data_sync(self) -> Self {
        self.custom_flags(libc::O_DSYNC)
    }

    /// Each write is durable when it completes, with all that is known of the file.
    #[doc(alias = "O_SYNC")]
    pub const fn sync(self) -> Self {
        self.custom_flags(libc::O_SYNC)
    }

    /// Fails with `ENOTDIR` unless it is a directory.
    #[doc(alias = "O_DIRECTORY")]
    pub const fn directory(self) -> Self {
        self.custom_flags(libc::O_DIRECTORY)
    }

    /// Fails with `ELOOP` if it is a symbolic link; with [`path`](Self::path), opens the link.
    #[doc(alias = "O_NOFOLLOW")]
    pub const fn no_follow(self) -> Self {
        self.custom_flags(libc::O_NOFOLLOW)
    }

    /// Does not wait for the other end of a FIFO.
    #[doc(alias = "O_NONBLOCK")]
    pub const fn non_block(self) -> Self {
        self.custom_flags(libc::O_NONBLOCK)
    }

    /// With other `O_*` of `open(2)` as well. What the file is opened for stays.
    pub const fn custom_flags(self, flags: i32) -> Self {
        self.and((flags & !libc::O_ACCMODE).cast_unsigned())
    }

    /// The permissions, if a file may be made: otherwise `OPENAT2` refuses them.
    pub(super) const fn mode(self) -> u32 {
        let tmpfile = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let makes = self.flags & (libc::O_CREAT | tmpfile).cast_unsigned() != 0;
        if makes { self.mode.0 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_is_closed_on_exec_and_large() {
        for how in [How::read(), How::write().truncate(), How::read_write().append()] {
            let flags = how.flags.cast_signed();
            assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
            assert_eq!(how.flags & LARGEFILE, linux_raw_sys::general::O_LARGEFILE);
        }
        let path = (libc::O_PATH | libc::O_CLOEXEC).cast_unsigned();
        assert_eq!(How::path().flags, path);
    }

    #[test]
    fn permissions_go_with_what_may_make_a_file() {
        let mode = Mode::new(0o100_640);
        assert_eq!(How::write().create(mode).mode(), 0o640);
        assert_eq!(How::write().temporary(mode).mode(), 0o640);
        assert_eq!(How { mode, ..How::read().directory() }.mode(), 0);
        assert_eq!(format!("{mode:?}"), "Mode(0o640)");
        assert_eq!(Mode::from(Permissions::from(mode)), mode);
    }

    #[test]
    fn what_a_file_is_opened_for_is_not_custom() {
        let how = How::read().custom_flags(libc::O_RDWR | libc::O_NOATIME);
        assert_eq!(how.flags.cast_signed() & libc::O_ACCMODE, libc::O_RDONLY);
        assert_eq!(how.flags.cast_signed() & libc::O_NOATIME, libc::O_NOATIME);
    }
}
