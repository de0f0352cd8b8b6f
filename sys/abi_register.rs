//! The arguments of `io_uring_register(2)`: one struct for each operation that takes one.
//!
//! ```text
//!   operation                          argument               count
//!   BUFFERS, FILES                     [iovec], [i32]         their number
//!   BUFFERS2, FILES2                   RsrcRegister           its size
//!   BUFFERS_UPDATE, FILES_UPDATE2      RsrcUpdate2            its size
//!   FILES_UPDATE                       FilesUpdate            number of descriptors
//!   RING_FDS, UNREGISTER_RING_FDS      [RsrcUpdate]           their number
//!   EVENTFD, EVENTFD_ASYNC             i32                    1
//!   PROBE                              Probe, [ProbeOp]       number of ProbeOps, at most 256
//!   RESTRICTIONS                       [Restriction]          their number
//!     without a ring                   TaskRestriction, ..    1
//!   IOWQ_MAX_WORKERS                   [u32; 2]               2
//!   PBUF_RING, UNREGISTER_PBUF_RING    BufReg                 1
//!   PBUF_STATUS                        BufStatus              1
//!   SYNC_CANCEL                        SyncCancelReg          1
//!   FILE_ALLOC_RANGE                   FileIndexRange         0
//!   NAPI, UNREGISTER_NAPI              Napi                   1
//!   CLOCK                              ClockRegister          0
//!   CLONE_BUFFERS                      CloneBuffers           1
//!   SEND_MSG_RING                      Sqe                    1
//!   RESIZE_RINGS                       Params                 1
//!   MEM_REGION                         MemRegionReg           1
//! ```
//!
//! Operations with several structs have their own files: [`abi_query`](crate::abi_query),
//! [`abi_zcrx`](crate::abi_zcrx), [`abi_bpf`](crate::abi_bpf). These are plain numbers; reserved
//! fields must be zero. The flags are in [`flags_register`](crate::flags_register).

use core::mem::{align_of, offset_of, size_of};

use crate::abi::Timespec;
use crate::flags::CancelFlags;
use crate::flags_register::{
    CloneBuffersFlags, MemRegionFlags, NapiOp, PbufRingFlags, ProbeOpFlags, RegionDescFlags,
    RestrictionOp, RsrcRegisterFlags,
};
use crate::opcode::Opcode;

/// A table of files or buffers to register.
#[doc(alias = "io_uring_rsrc_register")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RsrcRegister {
    /// The number of slots.
    pub nr: u32,
    /// The options of the table.
    pub flags: RsrcRegisterFlags,
    /// Reserved.
    pub resv2: u64,
    /// The address of the descriptors or of the iovecs; 0 with `SPARSE`.
    pub data: u64,
    /// The address of one `u64` tag for each slot, or 0. When the kernel has released the resource
    /// of a slot, it posts a completion with that tag as its `user_data`.
    pub tags: u64,
}

const _: () = {
    assert!(size_of::<RsrcRegister>() == 32);
    assert!(align_of::<RsrcRegister>() == 8);
    assert!(offset_of!(RsrcRegister, nr) == 0);
    assert!(offset_of!(RsrcRegister, flags) == 4);
    assert!(offset_of!(RsrcRegister, resv2) == 8);
    assert!(offset_of!(RsrcRegister, data) == 16);
    assert!(offset_of!(RsrcRegister, tags) == 24);
};

/// Slots to replace in a table of files or of registered rings.
#[doc(alias = "io_uring_rsrc_update")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RsrcUpdate {
    /// The first slot; for a ring, `u32::MAX` lets the kernel choose a free one.
    pub offset: u32,
    /// Reserved.
    pub resv: u32,
    /// The address of the descriptors; for a ring, the descriptor itself.
    pub data: u64,
}

const _: () = {
    assert!(size_of::<RsrcUpdate>() == 16);
    assert!(align_of::<RsrcUpdate>() == 8);
    assert!(offset_of!(RsrcUpdate, offset) == 0);
    assert!(offset_of!(RsrcUpdate, resv) == 4);
    assert!(offset_of!(RsrcUpdate, data) == 8);
};

/// Slots to replace in a table, with their tags.
#[doc(alias = "io_uring_rsrc_update2")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RsrcUpdate2 {
    /// The first slot.
    pub offset: u32,
    /// Reserved.
    pub resv: u32,
    /// The address of the descriptors or of the iovecs.
    pub data: u64,
    /// The address of their tags, or 0.
    pub tags: u64,
    /// The number of slots.
    pub nr: u32,
    /// Reserved.
    pub resv2: u32,
}

const _: () = {
    assert!(size_of::<RsrcUpdate2>() == 32);
    assert!(align_of::<RsrcUpdate2>() == 8);
    assert!(offset_of!(RsrcUpdate2, offset) == 0);
    assert!(offset_of!(RsrcUpdate2, resv) == 4);
    assert!(offset_of!(RsrcUpdate2, data) == 8);
    assert!(offset_of!(RsrcUpdate2, tags) == 16);
    assert!(offset_of!(RsrcUpdate2, nr) == 24);
    assert!(offset_of!(RsrcUpdate2, resv2) == 28);
};

/// Slots to replace in the table of files. This is the older form of [`RsrcUpdate`].
#[doc(alias = "io_uring_files_update")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilesUpdate {
    /// The first slot.
    pub offset: u32,
    /// Reserved.
    pub resv: u32,
    /// The address of the descriptors: −1 empties a slot, −2 leaves it unchanged.
    pub fds: u64,
}

const _: () = {
    assert!(size_of::<FilesUpdate>() == 16);
    assert!(align_of::<FilesUpdate>() == 8);
    assert!(offset_of!(FilesUpdate, offset) == 0);
    assert!(offset_of!(FilesUpdate, resv) == 4);
    assert!(offset_of!(FilesUpdate, fds) == 8);
};

/// The header of a probe; the [`ProbeOp`]s follow it in memory.
#[doc(alias = "io_uring_probe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probe {
    /// From the kernel: the last operation that the kernel knows.
    pub last_op: Opcode,
    /// From the kernel: how many [`ProbeOp`]s the kernel filled in.
    pub ops_len: u8,
    /// Reserved.
    pub resv: u16,
    /// Reserved.
    pub resv2: [u32; 3],
}

const _: () = {
    assert!(size_of::<Probe>() == 16);
    assert!(align_of::<Probe>() == 4);
    assert!(offset_of!(Probe, last_op) == 0);
    assert!(offset_of!(Probe, ops_len) == 1);
    assert!(offset_of!(Probe, resv) == 2);
    assert!(offset_of!(Probe, resv2) == 4);
};

/// The result of a probe for one operation.
#[doc(alias = "io_uring_probe_op")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeOp {
    /// The operation.
    pub op: Opcode,
    /// Reserved.
    pub resv: u8,
    /// Whether this kernel has it.
    pub flags: ProbeOpFlags,
    /// Reserved.
    pub resv2: u32,
}

const _: () = {
    assert!(size_of::<ProbeOp>() == 8);
    assert!(align_of::<ProbeOp>() == 4);
    assert!(offset_of!(ProbeOp, op) == 0);
    assert!(offset_of!(ProbeOp, resv) == 1);
    assert!(offset_of!(ProbeOp, flags) == 2);
    assert!(offset_of!(ProbeOp, resv2) == 4);
};

/// One thing that a restricted ring or task may do, or must do.
#[doc(alias = "io_uring_restriction")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restriction {
    /// The kind of restriction.
    pub opcode: RestrictionOp,
    /// `register_op`, `sqe_op`, `sqe_flags`: the number of an operation, or flags.
    #[doc(alias("sqe_op", "sqe_flags"))]
    pub register_op: u8,
    /// Reserved.
    pub resv: u8,
    /// Reserved.
    pub resv2: [u32; 3],
}

const _: () = {
    assert!(size_of::<Restriction>() == 16);
    assert!(align_of::<Restriction>() == 4);
    assert!(offset_of!(Restriction, opcode) == 0);
    assert!(offset_of!(Restriction, register_op) == 2);
    assert!(offset_of!(Restriction, resv) == 3);
    assert!(offset_of!(Restriction, resv2) == 4);
};

/// Restrictions for every ring that a task makes; the [`Restriction`]s follow it in memory.
#[doc(alias = "io_uring_task_restriction")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskRestriction {
    /// Flags, of which none is defined yet.
    pub flags: u16,
    /// The number of [`Restriction`]s.
    pub nr_res: u16,
    /// Reserved.
    pub resv: [u32; 3],
}

const _: () = {
    assert!(size_of::<TaskRestriction>() == 16);
    assert!(align_of::<TaskRestriction>() == 4);
    assert!(offset_of!(TaskRestriction, flags) == 0);
    assert!(offset_of!(TaskRestriction, nr_res) == 2);
    assert!(offset_of!(TaskRestriction, resv) == 4);
};

/// The clock for the timeouts of waits.
#[doc(alias = "io_uring_clock_register")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockRegister {
    /// `CLOCK_MONOTONIC` or `CLOCK_BOOTTIME`.
    pub clockid: u32,
    /// Reserved.
    pub resv: [u32; 3],
}

const _: () = {
    assert!(size_of::<ClockRegister>() == 16);
    assert!(align_of::<ClockRegister>() == 4);
    assert!(offset_of!(ClockRegister, clockid) == 0);
    assert!(offset_of!(ClockRegister, resv) == 4);
};

/// The part of another ring's table of registered buffers to share.
#[doc(alias = "io_uring_clone_buffers")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneBuffers {
    /// The other ring.
    pub src_fd: u32,
    /// How to share them.
    pub flags: CloneBuffersFlags,
    /// The first slot in the other ring's table.
    pub src_off: u32,
    /// The first slot in our table.
    pub dst_off: u32,
    /// The number of slots; 0 means all of them.
    pub nr: u32,
    /// Reserved.
    pub pad: [u32; 3],
}

const _: () = {
    assert!(size_of::<CloneBuffers>() == 32);
    assert!(align_of::<CloneBuffers>() == 4);
    assert!(offset_of!(CloneBuffers, src_fd) == 0);
    assert!(offset_of!(CloneBuffers, flags) == 4);
    assert!(offset_of!(CloneBuffers, src_off) == 8);
    assert!(offset_of!(CloneBuffers, dst_off) == 12);
    assert!(offset_of!(CloneBuffers, nr) == 16);
    assert!(offset_of!(CloneBuffers, pad) == 20);
};

/// A buffer ring to register or unregister.
#[doc(alias = "io_uring_buf_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufReg {
    /// The address of our memory for it, page-aligned; 0 with `MMAP`.
    pub ring_addr: u64,
    /// The number of entries: a power of two, at most 32768.
    pub ring_entries: u32,
    /// The buffer group, by which submission entries name the ring.
    pub bgid: u16,
    /// The options of the ring.
    pub flags: PbufRingFlags,
    /// With `INC`: once a buffer has fewer unused bytes than this, the kernel leaves them unused.
    /// Since Linux 7.1.
    pub min_left: u32,
    /// Reserved.
    pub resv: [u32; 5],
}

const _: () = {
    assert!(size_of::<BufReg>() == 40);
    assert!(align_of::<BufReg>() == 8);
    assert!(offset_of!(BufReg, ring_addr) == 0);
    assert!(offset_of!(BufReg, ring_entries) == 8);
    assert!(offset_of!(BufReg, bgid) == 12);
    assert!(offset_of!(BufReg, flags) == 14);
    assert!(offset_of!(BufReg, min_left) == 16);
    assert!(offset_of!(BufReg, resv) == 20);
};

/// The kernel's position in a buffer ring.
#[doc(alias = "io_uring_buf_status")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufStatus {
    /// The buffer group of the ring.
    pub buf_group: u32,
    /// From the kernel: the index up to which it has selected buffers.
    pub head: u32,
    /// Reserved.
    pub resv: [u32; 8],
}

const _: () = {
    assert!(size_of::<BufStatus>() == 40);
    assert!(align_of::<BufStatus>() == 4);
    assert!(offset_of!(BufStatus, buf_group) == 0);
    assert!(offset_of!(BufStatus, head) == 4);
    assert!(offset_of!(BufStatus, resv) == 8);
};

/// Which requests to cancel, and how long to wait for them.
#[doc(alias = "io_uring_sync_cancel_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncCancelReg {
    /// The `user_data` to match.
    pub addr: u64,
    /// The file to match, with `FD`.
    pub fd: i32,
    /// Which fields to match.
    pub flags: CancelFlags,
    /// How long to wait; −1 in both fields means indefinitely.
    pub timeout: Timespec,
    /// The operation to match, with `OP`.
    pub opcode: Opcode,
    /// Reserved.
    pub pad: [u8; 7],
    /// Reserved.
    pub pad2: [u64; 3],
}

const _: () = {
    assert!(size_of::<SyncCancelReg>() == 64);
    assert!(align_of::<SyncCancelReg>() == 8);
    assert!(offset_of!(SyncCancelReg, addr) == 0);
    assert!(offset_of!(SyncCancelReg, fd) == 8);
    assert!(offset_of!(SyncCancelReg, flags) == 12);
    assert!(offset_of!(SyncCancelReg, timeout) == 16);
    assert!(offset_of!(SyncCancelReg, opcode) == 32);
    assert!(offset_of!(SyncCancelReg, pad) == 33);
    assert!(offset_of!(SyncCancelReg, pad2) == 40);
};

/// The slots in which the kernel allocates direct descriptors.
#[doc(alias = "io_uring_file_index_range")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileIndexRange {
    /// The first slot.
    pub off: u32,
    /// The number of slots.
    pub len: u32,
    /// Reserved.
    pub resv: u64,
}

const _: () = {
    assert!(size_of::<FileIndexRange>() == 16);
    assert!(align_of::<FileIndexRange>() == 8);
    assert!(offset_of!(FileIndexRange, off) == 0);
    assert!(offset_of!(FileIndexRange, len) == 4);
    assert!(offset_of!(FileIndexRange, resv) == 8);
};

/// Busy polling of network queues (NAPI). The kernel returns the previous settings here.
///
/// Until Linux 6.12 the last field was a `u64`. We keep its alignment, which fits both layouts.
#[doc(alias = "io_uring_napi")]
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Napi {
    /// How many microseconds to poll.
    pub busy_poll_to: u32,
    /// Whether to prefer polling to interrupts: 0 or 1.
    pub prefer_busy_poll: u8,
    /// The command. Since Linux 6.13.
    pub opcode: NapiOp,
    /// Reserved.
    pub pad: [u8; 2],
    /// A [`NapiTracking`](crate::flags_register::NapiTracking) or the id of a queue, depending on
    /// `opcode`. Since Linux 6.13.
    pub op_param: u32,
    /// Reserved.
    pub resv: u32,
}

const _: () = {
    assert!(size_of::<Napi>() == 16);
    assert!(align_of::<Napi>() == 8);
    assert!(offset_of!(Napi, busy_poll_to) == 0);
    assert!(offset_of!(Napi, prefer_busy_poll) == 4);
    assert!(offset_of!(Napi, opcode) == 5);
    assert!(offset_of!(Napi, pad) == 6);
    assert!(offset_of!(Napi, op_param) == 8);
    assert!(offset_of!(Napi, resv) == 12);
};

/// A memory region to register.
#[doc(alias = "io_uring_mem_region_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemRegionReg {
    /// The address of its [`RegionDesc`].
    pub region_uptr: u64,
    /// The use of the region.
    pub flags: MemRegionFlags,
    /// Reserved.
    pub resv: [u64; 2],
}

const _: () = {
    assert!(size_of::<MemRegionReg>() == 32);
    assert!(align_of::<MemRegionReg>() == 8);
    assert!(offset_of!(MemRegionReg, region_uptr) == 0);
    assert!(offset_of!(MemRegionReg, flags) == 8);
    assert!(offset_of!(MemRegionReg, resv) == 16);
};

/// The location of a memory region.
#[doc(alias = "io_uring_region_desc")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegionDesc {
    /// The address of our memory, with `TYPE_USER`; otherwise 0.
    pub user_addr: u64,
    /// Its size in bytes, in whole pages.
    pub size: u64,
    /// Which side allocates the memory.
    pub flags: RegionDescFlags,
    /// The number of the region.
    pub id: u32,
    /// From the kernel: the offset at which to map it from the descriptor with `mmap(2)`.
    pub mmap_offset: u64,
    /// Reserved.
    pub resv: [u64; 4],
}

const _: () = {
    assert!(size_of::<RegionDesc>() == 64);
    assert!(align_of::<RegionDesc>() == 8);
    assert!(offset_of!(RegionDesc, user_addr) == 0);
    assert!(offset_of!(RegionDesc, size) == 8);
    assert!(offset_of!(RegionDesc, flags) == 16);
    assert!(offset_of!(RegionDesc, id) == 20);
    assert!(offset_of!(RegionDesc, mmap_offset) == 24);
    assert!(offset_of!(RegionDesc, resv) == 32);
};
