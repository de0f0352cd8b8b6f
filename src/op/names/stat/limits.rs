//! Limits that `statx(2)` tells: the alignment of direct transfers, the length of atomic writes.
//!
//! ```text
//!   an atomic write     unit_min ≤ length ≤ unit_max, a power of two; offset: a multiple of it
//!   by the hardware     unit_min ≤ length ≤ unit_max_opt
//! ```
//!
//! Leaves to others: whether they were told (`stat`).

/// How direct transfers of a file (`O_DIRECT`) must be aligned, in bytes.
#[doc(alias("STATX_DIOALIGN", "stx_dio_mem_align", "stx_dio_offset_align"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DioAlign {
    /// The memory address must be a multiple of this.
    pub mem_align: u32,
    /// The offset in the file and the length must be multiples of this.
    pub offset_align: u32,
}

/// The limits of a write that happens as a whole or not at all, even if the power fails: a direct
/// write with [`RwFlags::ATOMIC`](crate::op::RwFlags). Its length is a power of two, and its offset
/// a multiple of that.
#[doc(alias("STATX_WRITE_ATOMIC", "RWF_ATOMIC", "stx_atomic_write_unit_max_opt"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AtomicWrite {
    /// The shortest, in bytes.
    pub unit_min: u32,
    /// The longest, in bytes.
    pub unit_max: u32,
    /// The longest that is as fast as other writes, in bytes: up to here the hardware does it. This
    /// is `unit_max` where the kernel knows no such border. Since Linux 6.16.
    pub unit_max_opt: u32,
    /// The most parts that one write may have.
    #[doc(alias = "stx_atomic_write_segments_max")]
    pub segments_max: u32,
}
