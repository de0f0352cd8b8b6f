//! Metadata of files: `statx(2)`.
//!
//! ```text
//!   Box<Stat> ──► Statx ──► filled in by the kernel ──► size(), mode(), modified(), dio(), ..
//!       ▲                                                 │
//!       └──────────────────── reused ─────────────────────┘
//! ```
//!
//! A file system, or an older kernel, may not know everything: [`StatMask`] says what to ask for,
//! and [`Stat::mask`] what was filled in. Accessors that return an `Option` check it.
//!
//! Leaves to others: the operation (`statx`), the flags (`mask`), the limits (`limits`).

mod limits;
mod mask;
mod statx;

use std::mem::offset_of;
use std::time::{Duration, SystemTime};

use super::fs::Mode;

pub use limits::{AtomicWrite, DioAlign};
pub use mask::{StatAttributes, StatMask};
pub use statx::{Freshness, Statx};

/// The metadata of a file: `struct statx`. The kernel fills it in for a [`Statx`].
///
/// One box, made by [`Stat::boxed`], can be used for any number of operations; each overwrites it.
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
    subvol: u64,
    atomic_write_unit_min: u32,
    atomic_write_unit_max: u32,
    atomic_write_segments_max: u32,
    dio_read_offset_align: u32,
    atomic_write_unit_max_opt: u32,
    spare2: u32,
    /// Fields that newer kernels fill in, and room for future ones.
    rest: [u64; 8],
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
    assert!(offset_of!(Stat, subvol) == 160);
    assert!(offset_of!(Stat, atomic_write_unit_min) == 168);
    assert!(offset_of!(Stat, atomic_write_segments_max) == 176);
    assert!(offset_of!(Stat, dio_read_offset_align) == 180);
    assert!(offset_of!(Stat, atomic_write_unit_max_opt) == 184);
    assert!(offset_of!(Stat, rest) == 192);
};

/// A time: seconds since the start of 1970 (UTC), plus nanoseconds.
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

    /// The nanoseconds to add to the seconds: less than a second.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// Converts it to the standard library's type; `None` if that cannot hold it.
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

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// None of these: files without a place in a file system, such as an `eventfd`.
    Other,
}

impl Stat {
    /// An empty one, for the kernel to fill in.
    pub fn boxed() -> Box<Self> {
        Box::default()
    }

    /// The fields that the kernel filled in: they may be more, or fewer, than were asked for.
    pub fn mask(&self) -> StatMask {
        StatMask::from_bits_retain(self.mask)
    }

    /// The length of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The type of the file.
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

    /// How much space it takes on the device, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The preferred size of one read or write, in bytes.
    pub fn block_size(&self) -> u32 {
        self.blksize
    }

    /// The number of its hard links.
    pub fn links(&self) -> u32 {
        self.nlink
    }

    /// The ID of its owner.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The ID of its group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Its inode number on its device.
    pub fn inode(&self) -> u64 {
        self.ino
    }

    /// The device that contains it: major and minor number.
    pub fn device(&self) -> (u32, u32) {
        (self.dev_major, self.dev_minor)
    }

    /// The device that it represents, if it is one: major and minor number.
    pub fn special_device(&self) -> (u32, u32) {
        (self.rdev_major, self.rdev_minor)
    }

    /// When it was last read, as far as the mount records that.
    #[doc(alias = "stx_atime")]
    pub fn accessed(&self) -> Timestamp {
        self.atime
    }

    /// When its contents last changed.
    #[doc(alias = "stx_mtime")]
    pub fn modified(&self) -> Timestamp {
        self.mtime
    }

    /// When its contents or metadata last changed.
    #[doc(alias = "stx_ctime")]
    pub fn changed(&self) -> Timestamp {
        self.ctime
    }

    /// When it was created, if that was asked for ([`StatMask::BTIME`]) and the file system knows
    /// it.
    #[doc(alias = "stx_btime")]
    pub fn created(&self) -> Option<Timestamp> {
        self.mask().contains(StatMask::BTIME).then_some(self.btime)
    }

    /// The attributes that it has, of those in [`attributes_mask`](Self::attributes_mask). Not part
    /// of any mask: they are always filled in.
    #[doc(alias = "stx_attributes")]
    pub fn attributes(&self) -> StatAttributes {
        StatAttributes::from_bits_retain(self.attributes)
    }

    /// The attributes that its file system, or the kernel, tells. An attribute that is not in here
    /// is unknown, whatever [`attributes`](Self::attributes) says.
    #[doc(alias = "stx_attributes_mask")]
    pub fn attributes_mask(&self) -> StatAttributes {
        StatAttributes::from_bits_retain(self.attributes_mask)
    }

    /// Whether it has all of `attributes`; `None` if one of them is unknown.
    pub fn has(&self, attributes: StatAttributes) -> Option<bool> {
        let told = self.attributes_mask().contains(attributes);
        told.then(|| self.attributes().contains(attributes))
    }

    /// The mount that contains it, if that was asked for: a number that is used again after the
    /// mount is gone ([`StatMask::MNT_ID`], since Linux 5.8), or one that never is
    /// ([`StatMask::MNT_ID_UNIQUE`], since Linux 6.8). Asked for both, the kernel gives the second;
    /// [`mask`](Self::mask) says which it is.
    #[doc(alias = "stx_mnt_id")]
    pub fn mount(&self) -> Option<u64> {
        let mask = self.mask();
        let told = mask.contains(StatMask::MNT_ID) || mask.contains(StatMask::MNT_ID_UNIQUE);
        told.then_some(self.mnt_id)
    }

    /// Its subvolume, if that was asked for ([`StatMask::SUBVOL`]) and its file system has such.
    /// Since Linux 6.10.
    #[doc(alias = "stx_subvol")]
    pub fn subvolume(&self) -> Option<u64> {
        self.mask().contains(StatMask::SUBVOL).then_some(self.subvol)
    }

    /// How direct transfers must be aligned, if that was asked for ([`StatMask::DIOALIGN`]). Since
    /// Linux 6.1. Also `None` if the file does not support direct transfers, or its file system
    /// does not report this.
    pub fn dio(&self) -> Option<DioAlign> {
        let Self { dio_mem_align: mem_align, dio_offset_align: offset_align, .. } = *self;
        let told = self.mask().contains(StatMask::DIOALIGN) && mem_align > 0 && offset_align > 0;
        told.then_some(DioAlign { mem_align, offset_align })
    }

    /// What the offset and the length of a direct read must be multiples of, if that was asked for
    /// ([`StatMask::DIO_READ_ALIGN`]) and is less than [`DioAlign::offset_align`]. Since Linux
    /// 6.14. The address is aligned as for any transfer.
    #[doc(alias = "stx_dio_read_offset_align")]
    pub fn dio_read_offset_align(&self) -> Option<u32> {
        let align = self.dio_read_offset_align;
        (self.mask().contains(StatMask::DIO_READ_ALIGN) && align > 0).then_some(align)
    }

    /// The limits of a write that happens as a whole or not at all, if that was asked for
    /// ([`StatMask::WRITE_ATOMIC`]). Since Linux 6.11. Also `None` if the file supports no such
    /// write, or its file system does not report this.
    #[doc(alias("stx_atomic_write_unit_min", "stx_atomic_write_unit_max"))]
    pub fn atomic_write(&self) -> Option<AtomicWrite> {
        let (unit_min, unit_max) = (self.atomic_write_unit_min, self.atomic_write_unit_max);
        let told = self.mask().contains(StatMask::WRITE_ATOMIC) && unit_min > 0 && unit_max > 0;
        told.then_some(AtomicWrite {
            unit_min,
            unit_max,
            unit_max_opt: match self.atomic_write_unit_max_opt {
                0 => unit_max,
                opt => opt,
            },
            segments_max: self.atomic_write_segments_max,
        })
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
        // The file does not support direct transfers.
        stat.dio_mem_align = 0;
        assert_eq!(stat.dio(), None);
    }

    #[test]
    fn limits_are_none_unless_the_kernel_told_them() {
        let mut stat = Stat {
            subvol: 5,
            atomic_write_unit_min: 512,
            atomic_write_unit_max: 4096,
            atomic_write_segments_max: 1,
            dio_read_offset_align: 256,
            ..Stat::default()
        };
        assert_eq!((stat.subvolume(), stat.atomic_write()), (None, None));
        assert_eq!(stat.dio_read_offset_align(), None);
        let mask = StatMask::SUBVOL | StatMask::WRITE_ATOMIC | StatMask::DIO_READ_ALIGN;
        stat.mask = mask.bits();
        assert_eq!((stat.subvolume(), stat.dio_read_offset_align()), (Some(5), Some(256)));
        let AtomicWrite { unit_min, unit_max, unit_max_opt, segments_max } =
            stat.atomic_write().expect("it was told");
        assert_eq!((unit_min, unit_max, unit_max_opt, segments_max), (512, 4096, 4096, 1));
        stat.atomic_write_unit_max_opt = 1024;
        assert_eq!(stat.atomic_write().map(|limits| limits.unit_max_opt), Some(1024));
        // The file supports no such write.
        (stat.atomic_write_unit_min, stat.dio_read_offset_align) = (0, 0);
        assert_eq!((stat.atomic_write(), stat.dio_read_offset_align()), (None, None));
        // Either mask tells of the mount.
        assert_eq!(stat.mount(), None);
        stat.mask = StatMask::MNT_ID_UNIQUE.bits();
        assert_eq!(stat.mount(), Some(0));
    }

    #[test]
    fn an_attribute_is_unknown_unless_the_mask_has_it() {
        let (verity, dax) = (StatAttributes::VERITY, StatAttributes::DAX);
        let stat = Stat {
            attributes: (verity | StatAttributes::APPEND).bits(),
            attributes_mask: (verity | dax).bits(),
            ..Stat::default()
        };
        assert_eq!((stat.has(verity), stat.has(dax)), (Some(true), Some(false)));
        assert_eq!(stat.has(verity | dax), Some(false));
        assert_eq!(stat.has(StatAttributes::APPEND), None);
        assert!(stat.attributes().contains(StatAttributes::APPEND));
        assert!(!stat.attributes_mask().contains(StatAttributes::APPEND));
    }

    #[test]
    fn fields_lie_where_the_kernel_writes_them() {
        macro_rules! same {
            ($($ours:ident $theirs:ident)*) => {
                $(assert_eq!(offset_of!(Stat, $ours), offset_of!(raw::statx, $theirs));)*
            };
        }
        assert_eq!(size_of::<Stat>(), size_of::<raw::statx>());
        same! {
            attributes stx_attributes attributes_mask stx_attributes_mask mnt_id stx_mnt_id
            dio_mem_align stx_dio_mem_align dio_offset_align stx_dio_offset_align
            subvol stx_subvol atomic_write_unit_min stx_atomic_write_unit_min
            atomic_write_unit_max stx_atomic_write_unit_max
            atomic_write_segments_max stx_atomic_write_segments_max
            dio_read_offset_align stx_dio_read_offset_align
            atomic_write_unit_max_opt stx_atomic_write_unit_max_opt rest __spare3
        }
    }

    #[test]
    fn an_attribute_is_the_bit_of_that_name() {
        let pairs = [
            (StatAttributes::COMPRESSED, raw::STATX_ATTR_COMPRESSED),
            (StatAttributes::IMMUTABLE, raw::STATX_ATTR_IMMUTABLE),
            (StatAttributes::APPEND, raw::STATX_ATTR_APPEND),
            (StatAttributes::NO_DUMP, raw::STATX_ATTR_NODUMP),
            (StatAttributes::ENCRYPTED, raw::STATX_ATTR_ENCRYPTED),
            (StatAttributes::AUTOMOUNT, raw::STATX_ATTR_AUTOMOUNT),
            (StatAttributes::MOUNT_ROOT, raw::STATX_ATTR_MOUNT_ROOT),
            (StatAttributes::VERITY, raw::STATX_ATTR_VERITY),
            (StatAttributes::DAX, raw::STATX_ATTR_DAX),
            (StatAttributes::WRITE_ATOMIC, raw::STATX_ATTR_WRITE_ATOMIC),
        ];
        for (attribute, bits) in pairs {
            assert_eq!(attribute.bits(), u64::from(bits));
        }
    }

    #[test]
    fn a_mask_is_the_bits_of_that_name() {
        let pairs = [
            (StatMask::BASIC, raw::STATX_BASIC_STATS),
            (StatMask::KIND, raw::STATX_TYPE),
            (StatMask::MODE, raw::STATX_MODE),
            (StatMask::NLINK, raw::STATX_NLINK),
            (StatMask::UID, raw::STATX_UID),
            (StatMask::GID, raw::STATX_GID),
            (StatMask::ATIME, raw::STATX_ATIME),
            (StatMask::MTIME, raw::STATX_MTIME),
            (StatMask::CTIME, raw::STATX_CTIME),
            (StatMask::INO, raw::STATX_INO),
            (StatMask::SIZE, raw::STATX_SIZE),
            (StatMask::BLOCKS, raw::STATX_BLOCKS),
            (StatMask::BTIME, raw::STATX_BTIME),
            (StatMask::MNT_ID, raw::STATX_MNT_ID),
            (StatMask::DIOALIGN, raw::STATX_DIOALIGN),
            (StatMask::MNT_ID_UNIQUE, raw::STATX_MNT_ID_UNIQUE),
            (StatMask::SUBVOL, raw::STATX_SUBVOL),
            (StatMask::WRITE_ATOMIC, raw::STATX_WRITE_ATOMIC),
            (StatMask::DIO_READ_ALIGN, raw::STATX_DIO_READ_ALIGN),
        ];
        for (mask, bits) in pairs {
            assert_eq!(mask.bits(), bits);
            assert!(!StatMask::from_bits_retain(0).contains(mask));
        }
    }
}
