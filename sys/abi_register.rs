//! What `io_uring_register(2)` is told: one struct for each operation that takes one.
//!
//! ```text
//!   operation                          argument               count
//!   BUFFERS, FILES                     [iovec], [i32]         how many
//!   BUFFERS2, FILES2                   RsrcRegister           its size
//!   BUFFERS_UPDATE, FILES_UPDATE2      RsrcUpdate2            its size
//!   FILES_UPDATE                       FilesUpdate            how many descriptors
//!   RING_FDS, UNREGISTER_RING_FDS      [RsrcUpdate]           how many
//!   EVENTFD, EVENTFD_ASYNC             i32                    1
//!   PROBE                              Probe, [ProbeOp]       how many, at most 256
//!   RESTRICTIONS                       [Restriction]          how many
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
//! The operations that carry more have files of their own: [`abi_query`](crate::abi_query),
//! [`abi_zcrx`](crate::abi_zcrx), [`abi_bpf`](crate::abi_bpf). Values only; what is reserved must
//! be zero. What the flags mean is in [`flags_register`](crate::flags_register).

use core::mem::{align_of, offset_of, size_of};

use crate::abi::Timespec;
use crate::flags::CancelFlags;
use crate::flags_register::{
    CloneBuffersFlags, MemRegionFlags, NapiOp, PbufRingFlags, ProbeOpFlags, RegionDescFlags,
    RestrictionOp, RsrcRegisterFlags,
};
use crate::opcode::Opcode;

/// A table of files or of buffers.
#[doc(alias = "io_uring_rsrc_register")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RsrcRegister {
    /// How many slots it has.
    pub nr: u32,
    /// How it is registered.
    pub flags: RsrcRegisterFlags,
    /// Reserved.
    pub resv2: u64,
    /// The address of the descriptors or of the iovecs; 0 with `SPARSE`.
    pub data: u64,
    /// The address of one `u64` for each slot, or 0: a completion with that word says that the
    /// kernel has let go of what was in the slot.
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

/// Slots of a table of files or of registered rings to replace.
#[doc(alias = "io_uring_rsrc_update")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RsrcUpdate {
    /// The first slot; for a ring, `u32::MAX` lets the kernel choose.
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

/// Slots of a table to replace, with their tags.
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
    /// How many slots.
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

/// Slots of the table of files to replace: [`RsrcUpdate`] under its first name.
#[doc(alias = "io_uring_files_update")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilesUpdate {
    /// The first slot.
    pub offset: u32,
    /// Reserved.
    pub resv: u32,
    /// The address of the descriptors: −1 empties a slot, −2 leaves it.
    pub fds: u64,
}

const _: () = {
    assert!(size_of::<FilesUpdate>() == 16);
    assert!(align_of::<FilesUpdate>() == 8);
    assert!(offset_of!(FilesUpdate, offset) == 0);
    assert!(offset_of!(FilesUpdate, resv) == 4);
    assert!(offset_of!(FilesUpdate, fds) == 8);
};

/// What a probe says as a whole; its [`ProbeOp`]s lie behind it.
#[doc(alias = "io_uring_probe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probe {
    /// From the kernel: the last operation that it knows.
    pub last_op: Opcode,
    /// From the kernel: how many [`ProbeOp`]s it filled in.
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

/// What a probe says of one operation.
#[doc(alias = "io_uring_probe_op")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeOp {
    /// Which one.
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

/// One thing that a restricted ring or task may do, or must.
#[doc(alias = "io_uring_restriction")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restriction {
    /// What it is about.
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

/// What a task may do on every ring that it makes; its [`Restriction`]s lie behind it.
#[doc(alias = "io_uring_task_restriction")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskRestriction {
    /// None is defined yet.
    pub flags: u16,
    /// How many [`Restriction`]s there are.
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

/// The clock by which waits are bounded.
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

/// The part of another ring's table of buffers to share.
#[doc(alias = "io_uring_clone_buffers")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneBuffers {
    /// The other ring.
    pub src_fd: u32,
    /// How to share.
    pub flags: CloneBuffersFlags,
    /// The first slot over there.
    pub src_off: u32,
    /// The first slot here.
    pub dst_off: u32,
    /// How many slots; 0 is all of them.
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

/// A ring of buffers to make or to end.
#[doc(alias = "io_uring_buf_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufReg {
    /// Where our memory for it lies, at the start of a page; 0 with `MMAP`.
    pub ring_addr: u64,
    /// How many entries it has: a power of two, at most 32768.
    pub ring_entries: u32,
    /// The group by which entries ask for its buffers.
    pub bgid: u16,
    /// How it is made.
    pub flags: PbufRingFlags,
    /// With `INC`, the bytes below which the rest of a buffer is not used. Since Linux 7.1.
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

/// How far the kernel is in a ring of buffers.
#[doc(alias = "io_uring_buf_status")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufStatus {
    /// The group of the ring.
    pub buf_group: u32,
    /// From the kernel: how many entries it has taken.
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

/// Which requests are to end, and how long to wait for them.
#[doc(alias = "io_uring_sync_cancel_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncCancelReg {
    /// The `user_data` to match.
    pub addr: u64,
    /// The file to match, with `FD`.
    pub fd: i32,
    /// What to match.
    pub flags: CancelFlags,
    /// How long to wait; −1 in both fields is for ever.
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

/// The slots among which the kernel allocates direct descriptors.
#[doc(alias = "io_uring_file_index_range")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileIndexRange {
    /// The first.
    pub off: u32,
    /// How many.
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

/// How network queues are polled; from the kernel, how they were before.
///
/// Until Linux 6.12 the last word was a `u64`. We keep its alignment, which suits both.
#[doc(alias = "io_uring_napi")]
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Napi {
    /// For how many microseconds.
    pub busy_poll_to: u32,
    /// Whether polling goes before interrupts: 0 or 1.
    pub prefer_busy_poll: u8,
    /// What to do. Since Linux 6.13.
    pub opcode: NapiOp,
    /// Reserved.
    pub pad: [u8; 2],
    /// A [`NapiTracking`](crate::flags_register::NapiTracking) or the id of a queue, by `opcode`.
    /// Since Linux 6.13.
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

/// A region of memory to share.
#[doc(alias = "io_uring_mem_region_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemRegionReg {
    /// The address of its [`RegionDesc`].
    pub region_uptr: u64,
    /// What it is for.
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

/// Where a region of memory lies.
#[doc(alias = "io_uring_region_desc")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegionDesc {
    /// Our memory, with `TYPE_USER`; else 0.
    pub user_addr: u64,
    /// Its bytes, whole pages.
    pub size: u64,
    /// Where it comes from.
    pub flags: RegionDescFlags,
    /// Which one it is.
    pub id: u32,
    /// From the kernel: where in the descriptor `mmap(2)` finds it.
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
