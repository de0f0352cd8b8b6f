//! The flags of a ring and of its entries, and related constants.
//!
//! ```text
//!   field                       type                 written by   read by
//!   params.flags                SetupFlags           us           the kernel, once
//!   params.features             Features             the kernel   us, once
//!   enter's flags               EnterFlags           us           the kernel
//!   *sq_off.flags               SqRingFlags          the kernel   us
//!   *cq_off.flags               CqRingFlags          us           the kernel
//!   sqe.flags                   SqeFlags             us           the kernel
//!   sqe.ioprio                  RecvSendFlags, AcceptFlags
//!   sqe.len                     PollFlags
//!   sqe.op_flags                Fsync.., Timeout.., Splice.., Cancel.., MsgRing.., FixedFd..,
//!                               Nop.., UringCmdFlags (and flags of libc: RWF_*, MSG_*, O_*)
//!   sqe.addr, sqe.off           MsgRingCmd, SocketUringOp, BlockUringCmd
//!   sqe.pad2                    RwAttrFlags
//!   cqe.flags                   CqeFlags             the kernel   us
//! ```
//!
//! Every type keeps bits that we do not know: a newer kernel may set them, and a newer caller may
//! need them. So each type ends in `const _ = !0`, which declares all bits as known. Make a value
//! from a number with `from_bits_retain`, and list its flags by name with `iter_names`.
//!
//! The flags of `io_uring_register(2)` are in [`flags_register`](crate::flags_register).

use bitflags::bitflags;

bitflags! {
    /// Options of a new ring (`params.flags`).
    #[doc(alias = "IORING_SETUP")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SetupFlags: u32 {
        /// The kernel polls devices for completions, instead of waiting for interrupts.
        /// Since Linux 5.1.
        #[doc(alias = "IORING_SETUP_IOPOLL")]
        const IOPOLL = 1 << 0;
        /// A kernel thread polls the SQ for new entries, so submitting takes no system call.
        /// Since Linux 5.1.
        #[doc(alias = "IORING_SETUP_SQPOLL")]
        const SQPOLL = 1 << 1;
        /// The polling thread is bound to the CPU `sq_thread_cpu`; needs `SQPOLL`. Since Linux 5.1.
        #[doc(alias = "IORING_SETUP_SQ_AFF")]
        const SQ_AFF = 1 << 2;
        /// `cq_entries` is the size of the CQ. Since Linux 5.5.
        #[doc(alias = "IORING_SETUP_CQSIZE")]
        const CQSIZE = 1 << 3;
        /// Sizes above the maximum are reduced to it, not refused. Since Linux 5.6.
        #[doc(alias = "IORING_SETUP_CLAMP")]
        const CLAMP = 1 << 4;
        /// The worker threads, and the `SQPOLL` thread, are shared with the ring `wq_fd`.
        /// Since Linux 5.6.
        #[doc(alias = "IORING_SETUP_ATTACH_WQ")]
        const ATTACH_WQ = 1 << 5;
        /// The ring starts disabled, so it can be restricted first. Since Linux 5.10.
        #[doc(alias = "IORING_SETUP_R_DISABLED")]
        const R_DISABLED = 1 << 6;
        /// A refused entry does not stop the kernel from consuming the entries after it.
        /// Since Linux 5.18.
        #[doc(alias = "IORING_SETUP_SUBMIT_ALL")]
        const SUBMIT_ALL = 1 << 7;
        /// The kernel does not interrupt us to run task work; it runs at our next transition to
        /// the kernel. Since Linux 5.19.
        #[doc(alias = "IORING_SETUP_COOP_TASKRUN")]
        const COOP_TASKRUN = 1 << 8;
        /// `SqRingFlags::TASKRUN` says that task work is pending, and runs when we enter.
        /// Since Linux 5.19.
        #[doc(alias = "IORING_SETUP_TASKRUN_FLAG")]
        const TASKRUN_FLAG = 1 << 9;
        /// Every SQE has 128 bytes. Since Linux 5.19.
        #[doc(alias = "IORING_SETUP_SQE128")]
        const SQE128 = 1 << 10;
        /// Every CQE has 32 bytes. Since Linux 5.19.
        #[doc(alias = "IORING_SETUP_CQE32")]
        const CQE32 = 1 << 11;
        /// Only one thread submits; the kernel refuses others. Since Linux 6.0.
        #[doc(alias = "IORING_SETUP_SINGLE_ISSUER")]
        const SINGLE_ISSUER = 1 << 12;
        /// Task work runs only when we enter to wait for completions; needs `SINGLE_ISSUER`.
        /// Since Linux 6.1.
        #[doc(alias = "IORING_SETUP_DEFER_TASKRUN")]
        const DEFER_TASKRUN = 1 << 13;
        /// The rings lie in our memory, at the two `user_addr`. Since Linux 6.5.
        #[doc(alias = "IORING_SETUP_NO_MMAP")]
        const NO_MMAP = 1 << 14;
        /// Setup returns an index of a registered ring, not a descriptor; needs `NO_MMAP`.
        /// Since Linux 6.5.
        #[doc(alias = "IORING_SETUP_REGISTERED_FD_ONLY")]
        const REGISTERED_FD_ONLY = 1 << 15;
        /// There is no index array between `tail` and the entries. Since Linux 6.6.
        #[doc(alias = "IORING_SETUP_NO_SQARRAY")]
        const NO_SQARRAY = 1 << 16;
        /// The kernel sleeps for part of the expected time before it polls; needs `IOPOLL`.
        /// Since Linux 6.13.
        #[doc(alias = "IORING_SETUP_HYBRID_IOPOLL")]
        const HYBRID_IOPOLL = 1 << 17;
        /// A CQE has 16 bytes or, marked by `CqeFlags::CQE32`, 32 bytes. Since Linux 6.18.
        #[doc(alias = "IORING_SETUP_CQE_MIXED")]
        const CQE_MIXED = 1 << 18;
        /// An SQE has 64 bytes or, by its opcode, 128 bytes. Since Linux 6.19.
        #[doc(alias = "IORING_SETUP_SQE_MIXED")]
        const SQE_MIXED = 1 << 19;
        /// Each submission starts at entry 0; needs `NO_SQARRAY`. Since Linux 7.0.
        #[doc(alias = "IORING_SETUP_SQ_REWIND")]
        const SQ_REWIND = 1 << 20;

        const _ = !0;
    }
}

impl SetupFlags {
    /// The first Linux that has this flag, such as `"6.1"`; `None` unless it is a flag that we
    /// know.
    pub const fn since(self) -> Option<&'static str> {
        Some(match self {
            Self::IOPOLL | Self::SQPOLL | Self::SQ_AFF => "5.1",
            Self::CQSIZE => "5.5",
            Self::CLAMP | Self::ATTACH_WQ => "5.6",
            Self::R_DISABLED => "5.10",
            Self::SUBMIT_ALL => "5.18",
            Self::COOP_TASKRUN | Self::TASKRUN_FLAG | Self::SQE128 | Self::CQE32 => "5.19",
            Self::SINGLE_ISSUER => "6.0",
            Self::DEFER_TASKRUN => "6.1",
            Self::NO_MMAP | Self::REGISTERED_FD_ONLY => "6.5",
            Self::NO_SQARRAY => "6.6",
            Self::HYBRID_IOPOLL => "6.13",
            Self::CQE_MIXED => "6.18",
            Self::SQE_MIXED => "6.19",
            Self::SQ_REWIND => "7.0",
            _ => return None,
        })
    }
}

bitflags! {
    /// Features that the kernel reports at setup (`params.features`).
    #[doc(alias = "IORING_FEAT")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Features: u32 {
        /// One map holds both the SQ (without its entries) and the CQ. Since Linux 5.4.
        #[doc(alias = "IORING_FEAT_SINGLE_MMAP")]
        const SINGLE_MMAP = 1 << 0;
        /// The kernel keeps a completion that finds the CQ full, and does not drop it.
        /// Since Linux 5.5.
        #[doc(alias = "IORING_FEAT_NODROP")]
        const NODROP = 1 << 1;
        /// The memory that an entry points to may be freed after submission, except data buffers.
        /// Since Linux 5.5.
        #[doc(alias = "IORING_FEAT_SUBMIT_STABLE")]
        const SUBMIT_STABLE = 1 << 2;
        /// An offset of −1 reads and writes at the file's current position. Since Linux 5.6.
        #[doc(alias = "IORING_FEAT_RW_CUR_POS")]
        const RW_CUR_POS = 1 << 3;
        /// A request runs with the credentials of the task that submitted it, not of the task that
        /// made the ring. Since Linux 5.6.
        #[doc(alias = "IORING_FEAT_CUR_PERSONALITY")]
        const CUR_PERSONALITY = 1 << 4;
        /// The kernel polls a file that is not ready, instead of blocking a worker thread on it.
        /// Since Linux 5.7.
        #[doc(alias = "IORING_FEAT_FAST_POLL")]
        const FAST_POLL = 1 << 5;
        /// A poll accepts all 32 bits of events. Since Linux 5.9.
        #[doc(alias = "IORING_FEAT_POLL_32BITS")]
        const POLL_32BITS = 1 << 6;
        /// `SQPOLL` rings may use files that are not registered. Since Linux 5.11.
        #[doc(alias = "IORING_FEAT_SQPOLL_NONFIXED")]
        const SQPOLL_NONFIXED = 1 << 7;
        /// A wait takes a timeout in addition to its signal mask. Since Linux 5.11.
        #[doc(alias = "IORING_FEAT_EXT_ARG")]
        const EXT_ARG = 1 << 8;
        /// The worker threads are threads of our process. Since Linux 5.12.
        #[doc(alias = "IORING_FEAT_NATIVE_WORKERS")]
        const NATIVE_WORKERS = 1 << 9;
        /// Registered files and buffers take tags, and tables can be updated. Since Linux 5.13.
        #[doc(alias = "IORING_FEAT_RSRC_TAGS")]
        const RSRC_TAGS = 1 << 10;
        /// The kernel supports `SqeFlags::CQE_SKIP_SUCCESS`. Since Linux 5.17.
        #[doc(alias = "IORING_FEAT_CQE_SKIP")]
        const CQE_SKIP = 1 << 11;
        /// The kernel looks up the file of a linked entry when that entry starts, so an earlier
        /// entry of the chain can open it. Since Linux 5.18.
        #[doc(alias = "IORING_FEAT_LINKED_FILE")]
        const LINKED_FILE = 1 << 12;
        /// `io_uring_register(2)` takes an index of registered rings. Since Linux 6.3.
        #[doc(alias = "IORING_FEAT_REG_REG_RING")]
        const REG_REG_RING = 1 << 13;
        /// Send and receive take bundles of buffers. Since Linux 6.10.
        #[doc(alias = "IORING_FEAT_RECVSEND_BUNDLE")]
        const RECVSEND_BUNDLE = 1 << 14;
        /// A wait takes a minimum time in addition to its timeout. Since Linux 6.12.
        #[doc(alias = "IORING_FEAT_MIN_TIMEOUT")]
        const MIN_TIMEOUT = 1 << 15;
        /// Reads and writes take attributes. Since Linux 6.14.
        #[doc(alias = "IORING_FEAT_RW_ATTR")]
        const RW_ATTR = 1 << 16;
        /// The kernel supports `EnterFlags::NO_IOWAIT`. Since Linux 6.15.
        #[doc(alias = "IORING_FEAT_NO_IOWAIT")]
        const NO_IOWAIT = 1 << 17;

        const _ = !0;
    }
}

impl Features {
    /// The first Linux that has this feature, such as `"5.4"`; `None` unless it is a feature that
    /// we know.
    pub const fn since(self) -> Option<&'static str> {
        Some(match self {
            Self::SINGLE_MMAP => "5.4",
            Self::NODROP | Self::SUBMIT_STABLE => "5.5",
            Self::RW_CUR_POS | Self::CUR_PERSONALITY => "5.6",
            Self::FAST_POLL => "5.7",
            Self::POLL_32BITS => "5.9",
            Self::SQPOLL_NONFIXED | Self::EXT_ARG => "5.11",
            Self::NATIVE_WORKERS => "5.12",
            Self::RSRC_TAGS => "5.13",
            Self::CQE_SKIP => "5.17",
            Self::LINKED_FILE => "5.18",
            Self::REG_REG_RING => "6.3",
            Self::RECVSEND_BUNDLE => "6.10",
            Self::MIN_TIMEOUT => "6.12",
            Self::RW_ATTR => "6.14",
            Self::NO_IOWAIT => "6.15",
            _ => return None,
        })
    }
}

bitflags! {
    /// What `io_uring_enter(2)` does besides consuming entries.
    #[doc(alias = "IORING_ENTER")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct EnterFlags: u32 {
        /// Runs task work, and waits for `min_complete` completions. Since Linux 5.1.
        #[doc(alias = "IORING_ENTER_GETEVENTS")]
        const GETEVENTS = 1 << 0;
        /// Wakes the `SQPOLL` thread. Since Linux 5.1.
        #[doc(alias = "IORING_ENTER_SQ_WAKEUP")]
        const SQ_WAKEUP = 1 << 1;
        /// Waits until the `SQPOLL` thread has made room in the SQ. Since Linux 5.10.
        #[doc(alias = "IORING_ENTER_SQ_WAIT")]
        const SQ_WAIT = 1 << 2;
        /// The argument is a [`GeteventsArg`](crate::abi::GeteventsArg), not a signal mask.
        /// Since Linux 5.11.
        #[doc(alias = "IORING_ENTER_EXT_ARG")]
        const EXT_ARG = 1 << 3;
        /// `fd` is an index into this thread's registered rings. Since Linux 5.18.
        #[doc(alias = "IORING_ENTER_REGISTERED_RING")]
        const REGISTERED_RING = 1 << 4;
        /// The timeout is a point in time, not a span. Since Linux 6.12.
        #[doc(alias = "IORING_ENTER_ABS_TIMER")]
        const ABS_TIMER = 1 << 5;
        /// The argument is the offset of a [`RegWait`](crate::abi::RegWait) in the registered wait
        /// region; needs `EXT_ARG`. Since Linux 6.13.
        #[doc(alias = "IORING_ENTER_EXT_ARG_REG")]
        const EXT_ARG_REG = 1 << 6;
        /// The wait does not count as I/O wait time. Since Linux 6.15.
        #[doc(alias = "IORING_ENTER_NO_IOWAIT")]
        const NO_IOWAIT = 1 << 7;

        const _ = !0;
    }
}

impl EnterFlags {
    /// The first Linux that has this flag, such as `"5.11"`; `None` unless it is a flag that we
    /// know.
    pub const fn since(self) -> Option<&'static str> {
        Some(match self {
            Self::GETEVENTS | Self::SQ_WAKEUP => "5.1",
            Self::SQ_WAIT => "5.10",
            Self::EXT_ARG => "5.11",
            Self::REGISTERED_RING => "5.18",
            Self::ABS_TIMER => "6.12",
            Self::EXT_ARG_REG => "6.13",
            Self::NO_IOWAIT => "6.15",
            _ => return None,
        })
    }
}

bitflags! {
    /// Flags that the kernel sets in the SQ.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SqRingFlags: u32 {
        /// The `SQPOLL` thread sleeps; enter with `SQ_WAKEUP`. Since Linux 5.1.
        #[doc(alias = "IORING_SQ_NEED_WAKEUP")]
        const NEED_WAKEUP = 1 << 0;
        /// The CQ overflowed, and the kernel holds completions back; enter with `GETEVENTS`.
        /// Since Linux 5.8.
        #[doc(alias = "IORING_SQ_CQ_OVERFLOW")]
        const CQ_OVERFLOW = 1 << 1;
        /// Task work is pending; enter with `GETEVENTS` to run it. Since Linux 5.19.
        #[doc(alias = "IORING_SQ_TASKRUN")]
        const TASKRUN = 1 << 2;

        const _ = !0;
    }
}

bitflags! {
    /// Flags that we set in the CQ.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct CqRingFlags: u32 {
        /// The kernel does not signal the registered eventfd. Since Linux 5.8.
        #[doc(alias = "IORING_CQ_EVENTFD_DISABLED")]
        const EVENTFD_DISABLED = 1 << 0;

        const _ = !0;
    }
}

bitflags! {
    /// Flags that apply to every operation (`sqe.flags`).
    #[doc(alias = "IOSQE")]
    #[doc(alias = "io_uring_sqe_flags_bit")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SqeFlags: u8 {
        /// `fd` is an index into the registered files. Since Linux 5.1.
        #[doc(alias = "IOSQE_FIXED_FILE")]
        const FIXED_FILE = 1 << Self::FIXED_FILE_BIT;
        /// Drain: the request starts when all earlier requests are complete, and later requests
        /// wait for it. Since Linux 5.2.
        #[doc(alias = "IOSQE_IO_DRAIN")]
        const IO_DRAIN = 1 << Self::IO_DRAIN_BIT;
        /// Link: the next entry starts when this one has succeeded, and is cancelled if it fails.
        /// Since Linux 5.3.
        #[doc(alias = "IOSQE_IO_LINK")]
        const IO_LINK = 1 << Self::IO_LINK_BIT;
        /// Hard link: the next entry starts when this one is complete, whether or not it succeeded.
        /// Since Linux 5.5.
        #[doc(alias = "IOSQE_IO_HARDLINK")]
        const IO_HARDLINK = 1 << Self::IO_HARDLINK_BIT;
        /// A worker thread runs the request, without a first non-blocking attempt.
        /// Since Linux 5.6.
        #[doc(alias = "IOSQE_ASYNC")]
        const ASYNC = 1 << Self::ASYNC_BIT;
        /// The kernel selects a provided buffer of the group `buf_index`. Since Linux 5.7.
        #[doc(alias = "IOSQE_BUFFER_SELECT")]
        const BUFFER_SELECT = 1 << Self::BUFFER_SELECT_BIT;
        /// The kernel posts no completion if the request succeeds. Since Linux 5.17.
        #[doc(alias = "IOSQE_CQE_SKIP_SUCCESS")]
        const CQE_SKIP_SUCCESS = 1 << Self::CQE_SKIP_SUCCESS_BIT;

        const _ = !0;
    }
}

impl SqeFlags {
    /// The bit number of [`FIXED_FILE`](Self::FIXED_FILE). Since Linux 5.1.
    #[doc(alias = "IOSQE_FIXED_FILE_BIT")]
    pub const FIXED_FILE_BIT: u32 = 0;
    /// The bit number of [`IO_DRAIN`](Self::IO_DRAIN). Since Linux 5.2.
    #[doc(alias = "IOSQE_IO_DRAIN_BIT")]
    pub const IO_DRAIN_BIT: u32 = 1;
    /// The bit number of [`IO_LINK`](Self::IO_LINK). Since Linux 5.3.
    #[doc(alias = "IOSQE_IO_LINK_BIT")]
    pub const IO_LINK_BIT: u32 = 2;
    /// The bit number of [`IO_HARDLINK`](Self::IO_HARDLINK). Since Linux 5.5.
    #[doc(alias = "IOSQE_IO_HARDLINK_BIT")]
    pub const IO_HARDLINK_BIT: u32 = 3;
    /// The bit number of [`ASYNC`](Self::ASYNC). Since Linux 5.6.
    #[doc(alias = "IOSQE_ASYNC_BIT")]
    pub const ASYNC_BIT: u32 = 4;
    /// The bit number of [`BUFFER_SELECT`](Self::BUFFER_SELECT). Since Linux 5.7.
    #[doc(alias = "IOSQE_BUFFER_SELECT_BIT")]
    pub const BUFFER_SELECT_BIT: u32 = 5;
    /// The bit number of [`CQE_SKIP_SUCCESS`](Self::CQE_SKIP_SUCCESS). Since Linux 5.17.
    #[doc(alias = "IOSQE_CQE_SKIP_SUCCESS_BIT")]
    pub const CQE_SKIP_SUCCESS_BIT: u32 = 6;
}

bitflags! {
    /// Flags of a completion (`cqe.flags`).
    ///
    /// The upper 16 bits are not flags: with [`BUFFER`](Self::BUFFER) they are a buffer id.
    #[doc(alias = "IORING_CQE_F")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct CqeFlags: u32 {
        /// The upper 16 bits are the id of the buffer that the kernel selected. Since Linux 5.7.
        #[doc(alias = "IORING_CQE_F_BUFFER")]
        const BUFFER = 1 << 0;
        /// The request is still in flight; another completion will come. Since Linux 5.13.
        #[doc(alias = "IORING_CQE_F_MORE")]
        const MORE = 1 << 1;
        /// The socket has more data to receive. Since Linux 5.19.
        #[doc(alias = "IORING_CQE_F_SOCK_NONEMPTY")]
        const SOCK_NONEMPTY = 1 << 2;
        /// This is the notification of a zero-copy send, its second completion: the kernel no
        /// longer uses the buffer. Since Linux 6.0.
        #[doc(alias = "IORING_CQE_F_NOTIF")]
        const NOTIF = 1 << 3;
        /// The kernel used part of the buffer, and keeps the rest. Since Linux 6.12.
        #[doc(alias = "IORING_CQE_F_BUF_MORE")]
        const BUF_MORE = 1 << 4;
        /// This entry is no completion: it fills the end of a mixed CQ. Since Linux 6.18.
        #[doc(alias = "IORING_CQE_F_SKIP")]
        const SKIP = 1 << 5;
        /// In a mixed CQ, this completion has 32 bytes. Since Linux 6.18.
        #[doc(alias = "IORING_CQE_F_32")]
        const CQE32 = 1 << 15;

        const _ = !0;
    }
}

impl CqeFlags {
    /// In a completion of [`SocketUringOp::TX_TIMESTAMP`]: the network card took the timestamp. The
    /// bit lies in the upper 16 bits, so it is not a named flag of the set. Since Linux 6.17.
    #[doc(alias = "IORING_CQE_F_TSTAMP_HW")]
    pub const TSTAMP_HW: Self = Self::from_bits_retain(1 << TIMESTAMP_HW_SHIFT);
}

/// The position of the buffer id in `cqe.flags`, in bits. Since Linux 5.7.
#[doc(alias = "IORING_CQE_BUFFER_SHIFT")]
pub const CQE_BUFFER_SHIFT: u32 = 16;

/// Set in `res` of a zero-copy notification if the data had to be copied anyway; reported with
/// [`RecvSendFlags::ZC_REPORT_USAGE`]. Since Linux 6.2.
#[doc(alias = "IORING_NOTIF_USAGE_ZC_COPIED")]
pub const NOTIF_USAGE_ZC_COPIED: u32 = 1 << 31;

/// As `sqe.file_index`: the kernel chooses a free slot for the new registered file.
/// Since Linux 5.19.
#[doc(alias = "IORING_FILE_INDEX_ALLOC")]
pub const FILE_INDEX_ALLOC: u32 = !0;

/// The `mmap(2)` offset of the SQ, without its entries. Since Linux 5.1.
#[doc(alias = "IORING_OFF_SQ_RING")]
pub const OFF_SQ_RING: u64 = 0;
/// The `mmap(2)` offset of the CQ. Since Linux 5.1.
#[doc(alias = "IORING_OFF_CQ_RING")]
pub const OFF_CQ_RING: u64 = 0x800_0000;
/// The `mmap(2)` offset of the SQ entries. Since Linux 5.1.
#[doc(alias = "IORING_OFF_SQES")]
pub const OFF_SQES: u64 = 0x1000_0000;
/// The `mmap(2)` offset of the buffer ring of group 0. Since Linux 6.4.
#[doc(alias = "IORING_OFF_PBUF_RING")]
pub const OFF_PBUF_RING: u64 = 0x8000_0000;
/// By how many bits to shift the group id before adding it to [`OFF_PBUF_RING`]. Since Linux 6.4.
#[doc(alias = "IORING_OFF_PBUF_SHIFT")]
pub const OFF_PBUF_SHIFT: u32 = 16;
/// The bits of an offset that select the region to map. Since Linux 6.4.
#[doc(alias = "IORING_OFF_MMAP_MASK")]
pub const OFF_MMAP_MASK: u64 = 0xf800_0000;

bitflags! {
    /// The attributes that `sqe.addr3` points to, for a read or a write (`sqe.pad2`).
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct RwAttrFlags: u64 {
        /// Protection information, an [`AttrPi`](crate::abi::AttrPi). Since Linux 6.14.
        #[doc(alias = "IORING_RW_ATTR_FLAG_PI")]
        const PI = 1 << 0;

        const _ = !0;
    }
}

bitflags! {
    /// `op_flags` of [`Opcode::FSYNC`](crate::opcode::Opcode::FSYNC).
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FsyncFlags: u32 {
        /// Syncs only what is needed to read the data back, as `fdatasync(2)`. Since Linux 5.1.
        #[doc(alias = "IORING_FSYNC_DATASYNC")]
        const DATASYNC = 1 << 0;

        const _ = !0;
    }
}

bitflags! {
    /// `op_flags` of the three timeout operations.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct TimeoutFlags: u32 {
        /// The time is a point in time, not a span. Since Linux 5.5.
        #[doc(alias = "IORING_TIMEOUT_ABS")]
        const ABS = 1 << 0;
        /// `TIMEOUT_REMOVE` changes the timeout instead of cancelling it. Since Linux 5.11.
        #[doc(alias = "IORING_TIMEOUT_UPDATE")]
        const UPDATE = 1 << 1;
        /// Uses `CLOCK_BOOTTIME`, which counts time spent suspended. Since Linux 5.15.
        #[doc(alias = "IORING_TIMEOUT_BOOTTIME")]
        const BOOTTIME = 1 << 2;
        /// Uses `CLOCK_REALTIME`, which can be set and can jump. Since Linux 5.15.
        #[doc(alias = "IORING_TIMEOUT_REALTIME")]
        const REALTIME = 1 << 3;
        /// With `UPDATE`: the timeout to change is a linked timeout. Since Linux 5.15.
        #[doc(alias = "IORING_LINK_TIMEOUT_UPDATE")]
        const LINK_UPDATE = 1 << 4;
        /// Expiring counts as success, so it does not break a chain of links. Since Linux 5.16.
        #[doc(alias = "IORING_TIMEOUT_ETIME_SUCCESS")]
        const ETIME_SUCCESS = 1 << 5;
        /// Starts again each time that it expires. Since Linux 6.4.
        #[doc(alias = "IORING_TIMEOUT_MULTISHOT")]
        const MULTISHOT = 1 << 6;
        /// The entry contains the time itself, in nanoseconds, not its address. Since Linux 7.1.
        #[doc(alias = "IORING_TIMEOUT_IMMEDIATE_ARG")]
        const IMMEDIATE_ARG = 1 << 7;

        const _ = !0;
    }
}

impl TimeoutFlags {
    /// The flags that select a clock; at most one may be set. Since Linux 5.15.
    #[doc(alias = "IORING_TIMEOUT_CLOCK_MASK")]
    pub const CLOCK_MASK: Self = Self::BOOTTIME.union(Self::REALTIME);
    /// The flags that select which kind of timeout to change. Since Linux 5.15.
    #[doc(alias = "IORING_TIMEOUT_UPDATE_MASK")]
    pub const UPDATE_MASK: Self = Self::UPDATE.union(Self::LINK_UPDATE);
}

bitflags! {
    /// `op_flags` of splice and tee, in addition to the `SPLICE_F_*` of `splice(2)`.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SpliceFlags: u32 {
        /// The descriptor to read from is an index into the registered files. Since Linux 5.7.
        #[doc(alias = "SPLICE_F_FD_IN_FIXED")]
        const FD_IN_FIXED = 1 << 31;

        const _ = !0;
    }
}

bitflags! {
    /// `len` of the two poll operations; the events themselves are in `op_flags`.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct PollFlags: u32 {
        /// Multishot: completes each time the file is ready, not once. Since Linux 5.13.
        #[doc(alias = "IORING_POLL_ADD_MULTI")]
        const ADD_MULTI = 1 << 0;
        /// `POLL_REMOVE` changes the events instead of cancelling the poll. Since Linux 5.13.
        #[doc(alias = "IORING_POLL_UPDATE_EVENTS")]
        const UPDATE_EVENTS = 1 << 1;
        /// `POLL_REMOVE` changes `user_data` instead of cancelling the poll. Since Linux 5.13.
        #[doc(alias = "IORING_POLL_UPDATE_USER_DATA")]
        const UPDATE_USER_DATA = 1 << 2;
        /// Level-triggered: completes while the file is ready, not when it becomes ready.
        /// Since Linux 6.0.
        #[doc(alias = "IORING_POLL_ADD_LEVEL")]
        const ADD_LEVEL = 1 << 3;

        const _ = !0;
    }
}

bitflags! {
    /// Which requests to cancel (`op_flags` of `ASYNC_CANCEL`, and of `SYNC_CANCEL`).
    #[doc(alias = "IORING_ASYNC_CANCEL")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct CancelFlags: u32 {
        /// Cancel all matching requests, not only the first. Since Linux 5.19.
        #[doc(alias = "IORING_ASYNC_CANCEL_ALL")]
        const ALL = 1 << 0;
        /// Match on `fd`, not on `user_data`. Since Linux 5.19.
        #[doc(alias = "IORING_ASYNC_CANCEL_FD")]
        const FD = 1 << 1;
        /// Match any request. Since Linux 5.19.
        #[doc(alias = "IORING_ASYNC_CANCEL_ANY")]
        const ANY = 1 << 2;
        /// `fd` is an index into the registered files. Since Linux 6.0.
        #[doc(alias = "IORING_ASYNC_CANCEL_FD_FIXED")]
        const FD_FIXED = 1 << 3;
        /// Match on `user_data` in addition to another key. Since Linux 6.6.
        #[doc(alias = "IORING_ASYNC_CANCEL_USERDATA")]
        const USERDATA = 1 << 4;
        /// Match on the opcode, which is in `len`. Since Linux 6.6.
        #[doc(alias = "IORING_ASYNC_CANCEL_OP")]
        const OP = 1 << 5;

        const _ = !0;
    }
}

bitflags! {
    /// `ioprio` of the send and receive operations.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct RecvSendFlags: u16 {
        /// Waits for the socket before the first attempt. Since Linux 5.19.
        #[doc(alias = "IORING_RECVSEND_POLL_FIRST")]
        const POLL_FIRST = 1 << 0;
        /// Multishot: receives whenever there is data, not once; needs provided buffers.
        /// Since Linux 6.0.
        #[doc(alias = "IORING_RECV_MULTISHOT")]
        const RECV_MULTISHOT = 1 << 1;
        /// The buffer is part of the registered buffer `buf_index`. Since Linux 6.0.
        #[doc(alias = "IORING_RECVSEND_FIXED_BUF")]
        const FIXED_BUF = 1 << 2;
        /// The notification says whether the data was copied. Since Linux 6.2.
        #[doc(alias = "IORING_SEND_ZC_REPORT_USAGE")]
        const ZC_REPORT_USAGE = 1 << 3;
        /// Bundle: uses several provided buffers in one completion. Since Linux 6.10.
        #[doc(alias = "IORING_RECVSEND_BUNDLE")]
        const BUNDLE = 1 << 4;
        /// `addr` of a `SEND` or `SEND_ZC` is an array of `len` buffers. Since Linux 6.17.
        #[doc(alias = "IORING_SEND_VECTORIZED")]
        const SEND_VECTORIZED = 1 << 5;

        const _ = !0;
    }
}

bitflags! {
    /// `ioprio` of [`Opcode::ACCEPT`](crate::opcode::Opcode::ACCEPT).
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct AcceptFlags: u16 {
        /// Multishot: accepts every connection, not only one. Since Linux 5.19.
        #[doc(alias = "IORING_ACCEPT_MULTISHOT")]
        const MULTISHOT = 1 << 0;
        /// Fails with `EAGAIN` instead of waiting. Since Linux 6.10.
        #[doc(alias = "IORING_ACCEPT_DONTWAIT")]
        const DONTWAIT = 1 << 1;
        /// Waits for the socket before the first attempt. Since Linux 6.10.
        #[doc(alias = "IORING_ACCEPT_POLL_FIRST")]
        const POLL_FIRST = 1 << 2;

        const _ = !0;
    }
}

/// What [`Opcode::MSG_RING`](crate::opcode::Opcode::MSG_RING) sends to the other ring (`addr`).
#[doc(alias = "io_uring_msg_ring_flags")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MsgRingCmd(pub u64);

impl MsgRingCmd {
    /// A completion with `len` as its result and `off` as its `user_data`. Since Linux 6.0.
    #[doc(alias = "IORING_MSG_DATA")]
    pub const DATA: Self = Self(0);
    /// The registered file `addr3`, which is installed in slot `file_index`. Since Linux 6.0.
    #[doc(alias = "IORING_MSG_SEND_FD")]
    pub const SEND_FD: Self = Self(1);
}

bitflags! {
    /// `op_flags` of [`Opcode::MSG_RING`](crate::opcode::Opcode::MSG_RING).
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MsgRingFlags: u32 {
        /// Sends a file without a completion on the other ring. Since Linux 6.0.
        #[doc(alias = "IORING_MSG_RING_CQE_SKIP")]
        const CQE_SKIP = 1 << 0;
        /// `file_index` becomes the flags of the completion on the other ring. Since Linux 6.3.
        #[doc(alias = "IORING_MSG_RING_FLAGS_PASS")]
        const FLAGS_PASS = 1 << 1;

        const _ = !0;
    }
}

bitflags! {
    /// `op_flags` of [`Opcode::FIXED_FD_INSTALL`](crate::opcode::Opcode::FIXED_FD_INSTALL).
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct FixedFdFlags: u32 {
        /// The new descriptor stays open across `execve(2)`. Since Linux 6.8.
        #[doc(alias = "IORING_FIXED_FD_NO_CLOEXEC")]
        const NO_CLOEXEC = 1 << 0;

        const _ = !0;
    }
}

bitflags! {
    /// `op_flags` of [`Opcode::NOP`](crate::opcode::Opcode::NOP): side effects for tests.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct NopFlags: u32 {
        /// `len` becomes the result. Since Linux 6.10.
        #[doc(alias = "IORING_NOP_INJECT_RESULT")]
        const INJECT_RESULT = 1 << 0;
        /// Looks up the file `fd`. Since Linux 6.13.
        #[doc(alias = "IORING_NOP_FILE")]
        const FILE = 1 << 1;
        /// `fd` is an index into the registered files. Since Linux 6.13.
        #[doc(alias = "IORING_NOP_FIXED_FILE")]
        const FIXED_FILE = 1 << 2;
        /// Looks up the registered buffer `buf_index`. Since Linux 6.13.
        #[doc(alias = "IORING_NOP_FIXED_BUFFER")]
        const FIXED_BUFFER = 1 << 3;
        /// Completes from task work. Since Linux 6.16.
        #[doc(alias = "IORING_NOP_TW")]
        const TW = 1 << 4;
        /// Posts a 32-byte completion, whose second half is `off` and `addr`. Since Linux 6.18.
        #[doc(alias = "IORING_NOP_CQE32")]
        const CQE32 = 1 << 5;

        const _ = !0;
    }
}

bitflags! {
    /// `op_flags` of [`Opcode::URING_CMD`](crate::opcode::Opcode::URING_CMD).
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct UringCmdFlags: u32 {
        /// The command uses the registered buffer `buf_index`. Since Linux 6.1.
        #[doc(alias = "IORING_URING_CMD_FIXED")]
        const FIXED = 1 << 0;
        /// Multishot: completes several times, with provided buffers. Since Linux 6.18.
        #[doc(alias = "IORING_URING_CMD_MULTISHOT")]
        const MULTISHOT = 1 << 1;

        const _ = !0;
    }
}

impl UringCmdFlags {
    /// The flags that callers may set; the kernel reserves the others. Since Linux 6.7.
    #[doc(alias = "IORING_URING_CMD_MASK")]
    pub const MASK: Self = Self::FIXED.union(Self::MULTISHOT);
}

/// A command of `URING_CMD` to a socket (the lower half of `off`).
#[doc(alias = "io_uring_socket_op")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SocketUringOp(pub u32);

impl SocketUringOp {
    /// Returns how many bytes wait to be received, as `ioctl(SIOCINQ)`. Since Linux 6.5.
    #[doc(alias = "SOCKET_URING_OP_SIOCINQ")]
    pub const SIOCINQ: Self = Self(0);
    /// Returns how many bytes wait to be sent, as `ioctl(SIOCOUTQ)`. Since Linux 6.5.
    #[doc(alias = "SOCKET_URING_OP_SIOCOUTQ")]
    pub const SIOCOUTQ: Self = Self(1);
    /// Reads an option, as `getsockopt(2)`. Since Linux 6.7.
    #[doc(alias = "SOCKET_URING_OP_GETSOCKOPT")]
    pub const GETSOCKOPT: Self = Self(2);
    /// Sets an option, as `setsockopt(2)`. Since Linux 6.7.
    #[doc(alias = "SOCKET_URING_OP_SETSOCKOPT")]
    pub const SETSOCKOPT: Self = Self(3);
    /// Completes with the time at which each packet was sent. Since Linux 6.17.
    #[doc(alias = "SOCKET_URING_OP_TX_TIMESTAMP")]
    pub const TX_TIMESTAMP: Self = Self(4);
    /// Returns our address or the peer's, as `getsockname(2)` or `getpeername(2)`.
    /// Since Linux 6.19.
    #[doc(alias = "SOCKET_URING_OP_GETSOCKNAME")]
    pub const GETSOCKNAME: Self = Self(5);
}

/// The bit number of [`CqeFlags::TSTAMP_HW`]. Since Linux 6.17.
#[doc(alias = "IORING_TIMESTAMP_HW_SHIFT")]
pub const TIMESTAMP_HW_SHIFT: u32 = 16;
/// The position of the kind of timestamp (`SCM_TSTAMP_*`) in `cqe.flags`, in bits.
/// Since Linux 6.17.
#[doc(alias = "IORING_TIMESTAMP_TYPE_SHIFT")]
pub const TIMESTAMP_TYPE_SHIFT: u32 = 17;

/// A command of `URING_CMD` to a block device (the lower half of `off`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BlockUringCmd(pub u32);

impl BlockUringCmd {
    /// Discards the `addr3` bytes at `addr`, as `ioctl(BLKDISCARD)`. Since Linux 6.12.
    #[doc(alias = "BLOCK_URING_CMD_DISCARD")]
    pub const DISCARD: Self = Self(0x1200);
    /// Resets every zone of a zoned device. Since Linux 7.3.
    #[doc(alias = "BLOCK_URING_CMD_ZONE_RESET_ALL")]
    pub const ZONE_RESET_ALL: Self = Self(0x1201);
}
