//! What is known of a file.
//!
//! ```text
//!   Box<Stat> ──► Statx ──► filled in by the kernel ──► size(), mode(), modified(), dio(), ..
//!       ▲                                                 │
//!       └──────────────────── used again ─────────────────┘
//! ```
//!
//! A file system need not know everything, nor an older kernel: [`StatMask`] says what is asked
//! for, and [`Stat::mask`] what came. Accessors that return an `Option` look at it.
//!
//! Keeps OP1: the box and the path lie in the operation. Leaves to others: paths (`fs`).
#![allow(unsafe_code, reason = "writes entries that point to a path and to a box")]

use std::ffi::CStr;
use std::mem::offset_of;
use std::ops::BitOr;
use std::time::{Duration, SystemTime};

use annulus_sys::abi::Sqe;

use super::fs::{Dir, Mode, addr};
use super::{Done, Op, Outcome};
use crate::prep;

/// What is known of a file: `struct statx`. The kernel fills it in for a [`Statx`].
///
/// Made once, by [`Stat::boxed`], it can be used for any number of operations; each replaces all of
/// it.
#[doc(alias = "statx")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare0: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: Timestamp,
    btime: Timestamp,
    ctime: Timestamp,
    mtime: Timestamp,
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    mnt_id: u64,
    dio_mem_align: u32,
    dio_offset_align: u32,
    /// What newer kernels tell, and room for what is yet to come.
    rest: [u64; 12],
}

const _: () = {
    assert!(size_of::<Stat>() == 256);
    assert!(align_of::<Stat>() == 8);
    assert!(offset_of!(Stat, blksize) == 4);
    assert!(offset_of!(Stat, attributes) == 8);
    assert!(offset_of!(Stat, nlink) == 16);
    assert!(offset_of!(Stat, uid) == 20);
    assert!(offset_of!(Stat, mode) == 28);
    assert!(offset_of!(Stat, ino) == 32);
    assert!(offset_of!(Stat, size) == 40);
    assert!(offset_of!(Stat, blocks) == 48);
    assert!(offset_of!(Stat, attributes_mask) == 56);
    assert!(offset_of!(Stat, atime) == 64);
    assert!(offset_of!(Stat, btime) == 80);
    assert!(offset_of!(Stat, ctime) == 96);
    assert!(offset_of!(Stat, mtime) == 112);
    assert!(offset_of!(Stat, rdev_major) == 128);
    assert!(offset_of!(Stat, dev_major) == 136);
    assert!(offset_of!(Stat, mnt_id) == 144);
    assert!(offset_of!(Stat, dio_mem_align) == 152);
    assert!(offset_of!(Stat, rest) == 160);
};

/// A time of a file: seconds since 1970 began, UTC, and nanoseconds after that.
#[doc(alias = "statx_timestamp")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
    reserved: i32,
}

const _: () = {
    assert!(size_of::<Timestamp>() == 16);
    assert!(offset_of!(Timestamp, seconds) == 0);
    assert!(offset_of!(Timestamp, nanoseconds) == 8);
};

impl Timestamp {
    /// Whole seconds, rounded down; negative before 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// What is to be added to the seconds: less than a second.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// As the standard library has it; `None` if it cannot.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_secs(self.seconds.unsigned_abs());
        let second = if self.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        second?.checked_add(Duration::from_nanos(u64::from(self.nanoseconds)))
    }
}

/// How direct transfers of a file (`O_DIRECT`) must be aligned, in bytes.
#[doc(alias("STATX_DIOALIGN", "stx_dio_mem_align", "stx_dio_offset_align"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DioAlign {
    /// Of what the address in memory must be a multiple.
    pub mem_align: u32,
    /// Of what the offset in the file, and the length, must be a multiple.
    pub offset_align: u32,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// One that holds bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device of bytes.
    CharDevice,
    /// A device of blocks.
    BlockDevice,
    /// None of these: files that have no place in a file system, such as an `eventfd`.
    Other,
}

impl Stat {
    /// One to be filled in, which says nothing as yet.
    pub fn boxed() -> Box<Self> {
        Box::default()
    }

    /// What the kernel filled in: it may be more, and less, than was asked for.
    pub fn mask(&self) -> StatMask {
        StatMask(self.mask)
    }

    /// How many bytes the file has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What kind of file it is.
    pub fn kind(&self) -> FileKind {
        match u32::from(self.mode) & libc::S_IFMT {
            libc::S_IFREG => FileKind::Regular,
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::Symlink,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => FileKind::Other,
        }
    }

    /// Its permissions.
    pub fn mode(&self) -> Mode {
        Mode::new(u32::from(self.mode))
    }

    /// How much room it takes on the device, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// With how many bytes at a time it is well read and written.
    pub fn block_size(&self) -> u32 {
        self.blksize
    }

    /// How many names it has.
    pub fn links(&self) -> u32 {
        self.nlink
    }

    /// The number of the user who owns it.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of the group that owns it.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Its number on its device.
    pub fn inode(&self) -> u64 {
        self.ino
    }

    /// The device that it lies on: major and minor number.
    pub fn device(&self) -> (u32, u32) {
        (self.dev_major, self.dev_minor)
    }

    /// The device that it is, if it is one: major and minor number.
    pub fn special_device(&self) -> (u32, u32) {
        (self.rdev_major, self.rdev_minor)
    }

    /// When it was last read, as far as the mount takes note of that.
    #[doc(alias = "stx_atime")]
    pub fn accessed(&self) -> Timestamp {
        self.atime
    }

    /// When its bytes last changed.
    #[doc(alias = "stx_mtime")]
    pub fn modified(&self) -> Timestamp {
        self.mtime
    }

    /// When anything of it last changed.
    #[doc(alias = "stx_ctime")]
    pub fn changed(&self) -> Timestamp {
        self.ctime
    }

    /// When it was made, if the file system knows, and was asked ([`StatMask::BTIME`]).
    #[doc(alias = "stx_btime")]
    pub fn created(&self) -> Option<Timestamp> {
        self.mask().contains(StatMask::BTIME).then_some(self.btime)
    }

    /// The mount that it was found in, if that was asked for ([`StatMask::MNT_ID`]). Since Linux
    /// 5.8.
    pub fn mount(&self) -> Option<u64> {
        self.mask().contains(StatMask::MNT_ID).then_some(self.mnt_id)
    }

    /// How direct transfers must be aligned, if that was asked for ([`StatMask::DIOALIGN`]). Since
    /// Linux 6.1. `None` as well if the file takes no direct transfers, or its file system does not
    /// tell.
    pub fn dio(&self) -> Option<DioAlign> {
        let Self { dio_mem_align: mem_align, dio_offset_align: offset_align, .. } = *self;
        let told = self.mask().contains(StatMask::DIOALIGN) && mem_align > 0 && offset_align > 0;
        told.then_some(DioAlign { mem_align, offset_align })
    }
}

/// What to find out of a file, and what was found out. Combined with `|`.
#[doc(alias = "STATX")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatMask(u32);

impl StatMask {
    /// All that `stat(2)` tells: everything but what follows.
    #[doc(alias = "STATX_BASIC_STATS")]
    pub const BASIC: Self = Self(0x7ff);
    /// What kind of file it is.
    #[doc(alias = "STATX_TYPE")]
    pub const KIND: Self = Self(0x1);
    /// Its size.
    #[doc(alias = "STATX_SIZE")]
    pub const SIZE: Self = Self(0x200);
    /// How much room it takes.
    #[doc(alias = "STATX_BLOCKS")]
    pub const BLOCKS: Self = Self(0x400);
    /// When its bytes last changed.
    #[doc(alias = "STATX_MTIME")]
    pub const MTIME: Self = Self(0x40);
    /// When it was made.
    #[doc(alias = "STATX_BTIME")]
    pub const BTIME: Self = Self(0x800);
    /// The mount that it was found in. Since Linux 5.8.
    #[doc(alias = "STATX_MNT_ID")]
    pub const MNT_ID: Self = Self(0x1000);
    /// How direct transfers must be aligned. Since Linux 6.1.
    #[doc(alias = "STATX_DIOALIGN")]
    pub const DIOALIGN: Self = Self(0x2000);

    /// The parts that are the bits of `bits`, also ones that have no name here.
    pub const fn from_bits_retain(bits: u32) -> Self {
        Self(bits)
    }

    /// As the kernel is told.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether everything of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Default for StatMask {
    fn default() -> Self {
        Self::BASIC
    }
}

impl BitOr for StatMask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How far a network file system goes for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// As far as `stat(2)` does, which depends on the file system.
    #[default]
    AsStat,
    /// To the server.
    #[doc(alias = "AT_STATX_FORCE_SYNC")]
    Forced,
    /// Not at all: what is known here, though it be old.
    #[doc(alias = "AT_STATX_DONT_SYNC")]
    Cached,
}

impl Freshness {
    fn bits(self) -> i32 {
        match self {
            Self::AsStat => libc::AT_STATX_SYNC_AS_STAT,
            Self::Forced => libc::AT_STATX_FORCE_SYNC,
            Self::Cached => libc::AT_STATX_DONT_SYNC,
        }
    }
}

/// Finds out what is known of a file. Since Linux 5.6.
///
/// # Completion
///
/// Once, with 0, when the [`Stat`] is filled in. A worker thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `statx(2)`. The [`Stat`] comes back all the same, and says what it did before. Since
/// Linux 6.0 an error does not break a chain.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, FileKind, Stat, Statx};
///
/// let mut ring = Setup::new(4).build()?;
/// let statx = ring.submit(Statx::at(Cwd, c"/proc", Stat::boxed()))?;
/// let ((), (stat, _)) = ring.wait(statx)?.ok()?;
/// assert_eq!(stat.kind(), FileKind::Directory);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_STATX", "io_uring_prep_statx"))]
#[derive(Debug)]
pub struct Statx<D, P> {
    dir: D,
    path: P,
    flags: i32,
    fresh: Freshness,
    mask: StatMask,
    out: Box<Stat>,
}

impl<F> Statx<F, &'static CStr> {
    /// Of an open file, whatever it was opened for.
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn of(fd: F, out: Box<Stat>) -> Self {
        let mut statx = Self::at(fd, c"", out);
        statx.flags |= libc::AT_EMPTY_PATH;
        statx
    }
}

impl<D, P> Statx<D, P> {
    /// Of what `path` names, seen from `dir`.
    pub fn at(dir: D, path: P, out: Box<Stat>) -> Self {
        let (mask, fresh) = (StatMask::default(), Freshness::default());
        Self { dir, path, flags: 0, fresh, mask, out }
    }

    /// Asks for this, and not for [`StatMask::BASIC`].
    pub fn want(self, mask: StatMask) -> Self {
        Self { mask, ..self }
    }

    /// If the path names a symbolic link, of the link.
    #[doc(alias = "AT_SYMLINK_NOFOLLOW")]
    pub fn no_follow(self) -> Self {
        Self { flags: self.flags | libc::AT_SYMLINK_NOFOLLOW, ..self }
    }

    /// If something would be mounted there on use, of the place as it is.
    #[doc(alias = "AT_NO_AUTOMOUNT")]
    pub fn no_automount(self) -> Self {
        Self { flags: self.flags | libc::AT_NO_AUTOMOUNT, ..self }
    }

    /// On a network file system, goes as far as `fresh` says.
    pub fn fresh(self, fresh: Freshness) -> Self {
        Self { fresh, ..self }
    }
}

// SAFETY: OP1: the path is borrowed from its owner, which lies in place, the address is of `out`,
// which has room for all that the kernel writes and takes any bytes, and the descriptor is of
// `dir`. It completes once.
unsafe impl<D: Dir, P: AsRef<CStr>> Op for Statx<D, P> {
    type Output = Outcome<(), D, (Box<Stat>, P)>;

    fn prep(&mut self) -> Sqe {
        let out = (&raw mut *self.out).expose_provenance() as u64;
        let flags = (self.flags | self.fresh.bits()).cast_unsigned();
        prep::statx(self.dir.number(), addr(&self.path), flags, self.mask.bits(), out)
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = done.result().map(drop);
        Outcome { result, fd: self.dir, buf: (self.out, self.path) }
    }
}

#[cfg(test)]
mod tests {
    use linux_raw_sys::general as raw;

    use super::*;

    #[test]
    fn a_time_before_1970_counts_backwards_and_its_nanoseconds_forwards() {
        let time = |seconds| Timestamp { seconds, nanoseconds: 250_000_000, reserved: 0 };
        let quarter = Duration::from_millis(250);
        assert_eq!(time(0).to_system_time(), Some(SystemTime::UNIX_EPOCH + quarter));
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(750);
        assert_eq!(time(-1).to_system_time(), Some(before));
        assert!(time(-2) < time(-1));
        // No panic at either end.
        assert!(time(i64::MAX).to_system_time().is_some());
        assert!(time(i64::MIN).to_system_time().is_some());
    }

    #[test]
    fn what_the_kernel_did_not_tell_is_none() {
        let mut stat = Stat { dio_mem_align: 4, dio_offset_align: 512, ..Stat::default() };
        assert_eq!((stat.dio(), stat.created(), stat.mount()), (None, None, None));
        stat.mask = (StatMask::DIOALIGN | StatMask::BTIME | StatMask::MNT_ID).bits();
        assert_eq!(stat.dio(), Some(DioAlign { mem_align: 4, offset_align: 512 }));
        assert_eq!((stat.created(), stat.mount()), (Some(Timestamp::default()), Some(0)));
        // The file takes no direct transfers.
        stat.dio_mem_align = 0;
        assert_eq!(stat.dio(), None);
    }

    #[test]
    fn a_mask_is_the_bits_of_that_name() {
        let pairs = [
            (StatMask::BASIC, raw::STATX_BASIC_STATS),
            (StatMask::KIND, raw::STATX_TYPE),
            (StatMask::SIZE, raw::STATX_SIZE),
            (StatMask::BLOCKS, raw::STATX_BLOCKS),
            (StatMask::MTIME, raw::STATX_MTIME),
            (StatMask::BTIME, raw::STATX_BTIME),
            (StatMask::MNT_ID, raw::STATX_MNT_ID),
            (StatMask::DIOALIGN, raw::STATX_DIOALIGN),
        ];
        for (mask, bits) in pairs {
            assert_eq!(mask.bits(), bits);
            assert!(!StatMask(0).contains(mask));
        }
    }
}
