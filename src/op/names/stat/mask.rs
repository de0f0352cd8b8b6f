//! Flags of `statx(2)`: which fields to fill in, and which attributes a file has.
//!
//! | flags | ask for | told |
//! |---|---|---|
//! | [`StatMask`] | [`Statx::want`](super::Statx::want) | [`Stat::mask`](super::Stat::mask) |
//! | [`StatAttributes`] | – | [`Stat::attributes`](super::Stat::attributes) |
//!
//! Bits that have no name here pass through unchanged.

use std::ops::BitOr;

/// The fields to ask for, and the fields that were filled in. Combined with `|`.
#[doc(alias = "STATX")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatMask(u32);

impl StatMask {
    /// Everything that `stat(2)` returns: `KIND` to `BLOCKS`. The others come on top.
    #[doc(alias = "STATX_BASIC_STATS")]
    pub const BASIC: Self = Self(0x7ff);
    /// The type of the file.
    #[doc(alias = "STATX_TYPE")]
    pub const KIND: Self = Self(0x1);
    /// Its permissions.
    #[doc(alias = "STATX_MODE")]
    pub const MODE: Self = Self(0x2);
    /// The number of its hard links.
    #[doc(alias = "STATX_NLINK")]
    pub const NLINK: Self = Self(0x4);
    /// The ID of its owner.
    #[doc(alias = "STATX_UID")]
    pub const UID: Self = Self(0x8);
    /// The ID of its group.
    #[doc(alias = "STATX_GID")]
    pub const GID: Self = Self(0x10);
    /// When it was last read.
    #[doc(alias = "STATX_ATIME")]
    pub const ATIME: Self = Self(0x20);
    /// When its contents last changed.
    #[doc(alias = "STATX_MTIME")]
    pub const MTIME: Self = Self(0x40);
    /// When its contents or metadata last changed.
    #[doc(alias = "STATX_CTIME")]
    pub const CTIME: Self = Self(0x80);
    /// Its inode number.
    #[doc(alias = "STATX_INO")]
    pub const INO: Self = Self(0x100);
    /// Its length.
    #[doc(alias = "STATX_SIZE")]
    pub const SIZE: Self = Self(0x200);
    /// How much space it takes.
    #[doc(alias = "STATX_BLOCKS")]
    pub const BLOCKS: Self = Self(0x400);
    /// When it was created.
    #[doc(alias = "STATX_BTIME")]
    pub const BTIME: Self = Self(0x800);
    /// The mount that contains it. Since Linux 5.8.
    #[doc(alias = "STATX_MNT_ID")]
    pub const MNT_ID: Self = Self(0x1000);
    /// How direct transfers must be aligned. Since Linux 6.1.
    #[doc(alias = "STATX_DIOALIGN")]
    pub const DIOALIGN: Self = Self(0x2000);
    /// The mount that contains it, as a number that is never used again. Since Linux 6.8.
    #[doc(alias = "STATX_MNT_ID_UNIQUE")]
    pub const MNT_ID_UNIQUE: Self = Self(0x4000);
    /// Its subvolume. Since Linux 6.10.
    #[doc(alias = "STATX_SUBVOL")]
    pub const SUBVOL: Self = Self(0x8000);
    /// The limits of writes that happen as a whole or not at all. Since Linux 6.11.
    #[doc(alias = "STATX_WRITE_ATOMIC")]
    pub const WRITE_ATOMIC: Self = Self(0x1_0000);
    /// How direct reads must be aligned, if less than other transfers. Since Linux 6.14.
    #[doc(alias = "STATX_DIO_READ_ALIGN")]
    pub const DIO_READ_ALIGN: Self = Self(0x2_0000);

    /// The mask with these bits, including bits that have no name here.
    pub const fn from_bits_retain(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits that the kernel sees.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether it contains all of `other`.
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

/// Attributes of a file. Combined with `|`. Which of them are known depends on the file system:
/// [`Stat::attributes_mask`](super::Stat::attributes_mask).
#[doc(alias = "STATX_ATTR")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatAttributes(u64);

impl StatAttributes {
    /// The file system compresses it. Since Linux 4.11.
    #[doc(alias = "STATX_ATTR_COMPRESSED")]
    pub const COMPRESSED: Self = Self(0x4);
    /// Nobody can change, remove, rename or link it. Since Linux 4.11.
    #[doc(alias = "STATX_ATTR_IMMUTABLE")]
    pub const IMMUTABLE: Self = Self(0x10);
    /// It can only be appended to. Since Linux 4.11.
    #[doc(alias = "STATX_ATTR_APPEND")]
    pub const APPEND: Self = Self(0x20);
    /// A backup with `dump(8)` leaves it out. Since Linux 4.11.
    #[doc(alias = "STATX_ATTR_NODUMP")]
    pub const NO_DUMP: Self = Self(0x40);
    /// The file system needs a key to decrypt it. Since Linux 4.11.
    #[doc(alias = "STATX_ATTR_ENCRYPTED")]
    pub const ENCRYPTED: Self = Self(0x800);
    /// A directory that triggers an automount. Since Linux 4.11.
    #[doc(alias = "STATX_ATTR_AUTOMOUNT")]
    pub const AUTOMOUNT: Self = Self(0x1000);
    /// The root of a mount. Since Linux 5.8.
    #[doc(alias = "STATX_ATTR_MOUNT_ROOT")]
    pub const MOUNT_ROOT: Self = Self(0x2000);
    /// The kernel checks each read against a hash; it cannot be written. Since Linux 5.5.
    #[doc(alias = "STATX_ATTR_VERITY")]
    pub const VERITY: Self = Self(0x10_0000);
    /// It lies in memory that the processor addresses directly. Since Linux 5.8.
    #[doc(alias = "STATX_ATTR_DAX")]
    pub const DAX: Self = Self(0x20_0000);
    /// It supports writes that happen as a whole or not at all. Since Linux 6.11.
    #[doc(alias = "STATX_ATTR_WRITE_ATOMIC")]
    pub const WRITE_ATOMIC: Self = Self(0x40_0000);

    /// The attributes with these bits, including bits that have no name here.
    pub const fn from_bits_retain(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits that the kernel gave.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it contains all of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for StatAttributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
