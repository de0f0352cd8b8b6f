//! The flags and enumerations of `io_uring_register(2)`.
//!
//! ```text
//!   operation                    struct                     field         type
//!   BUFFERS2, FILES2             RsrcRegister               flags         RsrcRegisterFlags
//!   FILES_UPDATE                 FilesUpdate                fds[i]        REGISTER_FILES_SKIP
//!   PROBE                        ProbeOp                    flags         ProbeOpFlags
//!   RESTRICTIONS                 Restriction                opcode        RestrictionOp
//!   IOWQ_MAX_WORKERS             [u32; 2]                   position      IoWqType
//!   PBUF_RING                    BufReg                     flags         PbufRingFlags
//!   NAPI                         Napi                       opcode        NapiOp
//!                                                           op_param      NapiTracking
//!   CLONE_BUFFERS                CloneBuffers               flags         CloneBuffersFlags
//!   MEM_REGION                   MemRegionReg               flags         MemRegionFlags
//!                                RegionDesc                 flags         RegionDescFlags
//!   QUERY                        QueryHdr                   query_op      QueryOp
//!   BPF_FILTER                   Bpf                        cmd_type      BpfCmd
//!                                BpfFilter                  flags         BpfFilterFlags
//!   (enter, EXT_ARG_REG)         RegWait                    flags         RegWaitFlags
//! ```
//!
//! Unknown bits and numbers are kept, as in [`flags`](crate::flags). The flags of zero-copy receive
//! are next to their structs, in [`abi_zcrx`](crate::abi_zcrx).

use bitflags::bitflags;

bitflags! {
    /// Options of a table of files or buffers.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct RsrcRegisterFlags: u32 {
        /// Every slot starts empty, and the caller passes no array. Since Linux 5.19.
        #[doc(alias = "IORING_RSRC_REGISTER_SPARSE")]
        const SPARSE = 1 << 0;

        const _ = !0;
    }
}

/// In place of a descriptor: leave this slot of the file table unchanged. Since Linux 5.12.
#[doc(alias = "IORING_REGISTER_FILES_SKIP")]
pub const REGISTER_FILES_SKIP: i32 = -2;

bitflags! {
    /// The result of a probe for one operation.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ProbeOpFlags: u16 {
        /// This kernel supports the operation. Since Linux 5.6.
        #[doc(alias = "IO_URING_OP_SUPPORTED")]
        const SUPPORTED = 1 << 0;

        const _ = !0;
    }
}

/// A kind of restriction.
#[doc(alias = "io_uring_register_restriction_op")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RestrictionOp(pub u16);

impl RestrictionOp {
    /// Allows an operation of `io_uring_register(2)`. Since Linux 5.10.
    #[doc(alias = "IORING_RESTRICTION_REGISTER_OP")]
    pub const REGISTER_OP: Self = Self(0);
    /// Allows an opcode in entries. Since Linux 5.10.
    #[doc(alias = "IORING_RESTRICTION_SQE_OP")]
    pub const SQE_OP: Self = Self(1);
    /// Allows flags in entries. Since Linux 5.10.
    #[doc(alias = "IORING_RESTRICTION_SQE_FLAGS_ALLOWED")]
    pub const SQE_FLAGS_ALLOWED: Self = Self(2);
    /// Requires flags in every entry. Since Linux 5.10.
    #[doc(alias = "IORING_RESTRICTION_SQE_FLAGS_REQUIRED")]
    pub const SQE_FLAGS_REQUIRED: Self = Self(3);

    /// The number of kinds in Linux 7.3: one more than the last number. Since Linux 5.10.
    #[doc(alias = "IORING_RESTRICTION_LAST")]
    pub const LAST: u16 = 4;
}

/// A kind of worker thread (io-wq): the position of its limit in the argument of
/// `IOWQ_MAX_WORKERS`.
#[doc(alias = "io_wq_type")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IoWqType(pub u32);

impl IoWqType {
    /// For work that ends in bounded time: regular files, block devices. Since Linux 5.15.
    #[doc(alias = "IO_WQ_BOUND")]
    pub const BOUND: Self = Self(0);
    /// For work that may never end: sockets, pipes, terminals. Since Linux 5.15.
    #[doc(alias = "IO_WQ_UNBOUND")]
    pub const UNBOUND: Self = Self(1);
}

bitflags! {
    /// Options of a buffer ring.
    #[doc(alias = "io_uring_register_pbuf_ring_flags")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct PbufRingFlags: u16 {
        /// The kernel allocates the ring, and we map it. Since Linux 6.4.
        #[doc(alias = "IOU_PBUF_RING_MMAP")]
        const MMAP = 1 << 0;
        /// Incremental consumption: a partly used buffer stays first in the ring. Since Linux 6.12.
        #[doc(alias = "IOU_PBUF_RING_INC")]
        const INC = 1 << 1;

        const _ = !0;
    }
}

/// A command of `NAPI`.
#[doc(alias = "io_uring_napi_op")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NapiOp(pub u8);

impl NapiOp {
    /// Sets up busy polling, with a [`NapiTracking`] in `op_param`. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_REGISTER_OP")]
    pub const REGISTER_OP: Self = Self(0);
    /// Adds the queue whose id is `op_param`. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_STATIC_ADD_ID")]
    pub const STATIC_ADD_ID: Self = Self(1);
    /// Removes the queue whose id is `op_param`. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_STATIC_DEL_ID")]
    pub const STATIC_DEL_ID: Self = Self(2);
}

/// Which queues are busy-polled.
#[doc(alias = "io_uring_napi_tracking_strategy")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NapiTracking(pub u32);

impl NapiTracking {
    /// The queues of the sockets that requests wait on. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_TRACKING_DYNAMIC")]
    pub const DYNAMIC: Self = Self(0);
    /// The queues that were added with `STATIC_ADD_ID`. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_TRACKING_STATIC")]
    pub const STATIC: Self = Self(1);
    /// No queues. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_TRACKING_INACTIVE")]
    pub const INACTIVE: Self = Self(255);
}

bitflags! {
    /// How registered buffers are shared between rings.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct CloneBuffersFlags: u32 {
        /// `src_fd` is an index into this thread's registered rings. Since Linux 6.12.
        #[doc(alias = "IORING_REGISTER_SRC_REGISTERED")]
        const SRC_REGISTERED = 1 << 0;
        /// Replaces slots of our table that are in use. Since Linux 6.13.
        #[doc(alias = "IORING_REGISTER_DST_REPLACE")]
        const DST_REPLACE = 1 << 1;

        const _ = !0;
    }
}

bitflags! {
    /// The use of a registered memory region.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MemRegionFlags: u64 {
        /// The region holds [`RegWait`](crate::abi::RegWait)s. Since Linux 6.13.
        #[doc(alias = "IORING_MEM_REGION_REG_WAIT_ARG")]
        const REG_WAIT_ARG = 1 << 0;

        const _ = !0;
    }
}

bitflags! {
    /// Which side allocates a memory region.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct RegionDescFlags: u32 {
        /// We do, at `user_addr`. Without this flag the kernel allocates. Since Linux 6.13.
        #[doc(alias = "IORING_MEM_REGION_TYPE_USER")]
        const TYPE_USER = 1 << 0;

        const _ = !0;
    }
}

bitflags! {
    /// Which fields of a [`RegWait`](crate::abi::RegWait) are used.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct RegWaitFlags: u32 {
        /// Its `ts` limits the wait. Since Linux 6.13.
        #[doc(alias = "IORING_REG_WAIT_TS")]
        const TS = 1 << 0;

        const _ = !0;
    }
}

/// A question to the kernel, of `QUERY`.
#[doc(alias = "io_uring_query_op")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct QueryOp(pub u32);

impl QueryOp {
    /// How many operations the kernel has, and which flags it allows. Since Linux 6.18.
    #[doc(alias = "IO_URING_QUERY_OPCODES")]
    pub const OPCODES: Self = Self(0);
    /// What zero-copy receive supports. Since Linux 6.19.
    #[doc(alias = "IO_URING_QUERY_ZCRX")]
    pub const ZCRX: Self = Self(1);
    /// The size and alignment of the header in ring memory of our own. Since Linux 6.19.
    #[doc(alias = "IO_URING_QUERY_SCQ")]
    pub const SCQ: Self = Self(2);
    /// Which events zero-copy receive reports. Since Linux 7.2.
    #[doc(alias = "IO_URING_QUERY_ZCRX_EVENT")]
    pub const ZCRX_EVENT: Self = Self(3);
}

/// A command of `BPF_FILTER`.
#[doc(alias = "io_uring_bpf_cmd_types")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BpfCmd(pub u16);

impl BpfCmd {
    /// Installs a filter. Since Linux 7.0.
    #[doc(alias = "IO_URING_BPF_CMD_FILTER")]
    pub const FILTER: Self = Self(1);
}

bitflags! {
    /// How a BPF filter is installed.
    #[doc(alias = "io_uring_bpf_filter_flags")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct BpfFilterFlags: u32 {
        /// Operations that have no filter are refused. Since Linux 7.0.
        #[doc(alias = "IO_URING_BPF_FILTER_DENY_REST")]
        const DENY_REST = 1 << 0;
        /// Installing fails unless `pdu_size` is exactly the kernel's. Since Linux 7.0.
        #[doc(alias = "IO_URING_BPF_FILTER_SZ_STRICT")]
        const SZ_STRICT = 1 << 1;

        const _ = !0;
    }
}
