//! Every constant of `data/constants.tsv` against ours: name, value, and the Linux it came with.

use std::collections::{BTreeMap, BTreeSet};

use annulus_sys::abi_mock::{MockCmd, MockCopyFlags, MockCreateFlags, MockFeature, MockMgrCmd};
use annulus_sys::abi_zcrx::{
    ZCRX_AREA_MASK, ZCRX_AREA_SHIFT, ZcrxAreaFlags, ZcrxCtrlOp, ZcrxEvent, ZcrxEventDescFlags,
    ZcrxFeatures, ZcrxRegFlags,
};
use annulus_sys::flags::{
    AcceptFlags, BlockUringCmd, CQE_BUFFER_SHIFT, CancelFlags, CqRingFlags, CqeFlags, EnterFlags,
    FILE_INDEX_ALLOC, Features, FixedFdFlags, FsyncFlags, MsgRingCmd, MsgRingFlags,
    NOTIF_USAGE_ZC_COPIED, NopFlags, OFF_CQ_RING, OFF_MMAP_MASK, OFF_PBUF_RING, OFF_PBUF_SHIFT,
    OFF_SQ_RING, OFF_SQES, PollFlags, RecvSendFlags, RwAttrFlags, SetupFlags, SocketUringOp,
    SpliceFlags, SqRingFlags, SqeFlags, TIMESTAMP_HW_SHIFT, TIMESTAMP_TYPE_SHIFT, TimeoutFlags,
    UringCmdFlags,
};
use annulus_sys::flags_register::{
    BpfCmd, BpfFilterFlags, CloneBuffersFlags, IoWqType, MemRegionFlags, NapiOp, NapiTracking,
    PbufRingFlags, ProbeOpFlags, QueryOp, REGISTER_FILES_SKIP, RegWaitFlags, RegionDescFlags,
    RestrictionOp, RsrcRegisterFlags,
};
use annulus_sys::opcode::{Opcode, RegisterOp};

use crate::{number, rows};

/// The kernel's names and numbers.
const KERNEL: &str = include_str!("../data/constants.tsv");

/// The sources of our constants.
const SOURCES: &[(&str, &str)] = &[
    ("abi.rs", include_str!("../../sys/abi.rs")),
    ("abi_bpf.rs", include_str!("../../sys/abi_bpf.rs")),
    ("abi_mock.rs", include_str!("../../sys/abi_mock.rs")),
    ("abi_query.rs", include_str!("../../sys/abi_query.rs")),
    ("abi_register.rs", include_str!("../../sys/abi_register.rs")),
    ("abi_zcrx.rs", include_str!("../../sys/abi_zcrx.rs")),
    ("flags.rs", include_str!("../../sys/flags.rs")),
    ("flags_register.rs", include_str!("../../sys/flags_register.rs")),
    ("opcode.rs", include_str!("../../sys/opcode.rs")),
];

type Rows = &'static [(&'static str, i128)];

/// The members of a set of flags: a prefix, then the names that the kernel and we share.
macro_rules! flags {
    ($prefix:literal $set:ident: $($name:ident)*) => {
        &[$((concat!($prefix, stringify!($name)), $set::$name.bits() as i128)),*]
    };
}

/// The numbers of a newtype.
macro_rules! numbers {
    ($prefix:literal $newtype:ident: $($name:ident)*) => {
        &[$((concat!($prefix, stringify!($name)), $newtype::$name.0 as i128)),*]
    };
}

/// Constants that are neither, or that have another name with us.
macro_rules! others {
    ($($name:ident = $value:expr,)*) => {
        &[$((stringify!($name), $value as i128)),*]
    };
}

/// Our side: the kernel's name, our number.
#[rustfmt::skip]
const OURS: &[Rows] = &[
    flags!("IORING_SETUP_" SetupFlags: IOPOLL SQPOLL SQ_AFF CQSIZE CLAMP ATTACH_WQ R_DISABLED
        SUBMIT_ALL COOP_TASKRUN TASKRUN_FLAG SQE128 CQE32 SINGLE_ISSUER DEFER_TASKRUN NO_MMAP
        REGISTERED_FD_ONLY NO_SQARRAY HYBRID_IOPOLL CQE_MIXED SQE_MIXED SQ_REWIND),
    flags!("IORING_FEAT_" Features: SINGLE_MMAP NODROP SUBMIT_STABLE RW_CUR_POS CUR_PERSONALITY
        FAST_POLL POLL_32BITS SQPOLL_NONFIXED EXT_ARG NATIVE_WORKERS RSRC_TAGS CQE_SKIP
        LINKED_FILE REG_REG_RING RECVSEND_BUNDLE MIN_TIMEOUT RW_ATTR NO_IOWAIT),
    flags!("IORING_ENTER_" EnterFlags: GETEVENTS SQ_WAKEUP SQ_WAIT EXT_ARG REGISTERED_RING
        ABS_TIMER EXT_ARG_REG NO_IOWAIT),
    flags!("IORING_SQ_" SqRingFlags: NEED_WAKEUP CQ_OVERFLOW TASKRUN),
    flags!("IORING_CQ_" CqRingFlags: EVENTFD_DISABLED),
    flags!("IOSQE_" SqeFlags: FIXED_FILE IO_DRAIN IO_LINK IO_HARDLINK ASYNC BUFFER_SELECT
        CQE_SKIP_SUCCESS),
    flags!("IORING_CQE_F_" CqeFlags: BUFFER MORE SOCK_NONEMPTY NOTIF BUF_MORE SKIP TSTAMP_HW),
    flags!("IORING_RW_ATTR_FLAG_" RwAttrFlags: PI),
    flags!("IORING_FSYNC_" FsyncFlags: DATASYNC),
    flags!("IORING_TIMEOUT_" TimeoutFlags: ABS UPDATE BOOTTIME REALTIME ETIME_SUCCESS MULTISHOT
        IMMEDIATE_ARG CLOCK_MASK UPDATE_MASK),
    flags!("SPLICE_F_" SpliceFlags: FD_IN_FIXED),
    flags!("IORING_POLL_" PollFlags: ADD_MULTI UPDATE_EVENTS UPDATE_USER_DATA ADD_LEVEL),
    flags!("IORING_ASYNC_CANCEL_" CancelFlags: ALL FD ANY FD_FIXED USERDATA OP),
    flags!("IORING_RECVSEND_" RecvSendFlags: POLL_FIRST FIXED_BUF BUNDLE),
    flags!("IORING_" RecvSendFlags: RECV_MULTISHOT SEND_VECTORIZED),
    flags!("IORING_SEND_" RecvSendFlags: ZC_REPORT_USAGE),
    flags!("IORING_ACCEPT_" AcceptFlags: MULTISHOT DONTWAIT POLL_FIRST),
    numbers!("IORING_MSG_" MsgRingCmd: DATA SEND_FD),
    flags!("IORING_MSG_RING_" MsgRingFlags: CQE_SKIP FLAGS_PASS),
    flags!("IORING_FIXED_FD_" FixedFdFlags: NO_CLOEXEC),
    flags!("IORING_NOP_" NopFlags: INJECT_RESULT FILE FIXED_FILE FIXED_BUFFER TW CQE32),
    flags!("IORING_URING_CMD_" UringCmdFlags: FIXED MULTISHOT MASK),
    numbers!("SOCKET_URING_OP_" SocketUringOp: SIOCINQ SIOCOUTQ GETSOCKOPT SETSOCKOPT
        TX_TIMESTAMP GETSOCKNAME),
    numbers!("BLOCK_URING_CMD_" BlockUringCmd: DISCARD ZONE_RESET_ALL),
    flags!("IORING_RSRC_REGISTER_" RsrcRegisterFlags: SPARSE),
    flags!("IO_URING_OP_" ProbeOpFlags: SUPPORTED),
    numbers!("IORING_RESTRICTION_" RestrictionOp: REGISTER_OP SQE_OP SQE_FLAGS_ALLOWED
        SQE_FLAGS_REQUIRED),
    numbers!("IO_WQ_" IoWqType: BOUND UNBOUND),
    flags!("IOU_PBUF_RING_" PbufRingFlags: MMAP INC),
    numbers!("IO_URING_NAPI_" NapiOp: REGISTER_OP STATIC_ADD_ID STATIC_DEL_ID),
    numbers!("IO_URING_NAPI_TRACKING_" NapiTracking: DYNAMIC STATIC INACTIVE),
    flags!("IORING_REGISTER_" CloneBuffersFlags: SRC_REGISTERED DST_REPLACE),
    flags!("IORING_MEM_REGION_" MemRegionFlags: REG_WAIT_ARG),
    flags!("IORING_MEM_REGION_" RegionDescFlags: TYPE_USER),
    flags!("IORING_REG_WAIT_" RegWaitFlags: TS),
    numbers!("IO_URING_QUERY_" QueryOp: OPCODES ZCRX SCQ ZCRX_EVENT),
    numbers!("IO_URING_BPF_CMD_" BpfCmd: FILTER),
    flags!("IO_URING_BPF_FILTER_" BpfFilterFlags: DENY_REST SZ_STRICT),
    flags!("IORING_ZCRX_AREA_" ZcrxAreaFlags: DMABUF),
    flags!("ZCRX_REG_" ZcrxRegFlags: IMPORT NODEV),
    flags!("ZCRX_FEATURE_" ZcrxFeatures: RX_PAGE_SIZE EVENT),
    numbers!("ZCRX_EVENT_" ZcrxEvent: ALLOC_FAIL COPY),
    flags!("ZCRX_EVENT_DESC_FLAG_" ZcrxEventDescFlags: STATS),
    numbers!("ZCRX_CTRL_" ZcrxCtrlOp: FLUSH_RQ EXPORT ARM_EVENT ADD_AREA),
    numbers!("IORING_MOCK_MGR_CMD_" MockMgrCmd: PROBE CREATE),
    numbers!("IORING_MOCK_CMD_" MockCmd: COPY_REGBUF),
    flags!("IORING_MOCK_COPY_" MockCopyFlags: FROM),
    flags!("IORING_MOCK_CREATE_F_" MockCreateFlags: SUPPORT_NOWAIT POLL),
    numbers!("IORING_MOCK_FEAT_" MockFeature: CMD_COPY RW_ZERO RW_NOWAIT RW_ASYNC POLL),
    numbers!("IORING_OP_" Opcode: NOP READV WRITEV FSYNC READ_FIXED WRITE_FIXED POLL_ADD
        POLL_REMOVE SYNC_FILE_RANGE SENDMSG RECVMSG TIMEOUT TIMEOUT_REMOVE ACCEPT ASYNC_CANCEL
        LINK_TIMEOUT CONNECT FALLOCATE OPENAT CLOSE FILES_UPDATE STATX READ WRITE FADVISE MADVISE
        SEND RECV OPENAT2 EPOLL_CTL SPLICE PROVIDE_BUFFERS REMOVE_BUFFERS TEE SHUTDOWN RENAMEAT
        UNLINKAT MKDIRAT SYMLINKAT LINKAT MSG_RING FSETXATTR SETXATTR FGETXATTR GETXATTR SOCKET
        URING_CMD SEND_ZC SENDMSG_ZC READ_MULTISHOT WAITID FUTEX_WAIT FUTEX_WAKE FUTEX_WAITV
        FIXED_FD_INSTALL FTRUNCATE BIND LISTEN RECV_ZC EPOLL_WAIT READV_FIXED WRITEV_FIXED PIPE
        NOP128 URING_CMD128),
    numbers!("IORING_REGISTER_" RegisterOp: BUFFERS FILES EVENTFD FILES_UPDATE EVENTFD_ASYNC
        PROBE PERSONALITY RESTRICTIONS ENABLE_RINGS FILES2 FILES_UPDATE2 BUFFERS2 BUFFERS_UPDATE
        IOWQ_AFF IOWQ_MAX_WORKERS RING_FDS PBUF_RING SYNC_CANCEL FILE_ALLOC_RANGE PBUF_STATUS
        NAPI CLOCK CLONE_BUFFERS SEND_MSG_RING ZCRX_IFQ RESIZE_RINGS MEM_REGION QUERY ZCRX_CTRL
        BPF_FILTER),
    numbers!("IORING_" RegisterOp: UNREGISTER_BUFFERS UNREGISTER_FILES UNREGISTER_EVENTFD
        UNREGISTER_PERSONALITY UNREGISTER_IOWQ_AFF UNREGISTER_RING_FDS UNREGISTER_PBUF_RING
        UNREGISTER_NAPI),
    others! {
        IOSQE_FIXED_FILE_BIT = SqeFlags::FIXED_FILE_BIT,
        IOSQE_IO_DRAIN_BIT = SqeFlags::IO_DRAIN_BIT,
        IOSQE_IO_LINK_BIT = SqeFlags::IO_LINK_BIT,
        IOSQE_IO_HARDLINK_BIT = SqeFlags::IO_HARDLINK_BIT,
        IOSQE_ASYNC_BIT = SqeFlags::ASYNC_BIT,
        IOSQE_BUFFER_SELECT_BIT = SqeFlags::BUFFER_SELECT_BIT,
        IOSQE_CQE_SKIP_SUCCESS_BIT = SqeFlags::CQE_SKIP_SUCCESS_BIT,
        IORING_CQE_F_32 = CqeFlags::CQE32.bits(),
        IORING_CQE_BUFFER_SHIFT = CQE_BUFFER_SHIFT,
        IORING_LINK_TIMEOUT_UPDATE = TimeoutFlags::LINK_UPDATE.bits(),
        IORING_NOTIF_USAGE_ZC_COPIED = NOTIF_USAGE_ZC_COPIED,
        IORING_FILE_INDEX_ALLOC = FILE_INDEX_ALLOC,
        IORING_OFF_SQ_RING = OFF_SQ_RING,
        IORING_OFF_CQ_RING = OFF_CQ_RING,
        IORING_OFF_SQES = OFF_SQES,
        IORING_OFF_PBUF_RING = OFF_PBUF_RING,
        IORING_OFF_PBUF_SHIFT = OFF_PBUF_SHIFT,
        IORING_OFF_MMAP_MASK = OFF_MMAP_MASK,
        IORING_TIMESTAMP_HW_SHIFT = TIMESTAMP_HW_SHIFT,
        IORING_TIMESTAMP_TYPE_SHIFT = TIMESTAMP_TYPE_SHIFT,
        IORING_REGISTER_FILES_SKIP = REGISTER_FILES_SKIP,
        IORING_REGISTER_USE_REGISTERED_RING = RegisterOp::USE_REGISTERED_RING,
        IORING_ZCRX_AREA_SHIFT = ZCRX_AREA_SHIFT,
        IORING_ZCRX_AREA_MASK = ZCRX_AREA_MASK,
        IORING_OP_LAST = Opcode::LAST,
        IORING_REGISTER_LAST = RegisterOp::LAST,
        IORING_RESTRICTION_LAST = RestrictionOp::LAST,
        IORING_MOCK_FEAT_END = MockFeature::END,
    },
];

/// Our numbers, by the kernel's name.
pub fn ours() -> BTreeMap<&'static str, i128> {
    OURS.iter().copied().flatten().copied().collect()
}

/// Since which Linux the kernel has each name.
fn since() -> BTreeMap<&'static str, &'static str> {
    rows(KERNEL).map(|row| (row[1], row[3])).collect()
}

#[test]
fn every_constant_of_the_kernel_has_our_value() {
    let ours = ours();
    let wrong: Vec<_> = rows(KERNEL)
        .filter(|row| ours.get(row[1]) != Some(&number(row[2])))
        .map(|row| format!("{} is {}, we have {:?}", row[1], row[2], ours.get(row[1])))
        .collect();
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_constant_of_ours_is_one_of_the_kernel() {
    let kernel = since();
    let unknown: Vec<_> = ours().into_keys().filter(|name| !kernel.contains_key(name)).collect();
    assert_eq!(unknown, [""; 0]);
    assert_eq!(OURS.iter().copied().flatten().count(), kernel.len(), "a name stands twice");
}

/// Each alias in our sources, with its whole doc comment.
fn documented() -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (_, source) in SOURCES {
        let mut doc = String::new();
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                doc += text;
            } else if let Some(alias) = line.strip_prefix("#[doc(alias = \"") {
                found.push((alias.trim_end_matches("\")]"), doc.clone()));
            } else if !line.starts_with("#[") {
                doc.clear();
            }
        }
    }
    found
}

#[test]
fn the_doc_of_every_constant_says_since_which_linux() {
    let documented = documented();
    let mut wrong = Vec::new();
    for (name, since) in since() {
        let docs: Vec<_> = documented.iter().filter(|(alias, _)| *alias == name).collect();
        let [(_, doc)] = docs[..] else {
            wrong.push(format!("{name} is the alias of {} items", docs.len()));
            continue;
        };
        if !doc.contains(&format!(" Since Linux {since}.")) {
            wrong.push(format!("{name} is since {since}, its doc says:{doc}"));
        }
        if doc.matches("Since Linux").count() != 1 {
            wrong.push(format!("{name} says twice since when:{doc}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn an_alias_stands_on_one_item_only() {
    let mut seen = BTreeSet::new();
    let twice: Vec<_> =
        documented().into_iter().filter(|(alias, _)| !seen.insert(*alias)).collect();
    assert_eq!(twice, []);
}

#[test]
fn every_opcode_knows_its_name_and_its_linux() {
    let since = since();
    for (number, opcode) in Opcode::ALL.iter().enumerate() {
        assert_eq!(usize::from(opcode.0), number);
        let name = format!("IORING_OP_{}", opcode.name().expect("a known opcode has a name"));
        assert_eq!(ours().get(name.as_str()), Some(&i128::from(opcode.0)), "{name}");
        assert_eq!(since.get(name.as_str()).copied(), opcode.since(), "{name}");
    }
    assert_eq!(Opcode::ALL.len(), usize::from(Opcode::LAST));
}

#[test]
fn every_register_operation_knows_its_name_and_its_linux() {
    let since = since();
    for (number, op) in (0..).zip(RegisterOp::ALL) {
        assert_eq!(op.0, number);
        let name = match op.name().expect("a known operation has a name") {
            name if name.starts_with("UNREGISTER_") => format!("IORING_{name}"),
            name => format!("IORING_REGISTER_{name}"),
        };
        assert_eq!(ours().get(name.as_str()), Some(&i128::from(op.0)), "{name}");
        assert_eq!(since.get(name.as_str()).copied(), op.since(), "{name}");
    }
    assert_eq!((0..RegisterOp::LAST).len(), RegisterOp::ALL.len());
}

#[test]
fn every_flag_of_set_up_enter_and_features_knows_its_linux() {
    let setup = SetupFlags::all().iter_names().map(|(name, flag)| ("SETUP", name, flag.since()));
    let enter = EnterFlags::all().iter_names().map(|(name, flag)| ("ENTER", name, flag.since()));
    let features = Features::all().iter_names().map(|(name, flag)| ("FEAT", name, flag.since()));
    let since = since();
    let mut count = 0;
    for (family, name, said) in setup.chain(enter).chain(features) {
        let name = format!("IORING_{family}_{name}");
        assert_eq!(since.get(name.as_str()).copied(), said, "{name}");
        count += 1;
    }
    assert_eq!(count, 21 + 8 + 18);
}
