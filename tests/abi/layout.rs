//! Every struct of `data/layout.tsv` against ours: size, alignment, and the offset of each field.
//!
//! A field of ours is an exact counterpart: same offset, same size. A member of a union for which
//! we have no field must lie inside the field that overlays it:
//!
//! ```text
//! layout!("io_uring_sqe" Sqe:  addr, len, ..  |  "level" in addr + 0: 4, "optname" in addr + 4: 4)
//!          the kernel's  ours  exact             members inside of fields
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{align_of, offset_of, size_of};

use annulus_sys::abi::{
    AttrPi, Buf, BufRing, Cqe, Cqe32, CqringOffsets, FutexWaitv, GeteventsArg, IoTimespec, OpenHow,
    Params, RecvmsgOut, RegWait, Sqe, SqringOffsets, Timespec,
};
use annulus_sys::abi_bpf::{Bpf, BpfCtx, BpfCtxOpen, BpfCtxSocket, BpfFilter};
use annulus_sys::abi_mock::{MockCreate, MockProbe};
use annulus_sys::abi_query::{QueryHdr, QueryOpcode, QueryScq, QueryZcrx, QueryZcrxEvent};
use annulus_sys::abi_register::{
    BufReg, BufStatus, ClockRegister, CloneBuffers, FileIndexRange, FilesUpdate, MemRegionReg,
    Napi, Probe, ProbeOp, RegionDesc, Restriction, RsrcRegister, RsrcUpdate, RsrcUpdate2,
    SyncCancelReg, TaskRestriction,
};
use annulus_sys::abi_zcrx::{
    ZcrxAreaReg, ZcrxCqe, ZcrxCtrl, ZcrxCtrlAddArea, ZcrxCtrlArmEvent, ZcrxCtrlExport,
    ZcrxCtrlFlushRq, ZcrxEventDesc, ZcrxIfqReg, ZcrxOffsets, ZcrxRqe, ZcrxStats,
};

use crate::{number, rows};

/// The kernel's structs.
const KERNEL: &str = include_str!("../data/layout.tsv");

/// The kernel's name of a member, then our offset and size of it.
type Member = (&'static str, usize, usize);

/// The size of the field that `_get` gets.
pub const fn size_of_field<S, F>(_get: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// A struct of ours, under the kernel's name.
macro_rules! layout {
    ($kernel:literal $ours:ident: $($field:ident $(as $name:literal)?),*
        $(| $($member:literal in $whole:ident + $at:literal: $size:literal),+)?) => {
        ($kernel, &[
            ("(sizeof)", 0, size_of::<$ours>()),
            ("(alignof)", 0, align_of::<$ours>()),
            $((
                kernel_name!($field $($name)?),
                offset_of!($ours, $field),
                size_of_field(|it: &$ours| &it.$field),
            ),)*
            $($((
                $member,
                offset_of!($ours, $whole) + $at,
                inside($at, $size, size_of_field(|it: &$ours| &it.$whole)),
            ),)+)?
        ])
    };
}

macro_rules! kernel_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// The size of a member that starts `at` bytes into a field of `whole` bytes, and must fit.
const fn inside(at: usize, size: usize, whole: usize) -> usize {
    assert!(at + size <= whole);
    size
}

#[rustfmt::skip]
const OURS: &[(&str, &[Member])] = &[
    layout!("io_uring_sqe" Sqe: opcode, flags, ioprio, fd, off, addr, len, user_data, buf_index,
        personality, file_index, addr3, pad2 as "__pad2"
        | "addr2" in off + 0: 8, "cmd_op" in off + 0: 4, "__pad1" in off + 4: 4,
        "splice_off_in" in addr + 0: 8, "level" in addr + 0: 4, "optname" in addr + 4: 4,
        "rw_flags" in op_flags + 0: 4, "fsync_flags" in op_flags + 0: 4,
        "poll_events" in op_flags + 0: 2, "poll32_events" in op_flags + 0: 4,
        "sync_range_flags" in op_flags + 0: 4, "msg_flags" in op_flags + 0: 4,
        "timeout_flags" in op_flags + 0: 4, "accept_flags" in op_flags + 0: 4,
        "cancel_flags" in op_flags + 0: 4, "open_flags" in op_flags + 0: 4,
        "statx_flags" in op_flags + 0: 4, "fadvise_advice" in op_flags + 0: 4,
        "splice_flags" in op_flags + 0: 4, "rename_flags" in op_flags + 0: 4,
        "unlink_flags" in op_flags + 0: 4, "hardlink_flags" in op_flags + 0: 4,
        "xattr_flags" in op_flags + 0: 4, "msg_ring_flags" in op_flags + 0: 4,
        "uring_cmd_flags" in op_flags + 0: 4, "waitid_flags" in op_flags + 0: 4,
        "futex_flags" in op_flags + 0: 4, "install_fd_flags" in op_flags + 0: 4,
        "nop_flags" in op_flags + 0: 4, "pipe_flags" in op_flags + 0: 4,
        "buf_group" in buf_index + 0: 2, "splice_fd_in" in file_index + 0: 4,
        "zcrx_ifq_idx" in file_index + 0: 4, "optlen" in file_index + 0: 4,
        "addr_len" in file_index + 0: 2, "__pad3" in file_index + 2: 2,
        "write_stream" in file_index + 0: 1, "__pad4" in file_index + 1: 3,
        "attr_ptr" in addr3 + 0: 8, "optval" in addr3 + 0: 8, "cmd" in addr3 + 0: 0,
        "attr_type_mask" in pad2 + 0: 8),
    layout!("io_uring_cqe" Cqe: user_data, res, flags),
    ("io_uring_cqe", &[("big_cqe", offset_of!(Cqe32, big), 0)]),
    layout!("io_uring_params" Params: sq_entries, cq_entries, flags, sq_thread_cpu,
        sq_thread_idle, features, wq_fd, resv, sq_off, cq_off),
    layout!("io_sqring_offsets" SqringOffsets: head, tail, ring_mask, ring_entries, flags,
        dropped, array, resv1, user_addr),
    layout!("io_cqring_offsets" CqringOffsets: head, tail, ring_mask, ring_entries, overflow,
        cqes, flags, resv1, user_addr),
    layout!("__kernel_timespec" Timespec: tv_sec, tv_nsec),
    layout!("io_timespec" IoTimespec: tv_sec, tv_nsec),
    layout!("io_uring_getevents_arg" GeteventsArg: sigmask, sigmask_sz, min_wait_usec, ts),
    layout!("io_uring_reg_wait" RegWait: ts, min_wait_usec, flags, sigmask, sigmask_sz, pad, pad2),
    layout!("io_uring_buf" Buf: addr, len, bid, resv),
    layout!("io_uring_buf_ring" BufRing: resv1, resv2, resv3, tail
        | "__empty_bufs" in resv1 + 0: 0, "bufs" in resv1 + 0: 0),
    layout!("io_uring_attr_pi" AttrPi: flags, app_tag, len, addr, seed, rsvd),
    layout!("io_uring_recvmsg_out" RecvmsgOut: namelen, controllen, payloadlen, flags),
    layout!("open_how" OpenHow: flags, mode, resolve),
    layout!("futex_waitv" FutexWaitv: val, uaddr, flags, reserved as "__reserved"),
    layout!("io_uring_rsrc_register" RsrcRegister: nr, flags, resv2, data, tags),
    layout!("io_uring_rsrc_update" RsrcUpdate: offset, resv, data),
    layout!("io_uring_rsrc_update2" RsrcUpdate2: offset, resv, data, tags, nr, resv2),
    layout!("io_uring_files_update" FilesUpdate: offset, resv, fds),
    layout!("io_uring_probe" Probe: last_op, ops_len, resv, resv2),
    ("io_uring_probe", &[("ops", size_of::<Probe>(), 0)]),
    layout!("io_uring_probe_op" ProbeOp: op, resv, flags, resv2),
    layout!("io_uring_restriction" Restriction: opcode, register_op, resv, resv2
        | "sqe_op" in register_op + 0: 1, "sqe_flags" in register_op + 0: 1),
    layout!("io_uring_task_restriction" TaskRestriction: flags, nr_res, resv),
    ("io_uring_task_restriction", &[
        ("restrictions", size_of::<TaskRestriction>(), 0),
        ("__empty_restrictions", size_of::<TaskRestriction>(), 0),
    ]),
    layout!("io_uring_clock_register" ClockRegister: clockid, resv as "__resv"),
    layout!("io_uring_clone_buffers" CloneBuffers: src_fd, flags, src_off, dst_off, nr, pad),
    layout!("io_uring_buf_reg" BufReg: ring_addr, ring_entries, bgid, flags, min_left, resv),
    layout!("io_uring_buf_status" BufStatus: buf_group, head, resv),
    layout!("io_uring_sync_cancel_reg" SyncCancelReg: addr, fd, flags, timeout, opcode, pad, pad2),
    layout!("io_uring_file_index_range" FileIndexRange: off, len, resv),
    layout!("io_uring_napi" Napi: busy_poll_to, prefer_busy_poll, opcode, pad, op_param, resv),
    layout!("io_uring_mem_region_reg" MemRegionReg: region_uptr, flags, resv as "__resv"),
    layout!("io_uring_region_desc" RegionDesc: user_addr, size, flags, id, mmap_offset,
        resv as "__resv"),
    layout!("io_uring_query_hdr" QueryHdr: next_entry, query_data, query_op, size, result,
        resv as "__resv"),
    layout!("io_uring_query_opcode" QueryOpcode: nr_request_opcodes, nr_register_opcodes,
        feature_flags, ring_setup_flags, enter_flags, sqe_flags, nr_query_opcodes, pad as "__pad"),
    layout!("io_uring_query_zcrx" QueryZcrx: register_flags, area_flags, nr_ctrl_opcodes,
        features, rq_hdr_size, rq_hdr_alignment, resv2 as "__resv2"),
    layout!("io_uring_query_scq" QueryScq: hdr_size, hdr_alignment),
    layout!("io_uring_query_zcrx_event" QueryZcrxEvent: event_flags, stats_size,
        stats_off_alignment, resv1 as "__resv1", resv2 as "__resv2"),
    layout!("io_uring_bpf" Bpf: cmd_type, cmd_flags, resv, filter),
    layout!("io_uring_bpf_filter" BpfFilter: opcode, flags, filter_len, pdu_size, resv,
        filter_ptr, resv2),
    layout!("io_uring_bpf_ctx" BpfCtx: user_data, opcode, sqe_flags, pdu_size, pad, open
        | "connect" in open + 0: 24),
    ("io_uring_bpf_ctx", &[
        ("open.flags", offset_of!(BpfCtx, open.flags), size_of_field(|it: &BpfCtxOpen| &it.flags)),
        ("open.mode", offset_of!(BpfCtx, open.mode), size_of_field(|it: &BpfCtxOpen| &it.mode)),
        ("open.resolve", offset_of!(BpfCtx, open.resolve),
            size_of_field(|it: &BpfCtxOpen| &it.resolve)),
        ("socket", offset_of!(BpfCtx, open), size_of::<BpfCtxSocket>()),
        ("socket.family", offset_of!(BpfCtx, open) + offset_of!(BpfCtxSocket, family),
            size_of_field(|it: &BpfCtxSocket| &it.family)),
        ("socket.type", offset_of!(BpfCtx, open) + offset_of!(BpfCtxSocket, r#type),
            size_of_field(|it: &BpfCtxSocket| &it.r#type)),
        ("socket.protocol", offset_of!(BpfCtx, open) + offset_of!(BpfCtxSocket, protocol),
            size_of_field(|it: &BpfCtxSocket| &it.protocol)),
    ]),
    layout!("io_uring_zcrx_rqe" ZcrxRqe: off, len, pad as "__pad"),
    layout!("io_uring_zcrx_cqe" ZcrxCqe: off, pad as "__pad"),
    layout!("io_uring_zcrx_offsets" ZcrxOffsets: head, tail, rqes, resv2 as "__resv2",
        resv as "__resv"),
    layout!("io_uring_zcrx_area_reg" ZcrxAreaReg: addr, len, rq_area_token, flags, dmabuf_fd,
        resv2 as "__resv2"),
    layout!("io_uring_zcrx_ifq_reg" ZcrxIfqReg: if_idx, if_rxq, rq_entries, flags, area_ptr,
        region_ptr, offsets, zcrx_id, rx_buf_len, event_desc, resv as "__resv"),
    layout!("zcrx_event_desc" ZcrxEventDesc: user_data, type_mask, flags, stats_offset,
        resv2 as "__resv2"),
    layout!("zcrx_stats" ZcrxStats: copy_count, copy_bytes),
    layout!("zcrx_ctrl" ZcrxCtrl: zcrx_id, op, resv as "__resv", zc_export
        | "zc_flush" in zc_export + 0: 48, "zc_arm_event" in zc_export + 0: 48,
        "zc_area" in zc_export + 0: 48),
    layout!("zcrx_ctrl_flush_rq" ZcrxCtrlFlushRq: resv as "__resv"),
    layout!("zcrx_ctrl_export" ZcrxCtrlExport: zcrx_fd, resv1 as "__resv1"),
    layout!("zcrx_ctrl_arm_event" ZcrxCtrlArmEvent: event_type, resv as "__resv"),
    layout!("zcrx_ctrl_add_area" ZcrxCtrlAddArea: area_ptr, resv as "__resv"),
    layout!("io_uring_mock_probe" MockProbe: features, resv as "__resv"),
    layout!("io_uring_mock_create" MockCreate: out_fd, flags, file_size, rw_delay_ns,
        resv as "__resv"),
];

/// Our offsets and sizes, by the kernel's names of struct and member.
fn ours() -> BTreeMap<(&'static str, &'static str), (usize, usize)> {
    let members = OURS.iter().flat_map(|(owner, members)| members.iter().map(move |m| (owner, m)));
    members.map(|(owner, (name, offset, size))| ((*owner, *name), (*offset, *size))).collect()
}

#[test]
fn every_member_of_the_kernels_structs_lies_where_ours_does() {
    let ours = ours();
    let mut wrong = Vec::new();
    for row in rows(KERNEL) {
        let place = [row[2], row[3]].map(|text| usize::try_from(number(text)).unwrap());
        let place = (place[0], place[1]);
        match ours.get(&(row[0], row[1])) {
            Some(our) if *our == place => {}
            our => wrong.push(format!("{}.{} is {place:?}, ours {our:?}", row[0], row[1])),
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_member_of_our_structs_is_one_of_the_kernel() {
    let kernel: BTreeSet<_> = rows(KERNEL).map(|row| (row[0], row[1])).collect();
    // The alignment of structs that were added later was not measured.
    let unknown: Vec<_> = ours()
        .into_keys()
        .filter(|(owner, name)| !kernel.contains(&(*owner, *name)) && *name != "(alignof)")
        .collect();
    assert_eq!(unknown, [("", ""); 0]);
}
