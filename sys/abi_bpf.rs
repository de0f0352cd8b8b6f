//! BPF filters, programs that allow or refuse requests (`BPF_FILTER`), since Linux 7.0.
//!
//! ```text
//!   Bpf { cmd_type: FILTER, filter: BpfFilter } ──filter_ptr──► filter_len × sock_filter
//!
//!   for each request with that opcode, the program loads 32-bit values of a BpfCtx
//!      0  user_data     8  opcode, sqe_flags, pdu_size     16  pdu_size bytes of the operation
//!   and returns 0 to refuse it (EACCES), or any other number to let it run
//! ```
//!
//! These are plain numbers; reserved fields must be zero. Leaves to others: writing the program.

use core::mem::{align_of, offset_of, size_of};

use crate::flags::SqeFlags;
use crate::flags_register::{BpfCmd, BpfFilterFlags};
use crate::opcode::Opcode;

/// The argument of `BPF_FILTER`.
#[doc(alias = "io_uring_bpf")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bpf {
    /// The command.
    pub cmd_type: BpfCmd,
    /// Flags, of which none is defined yet.
    pub cmd_flags: u16,
    /// Reserved.
    pub resv: u32,
    /// The filter of `FILTER`.
    pub filter: BpfFilter,
}

const _: () = {
    assert!(size_of::<Bpf>() == 72);
    assert!(align_of::<Bpf>() == 8);
    assert!(offset_of!(Bpf, cmd_type) == 0);
    assert!(offset_of!(Bpf, cmd_flags) == 2);
    assert!(offset_of!(Bpf, resv) == 4);
    assert!(offset_of!(Bpf, filter) == 8);
};

/// A filter for one operation.
#[doc(alias = "io_uring_bpf_filter")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BpfFilter {
    /// The [`Opcode`] that the filter is for, in 32 bits.
    pub opcode: u32,
    /// How the filter is installed.
    pub flags: BpfFilterFlags,
    /// The number of instructions.
    pub filter_len: u32,
    /// How many bytes of operation data the program expects. From the kernel, when it refuses with
    /// `EMSGSIZE`: how many there are.
    pub pdu_size: u8,
    /// Reserved.
    pub resv: [u8; 3],
    /// The address of the instructions.
    pub filter_ptr: u64,
    /// Reserved.
    pub resv2: [u64; 5],
}

const _: () = {
    assert!(size_of::<BpfFilter>() == 64);
    assert!(align_of::<BpfFilter>() == 8);
    assert!(offset_of!(BpfFilter, opcode) == 0);
    assert!(offset_of!(BpfFilter, flags) == 4);
    assert!(offset_of!(BpfFilter, filter_len) == 8);
    assert!(offset_of!(BpfFilter, pdu_size) == 12);
    assert!(offset_of!(BpfFilter, resv) == 13);
    assert!(offset_of!(BpfFilter, filter_ptr) == 16);
    assert!(offset_of!(BpfFilter, resv2) == 24);
};

/// The data of a request that a filter can load. We never pass it; a program uses its offsets.
#[doc(alias = "io_uring_bpf_ctx")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BpfCtx {
    /// The `user_data` of the request.
    pub user_data: u64,
    /// The operation that the request performs.
    pub opcode: Opcode,
    /// The flags of its entry.
    pub sqe_flags: SqeFlags,
    /// How many bytes of operation data follow.
    pub pdu_size: u8,
    /// Reserved.
    pub pad: [u8; 5],
    /// `open` (24 bytes), `socket` (12 bytes, a [`BpfCtxSocket`]), `connect` (24 bytes).
    #[doc(alias("socket", "connect"))]
    pub open: BpfCtxOpen,
}

const _: () = {
    assert!(size_of::<BpfCtx>() == 40);
    assert!(align_of::<BpfCtx>() == 8);
    assert!(offset_of!(BpfCtx, user_data) == 0);
    assert!(offset_of!(BpfCtx, opcode) == 8);
    assert!(offset_of!(BpfCtx, sqe_flags) == 9);
    assert!(offset_of!(BpfCtx, pdu_size) == 10);
    assert!(offset_of!(BpfCtx, pad) == 11);
    assert!(offset_of!(BpfCtx, open) == 16);
};

/// The operation data of an `OPENAT` or `OPENAT2`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BpfCtxOpen {
    /// `O_*`.
    pub flags: u64,
    /// The permissions of a new file.
    pub mode: u64,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

const _: () = {
    assert!(size_of::<BpfCtxOpen>() == 24);
    assert!(align_of::<BpfCtxOpen>() == 8);
    assert!(offset_of!(BpfCtxOpen, flags) == 0);
    assert!(offset_of!(BpfCtxOpen, mode) == 8);
    assert!(offset_of!(BpfCtxOpen, resolve) == 16);
};

/// The operation data of a `SOCKET`, in the place of [`BpfCtx::open`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BpfCtxSocket {
    /// `AF_*`.
    pub family: u32,
    /// `SOCK_*`.
    pub r#type: u32,
    /// `IPPROTO_*`.
    pub protocol: u32,
}

const _: () = {
    assert!(size_of::<BpfCtxSocket>() == 12);
    assert!(align_of::<BpfCtxSocket>() == 4);
    assert!(offset_of!(BpfCtxSocket, family) == 0);
    assert!(offset_of!(BpfCtxSocket, r#type) == 4);
    assert!(offset_of!(BpfCtxSocket, protocol) == 8);
};
