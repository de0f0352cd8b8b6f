//! The constants and structs that `linux-raw-sys` also has, against ours.
//!
//! That crate is generated from the headers of an older Linux, so later names are missing, and
//! three numbers that are counts or masks of all have grown since. Nothing else may differ.

use std::mem::{offset_of, size_of};

use annulus_sys::abi::{
    AttrPi, Buf, Cqe, CqringOffsets, FutexWaitv, GeteventsArg, IoTimespec, OpenHow, Params,
    RecvmsgOut, RegWait, Sqe, SqringOffsets, Timespec,
};
use annulus_sys::abi_register::{
    BufReg, BufStatus, ClockRegister, CloneBuffers, FileIndexRange, FilesUpdate, MemRegionReg,
    Napi, Probe, ProbeOp, RegionDesc, Restriction, RsrcRegister, RsrcUpdate, RsrcUpdate2,
    SyncCancelReg,
};
use annulus_sys::abi_zcrx::{ZcrxAreaReg, ZcrxCqe, ZcrxIfqReg, ZcrxOffsets, ZcrxRqe};
use annulus_sys::flags_futex::{FUTEX_WAITV_MAX, FutexFlags};
use linux_raw_sys::{general, io_uring as raw};

use crate::constants::ours;

/// A name, their number, and ours.
type Pair = (&'static str, usize, usize);

/// A struct: its size, then the offset of each field; after the bar the fields with two names.
macro_rules! same {
    ($module:ident $theirs:ident $ours:ident: $($field:ident)*
        $(| $($($path:ident).+ is $our:ident),+)?) => {
        &[
            (stringify!($theirs), size_of::<$module::$theirs>(), size_of::<$ours>()),
            $((
                concat!(stringify!($theirs), ".", stringify!($field)),
                offset_of!($module::$theirs, $field),
                offset_of!($ours, $field),
            ),)*
            $($((
                concat!(stringify!($theirs), ".", stringify!($our)),
                offset_of!($module::$theirs, $($path).+),
                offset_of!($ours, $our),
            )),+)?
        ]
    };
}

#[rustfmt::skip]
const STRUCTS: &[&[Pair]] = &[
    same!(raw io_uring_sqe Sqe: opcode flags ioprio fd len user_data personality
        | __bindgen_anon_1.off is off, __bindgen_anon_2.addr is addr,
        __bindgen_anon_3.rw_flags is op_flags, __bindgen_anon_4.buf_index is buf_index,
        __bindgen_anon_5.file_index is file_index, __bindgen_anon_6 is addr3),
    same!(raw io_uring_cqe Cqe: user_data res flags),
    same!(raw io_uring_params Params: sq_entries cq_entries flags sq_thread_cpu sq_thread_idle
        features wq_fd resv sq_off cq_off),
    same!(raw io_sqring_offsets SqringOffsets: head tail ring_mask ring_entries flags dropped
        array resv1 user_addr),
    same!(raw io_cqring_offsets CqringOffsets: head tail ring_mask ring_entries overflow cqes
        flags resv1 user_addr),
    same!(raw __kernel_timespec Timespec: tv_sec tv_nsec),
    same!(raw io_timespec IoTimespec: tv_sec tv_nsec),
    same!(raw io_uring_getevents_arg GeteventsArg: sigmask sigmask_sz min_wait_usec ts),
    same!(raw io_uring_reg_wait RegWait: ts min_wait_usec flags sigmask sigmask_sz pad pad2),
    same!(raw io_uring_buf Buf: addr len bid resv),
    same!(raw io_uring_attr_pi AttrPi: flags app_tag len addr seed rsvd),
    same!(raw io_uring_recvmsg_out RecvmsgOut: namelen controllen payloadlen flags),
    same!(general open_how OpenHow: flags mode resolve),
    same!(general futex_waitv FutexWaitv: val uaddr flags | __reserved is reserved),
    same!(raw io_uring_rsrc_register RsrcRegister: nr flags resv2 data tags),
    same!(raw io_uring_rsrc_update RsrcUpdate: offset resv data),
    same!(raw io_uring_rsrc_update2 RsrcUpdate2: offset resv data tags nr resv2),
    same!(raw io_uring_files_update FilesUpdate: offset resv fds),
    same!(raw io_uring_probe Probe: last_op ops_len resv resv2),
    same!(raw io_uring_probe_op ProbeOp: op resv flags resv2),
    same!(raw io_uring_restriction Restriction: opcode resv resv2
        | __bindgen_anon_1.register_op is register_op),
    same!(raw io_uring_clock_register ClockRegister: clockid | __resv is resv),
    same!(raw io_uring_clone_buffers CloneBuffers: src_fd flags src_off dst_off nr pad),
    // Their reserved bytes start with `min_left` here.
    same!(raw io_uring_buf_reg BufReg: ring_addr ring_entries bgid flags | resv is min_left),
    same!(raw io_uring_buf_status BufStatus: buf_group head resv),
    same!(raw io_uring_sync_cancel_reg SyncCancelReg: addr fd flags timeout opcode pad pad2),
    same!(raw io_uring_file_index_range FileIndexRange: off len resv),
    same!(raw io_uring_napi Napi: busy_poll_to prefer_busy_poll opcode pad op_param resv),
    same!(raw io_uring_mem_region_reg MemRegionReg: region_uptr flags | __resv is resv),
    same!(raw io_uring_region_desc RegionDesc: user_addr size flags id mmap_offset
        | __resv is resv),
    same!(raw io_uring_zcrx_rqe ZcrxRqe: off len | __pad is pad),
    same!(raw io_uring_zcrx_cqe ZcrxCqe: off | __pad is pad),
    same!(raw io_uring_zcrx_offsets ZcrxOffsets: head tail rqes | __resv2 is resv2,
        __resv is resv),
    same!(raw io_uring_zcrx_area_reg ZcrxAreaReg: addr len rq_area_token flags dmabuf_fd
        | __resv2 is resv2),
    // Their reserved bytes start with `rx_buf_len` and `event_desc` here.
    same!(raw io_uring_zcrx_ifq_reg ZcrxIfqReg: if_idx if_rxq rq_entries flags area_ptr
        region_ptr offsets zcrx_id | __resv2 is rx_buf_len, __resv is event_desc),
];

/// Constants of `linux-raw-sys`.
macro_rules! consts {
    ($($name:ident)*) => {
        &[$((stringify!($name), raw::$name as i128)),*]
    };
}

/// Members of an enum of `linux-raw-sys`.
macro_rules! variants {
    ($theirs:ident: $($name:ident)*) => {
        &[$((stringify!($name), raw::$theirs::$name as i128)),*]
    };
}

#[rustfmt::skip]
const CONSTANTS: &[&[(&str, i128)]] = &[
    // The kernel has `~0U`; `linux-raw-sys` reads it as a signed number.
    &[("IORING_FILE_INDEX_ALLOC", raw::IORING_FILE_INDEX_ALLOC.cast_unsigned() as i128)],
    consts!(IORING_RW_ATTR_FLAG_PI IORING_SETUP_IOPOLL
        IORING_SETUP_SQPOLL IORING_SETUP_SQ_AFF IORING_SETUP_CQSIZE IORING_SETUP_CLAMP
        IORING_SETUP_ATTACH_WQ IORING_SETUP_R_DISABLED IORING_SETUP_SUBMIT_ALL
        IORING_SETUP_COOP_TASKRUN IORING_SETUP_TASKRUN_FLAG IORING_SETUP_SQE128
        IORING_SETUP_CQE32 IORING_SETUP_SINGLE_ISSUER IORING_SETUP_DEFER_TASKRUN
        IORING_SETUP_NO_MMAP IORING_SETUP_REGISTERED_FD_ONLY IORING_SETUP_NO_SQARRAY
        IORING_SETUP_HYBRID_IOPOLL IORING_URING_CMD_FIXED IORING_FSYNC_DATASYNC
        IORING_TIMEOUT_ABS IORING_TIMEOUT_UPDATE IORING_TIMEOUT_BOOTTIME IORING_TIMEOUT_REALTIME
        IORING_LINK_TIMEOUT_UPDATE IORING_TIMEOUT_ETIME_SUCCESS IORING_TIMEOUT_MULTISHOT
        IORING_TIMEOUT_CLOCK_MASK IORING_TIMEOUT_UPDATE_MASK SPLICE_F_FD_IN_FIXED
        IORING_POLL_ADD_MULTI IORING_POLL_UPDATE_EVENTS IORING_POLL_UPDATE_USER_DATA
        IORING_POLL_ADD_LEVEL IORING_ASYNC_CANCEL_ALL IORING_ASYNC_CANCEL_FD
        IORING_ASYNC_CANCEL_ANY IORING_ASYNC_CANCEL_FD_FIXED IORING_ASYNC_CANCEL_USERDATA
        IORING_ASYNC_CANCEL_OP IORING_RECVSEND_POLL_FIRST IORING_RECV_MULTISHOT
        IORING_RECVSEND_FIXED_BUF IORING_SEND_ZC_REPORT_USAGE IORING_RECVSEND_BUNDLE
        IORING_SEND_VECTORIZED IORING_NOTIF_USAGE_ZC_COPIED IORING_ACCEPT_MULTISHOT
        IORING_ACCEPT_DONTWAIT IORING_ACCEPT_POLL_FIRST IORING_MSG_RING_CQE_SKIP
        IORING_MSG_RING_FLAGS_PASS IORING_FIXED_FD_NO_CLOEXEC IORING_NOP_INJECT_RESULT
        IORING_CQE_F_BUFFER IORING_CQE_F_MORE IORING_CQE_F_SOCK_NONEMPTY IORING_CQE_F_NOTIF
        IORING_CQE_F_BUF_MORE IORING_CQE_BUFFER_SHIFT IORING_OFF_SQ_RING IORING_OFF_CQ_RING
        IORING_OFF_SQES IORING_OFF_PBUF_RING IORING_OFF_PBUF_SHIFT IORING_OFF_MMAP_MASK
        IORING_SQ_NEED_WAKEUP IORING_SQ_CQ_OVERFLOW IORING_SQ_TASKRUN IORING_CQ_EVENTFD_DISABLED
        IORING_ENTER_GETEVENTS IORING_ENTER_SQ_WAKEUP IORING_ENTER_SQ_WAIT IORING_ENTER_EXT_ARG
        IORING_ENTER_REGISTERED_RING IORING_ENTER_ABS_TIMER IORING_ENTER_EXT_ARG_REG
        IORING_ENTER_NO_IOWAIT IORING_FEAT_SINGLE_MMAP IORING_FEAT_NODROP
        IORING_FEAT_SUBMIT_STABLE IORING_FEAT_RW_CUR_POS IORING_FEAT_CUR_PERSONALITY
        IORING_FEAT_FAST_POLL IORING_FEAT_POLL_32BITS IORING_FEAT_SQPOLL_NONFIXED
        IORING_FEAT_EXT_ARG IORING_FEAT_NATIVE_WORKERS IORING_FEAT_RSRC_TAGS
        IORING_FEAT_CQE_SKIP IORING_FEAT_LINKED_FILE IORING_FEAT_REG_REG_RING
        IORING_FEAT_RECVSEND_BUNDLE IORING_FEAT_MIN_TIMEOUT IORING_FEAT_RW_ATTR
        IORING_FEAT_NO_IOWAIT IORING_MEM_REGION_TYPE_USER IORING_MEM_REGION_REG_WAIT_ARG
        IORING_RSRC_REGISTER_SPARSE IORING_REGISTER_FILES_SKIP IO_URING_OP_SUPPORTED
        IORING_REGISTER_SRC_REGISTERED IORING_REGISTER_DST_REPLACE IORING_REG_WAIT_TS
        IORING_TIMESTAMP_HW_SHIFT IORING_TIMESTAMP_TYPE_SHIFT IORING_ZCRX_AREA_SHIFT
        IORING_NOP_FILE IORING_NOP_FIXED_FILE IORING_NOP_FIXED_BUFFER IORING_NOP_TW),
    variants!(io_uring_sqe_flags_bit: IOSQE_FIXED_FILE_BIT IOSQE_IO_DRAIN_BIT IOSQE_IO_LINK_BIT
        IOSQE_IO_HARDLINK_BIT IOSQE_ASYNC_BIT IOSQE_BUFFER_SELECT_BIT
        IOSQE_CQE_SKIP_SUCCESS_BIT),
    variants!(io_uring_op: IORING_OP_NOP IORING_OP_READV IORING_OP_WRITEV IORING_OP_FSYNC
        IORING_OP_READ_FIXED IORING_OP_WRITE_FIXED IORING_OP_POLL_ADD IORING_OP_POLL_REMOVE
        IORING_OP_SYNC_FILE_RANGE IORING_OP_SENDMSG IORING_OP_RECVMSG IORING_OP_TIMEOUT
        IORING_OP_TIMEOUT_REMOVE IORING_OP_ACCEPT IORING_OP_ASYNC_CANCEL IORING_OP_LINK_TIMEOUT
        IORING_OP_CONNECT IORING_OP_FALLOCATE IORING_OP_OPENAT IORING_OP_CLOSE
        IORING_OP_FILES_UPDATE IORING_OP_STATX IORING_OP_READ IORING_OP_WRITE IORING_OP_FADVISE
        IORING_OP_MADVISE IORING_OP_SEND IORING_OP_RECV IORING_OP_OPENAT2 IORING_OP_EPOLL_CTL
        IORING_OP_SPLICE IORING_OP_PROVIDE_BUFFERS IORING_OP_REMOVE_BUFFERS IORING_OP_TEE
        IORING_OP_SHUTDOWN IORING_OP_RENAMEAT IORING_OP_UNLINKAT IORING_OP_MKDIRAT
        IORING_OP_SYMLINKAT IORING_OP_LINKAT IORING_OP_MSG_RING IORING_OP_FSETXATTR
        IORING_OP_SETXATTR IORING_OP_FGETXATTR IORING_OP_GETXATTR IORING_OP_SOCKET
        IORING_OP_URING_CMD IORING_OP_SEND_ZC IORING_OP_SENDMSG_ZC IORING_OP_READ_MULTISHOT
        IORING_OP_WAITID IORING_OP_FUTEX_WAIT IORING_OP_FUTEX_WAKE IORING_OP_FUTEX_WAITV
        IORING_OP_FIXED_FD_INSTALL IORING_OP_FTRUNCATE IORING_OP_BIND IORING_OP_LISTEN
        IORING_OP_RECV_ZC IORING_OP_EPOLL_WAIT IORING_OP_READV_FIXED IORING_OP_WRITEV_FIXED
        IORING_OP_PIPE),
    variants!(io_uring_msg_ring_flags: IORING_MSG_DATA IORING_MSG_SEND_FD),
    variants!(io_uring_register_op: IORING_REGISTER_BUFFERS IORING_UNREGISTER_BUFFERS
        IORING_REGISTER_FILES IORING_UNREGISTER_FILES IORING_REGISTER_EVENTFD
        IORING_UNREGISTER_EVENTFD IORING_REGISTER_FILES_UPDATE IORING_REGISTER_EVENTFD_ASYNC
        IORING_REGISTER_PROBE IORING_REGISTER_PERSONALITY IORING_UNREGISTER_PERSONALITY
        IORING_REGISTER_RESTRICTIONS IORING_REGISTER_ENABLE_RINGS IORING_REGISTER_FILES2
        IORING_REGISTER_FILES_UPDATE2 IORING_REGISTER_BUFFERS2 IORING_REGISTER_BUFFERS_UPDATE
        IORING_REGISTER_IOWQ_AFF IORING_UNREGISTER_IOWQ_AFF IORING_REGISTER_IOWQ_MAX_WORKERS
        IORING_REGISTER_RING_FDS IORING_UNREGISTER_RING_FDS IORING_REGISTER_PBUF_RING
        IORING_UNREGISTER_PBUF_RING IORING_REGISTER_SYNC_CANCEL IORING_REGISTER_FILE_ALLOC_RANGE
        IORING_REGISTER_PBUF_STATUS IORING_REGISTER_NAPI IORING_UNREGISTER_NAPI
        IORING_REGISTER_CLOCK IORING_REGISTER_CLONE_BUFFERS IORING_REGISTER_SEND_MSG_RING
        IORING_REGISTER_ZCRX_IFQ IORING_REGISTER_RESIZE_RINGS IORING_REGISTER_MEM_REGION
        IORING_REGISTER_USE_REGISTERED_RING),
    variants!(io_wq_type: IO_WQ_BOUND IO_WQ_UNBOUND),
    variants!(io_uring_register_pbuf_ring_flags: IOU_PBUF_RING_MMAP IOU_PBUF_RING_INC),
    variants!(io_uring_napi_op: IO_URING_NAPI_REGISTER_OP IO_URING_NAPI_STATIC_ADD_ID
        IO_URING_NAPI_STATIC_DEL_ID),
    variants!(io_uring_napi_tracking_strategy: IO_URING_NAPI_TRACKING_DYNAMIC
        IO_URING_NAPI_TRACKING_STATIC IO_URING_NAPI_TRACKING_INACTIVE),
    variants!(io_uring_register_restriction_op: IORING_RESTRICTION_REGISTER_OP
        IORING_RESTRICTION_SQE_OP IORING_RESTRICTION_SQE_FLAGS_ALLOWED
        IORING_RESTRICTION_SQE_FLAGS_REQUIRED IORING_RESTRICTION_LAST),
    variants!(io_uring_socket_op: SOCKET_URING_OP_SIOCINQ SOCKET_URING_OP_SIOCOUTQ
        SOCKET_URING_OP_GETSOCKOPT SOCKET_URING_OP_SETSOCKOPT SOCKET_URING_OP_TX_TIMESTAMP),
    variants!(io_uring_zcrx_area_flags: IORING_ZCRX_AREA_DMABUF),
];

/// Numbers that count how many there are, or are masks of all there are: they grow.
const GROWN: &[(&str, i128)] = &[
    ("IORING_OP_LAST", raw::io_uring_op::IORING_OP_LAST as i128),
    ("IORING_REGISTER_LAST", raw::io_uring_register_op::IORING_REGISTER_LAST as i128),
    ("IORING_URING_CMD_MASK", raw::IORING_URING_CMD_MASK as i128),
];

#[test]
fn every_struct_of_linux_raw_sys_has_our_size_and_our_offsets() {
    let pairs = STRUCTS.iter().copied().flatten();
    let wrong: Vec<_> = pairs.filter(|(_, theirs, ours)| theirs != ours).collect();
    assert!(wrong.is_empty(), "(word, theirs, ours): {wrong:?}");
}

#[test]
fn every_constant_of_linux_raw_sys_has_our_value() {
    let ours = ours();
    let wrong: Vec<_> = CONSTANTS
        .iter()
        .copied()
        .flatten()
        .filter(|(name, theirs)| ours.get(name) != Some(theirs))
        .collect();
    assert!(wrong.is_empty(), "theirs: {wrong:?}");
}

#[test]
fn counts_and_masks_have_grown_since_linux_raw_sys() {
    let ours = ours();
    for (name, theirs) in GROWN {
        assert!(ours[name] > *theirs, "{name}: theirs {theirs}, ours {}", ours[name]);
    }
}

#[test]
fn futexes_are_told_what_the_headers_say() {
    let ours = [FutexFlags::SIZE_U32, FutexFlags::NUMA, FutexFlags::MPOL, FutexFlags::PRIVATE];
    let theirs = [
        general::FUTEX2_SIZE_U32,
        general::FUTEX2_NUMA,
        general::FUTEX2_MPOL,
        general::FUTEX2_PRIVATE,
    ];
    assert_eq!(ours.map(|flags| flags.bits()), theirs);
    assert_eq!(FUTEX_WAITV_MAX, general::FUTEX_WAITV_MAX);
}
