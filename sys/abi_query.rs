//! The questions and answers of `QUERY`, which tells what a kernel can do, since Linux 6.18.
//!
//! ```text
//!   QueryHdr ──query_data──► QueryOpcode | QueryZcrx | QueryScq | QueryZcrxEvent
//!      │                     the first `size` bytes of it, as far as the kernel knows them
//!      └─next_entry──► QueryHdr ──► ...    0 ends the chain
//! ```
//!
//! An older kernel fills in a shorter answer, and returns its length in `size`. It leaves the other
//! bytes unchanged, so initialize an answer with zeroes. Masks have the width that the kernel gives
//! them; the caller turns them into flags. A query also works without a ring.

use core::mem::{align_of, offset_of, size_of};

use crate::abi_zcrx::ZcrxFeatures;
use crate::flags_register::QueryOp;

/// One query: a question, and where to write its answer.
#[doc(alias = "io_uring_query_hdr")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryHdr {
    /// The address of the next query, or 0.
    pub next_entry: u64,
    /// The address of the answer.
    pub query_data: u64,
    /// The question.
    pub query_op: QueryOp,
    /// The size of the memory for the answer; from the kernel: the size of the answer.
    pub size: u32,
    /// From the kernel: 0, or a negated error number.
    pub result: i32,
    /// Reserved.
    pub resv: [u32; 3],
}

const _: () = {
    assert!(size_of::<QueryHdr>() == 40);
    assert!(align_of::<QueryHdr>() == 8);
    assert!(offset_of!(QueryHdr, next_entry) == 0);
    assert!(offset_of!(QueryHdr, query_data) == 8);
    assert!(offset_of!(QueryHdr, query_op) == 16);
    assert!(offset_of!(QueryHdr, size) == 20);
    assert!(offset_of!(QueryHdr, result) == 24);
    assert!(offset_of!(QueryHdr, resv) == 28);
};

/// The answer to `OPCODES`.
#[doc(alias = "io_uring_query_opcode")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryOpcode {
    /// How many [`Opcode`](crate::opcode::Opcode)s there are.
    pub nr_request_opcodes: u32,
    /// How many [`RegisterOp`](crate::opcode::RegisterOp)s there are.
    pub nr_register_opcodes: u32,
    /// The [`Features`](crate::flags::Features).
    pub feature_flags: u64,
    /// The [`SetupFlags`](crate::flags::SetupFlags) that are allowed.
    pub ring_setup_flags: u64,
    /// The [`EnterFlags`](crate::flags::EnterFlags) that are allowed.
    pub enter_flags: u64,
    /// The [`SqeFlags`](crate::flags::SqeFlags) that are allowed.
    pub sqe_flags: u64,
    /// How many [`QueryOp`]s there are.
    pub nr_query_opcodes: u32,
    /// Reserved.
    pub pad: u32,
}

const _: () = {
    assert!(size_of::<QueryOpcode>() == 48);
    assert!(align_of::<QueryOpcode>() == 8);
    assert!(offset_of!(QueryOpcode, nr_request_opcodes) == 0);
    assert!(offset_of!(QueryOpcode, nr_register_opcodes) == 4);
    assert!(offset_of!(QueryOpcode, feature_flags) == 8);
    assert!(offset_of!(QueryOpcode, ring_setup_flags) == 16);
    assert!(offset_of!(QueryOpcode, enter_flags) == 24);
    assert!(offset_of!(QueryOpcode, sqe_flags) == 32);
    assert!(offset_of!(QueryOpcode, nr_query_opcodes) == 40);
    assert!(offset_of!(QueryOpcode, pad) == 44);
};

/// The answer to `ZCRX`.
#[doc(alias = "io_uring_query_zcrx")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryZcrx {
    /// The [`ZcrxRegFlags`](crate::abi_zcrx::ZcrxRegFlags) that are allowed.
    pub register_flags: u64,
    /// The [`ZcrxAreaFlags`](crate::abi_zcrx::ZcrxAreaFlags) that are allowed.
    pub area_flags: u64,
    /// How many [`ZcrxCtrlOp`](crate::abi_zcrx::ZcrxCtrlOp)s there are.
    pub nr_ctrl_opcodes: u32,
    /// Other features.
    pub features: ZcrxFeatures,
    /// The size of the header before the entries of a refill ring, in bytes.
    pub rq_hdr_size: u32,
    /// The alignment of that header.
    pub rq_hdr_alignment: u32,
    /// Reserved.
    pub resv2: u64,
}

const _: () = {
    assert!(size_of::<QueryZcrx>() == 40);
    assert!(align_of::<QueryZcrx>() == 8);
    assert!(offset_of!(QueryZcrx, register_flags) == 0);
    assert!(offset_of!(QueryZcrx, area_flags) == 8);
    assert!(offset_of!(QueryZcrx, nr_ctrl_opcodes) == 16);
    assert!(offset_of!(QueryZcrx, features) == 20);
    assert!(offset_of!(QueryZcrx, rq_hdr_size) == 24);
    assert!(offset_of!(QueryZcrx, rq_hdr_alignment) == 28);
    assert!(offset_of!(QueryZcrx, resv2) == 32);
};

/// The answer to `SCQ`: the header that ring memory of our own needs before the completions, with
/// `NO_MMAP`.
#[doc(alias = "io_uring_query_scq")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryScq {
    /// The size of the header, in bytes.
    pub hdr_size: u64,
    /// The alignment of the header.
    pub hdr_alignment: u64,
}

const _: () = {
    assert!(size_of::<QueryScq>() == 16);
    assert!(align_of::<QueryScq>() == 8);
    assert!(offset_of!(QueryScq, hdr_size) == 0);
    assert!(offset_of!(QueryScq, hdr_alignment) == 8);
};

/// The answer to `ZCRX_EVENT`.
#[doc(alias = "io_uring_query_zcrx_event")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryZcrxEvent {
    /// The [`ZcrxEventDescFlags`](crate::abi_zcrx::ZcrxEventDescFlags) that are allowed.
    pub event_flags: u32,
    /// The size of a [`ZcrxStats`](crate::abi_zcrx::ZcrxStats), in bytes.
    pub stats_size: u32,
    /// The alignment that its offset must have.
    pub stats_off_alignment: u32,
    /// Reserved.
    pub resv1: u32,
    /// Reserved.
    pub resv2: [u64; 4],
}

const _: () = {
    assert!(size_of::<QueryZcrxEvent>() == 48);
    assert!(align_of::<QueryZcrxEvent>() == 8);
    assert!(offset_of!(QueryZcrxEvent, event_flags) == 0);
    assert!(offset_of!(QueryZcrxEvent, stats_size) == 4);
    assert!(offset_of!(QueryZcrxEvent, stats_off_alignment) == 8);
    assert!(offset_of!(QueryZcrxEvent, resv1) == 12);
    assert!(offset_of!(QueryZcrxEvent, resv2) == 16);
};
