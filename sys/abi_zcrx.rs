//! Zero-copy receive: a queue of a network card that writes into our memory, since Linux 6.15.
//!
//! ```text
//!                ZCRX_IFQ  ZcrxIfqReg ──area_ptr──► ZcrxAreaReg   the memory that it fills
//!                                     ──region_ptr► RegionDesc    the refill ring
//!                                     ──event_desc► ZcrxEventDesc (7.2)
//!
//!   RECV_ZC ──► Cqe32 { first, big: ZcrxCqe { off } }     off: area << 48 | offset in the area
//!   we use the bytes, then
//!   refill ring ◄── ZcrxRqe { off, len }                  the card may use the memory again
//! ```
//!
//! These are plain numbers, with the flags next to their structs; reserved fields must be zero.
//! Leaves to others: which side owns a piece of memory at which time.

use core::mem::{align_of, offset_of, size_of};

use bitflags::bitflags;

/// The position of the area number in an offset, in bits. Since Linux 6.15.
#[doc(alias = "IORING_ZCRX_AREA_SHIFT")]
pub const ZCRX_AREA_SHIFT: u32 = 48;
/// The bits of an offset that hold the area number. Since Linux 6.15.
#[doc(alias = "IORING_ZCRX_AREA_MASK")]
pub const ZCRX_AREA_MASK: u64 = !((1 << ZCRX_AREA_SHIFT) - 1);

/// An entry of the refill ring: memory that the card may use again.
#[doc(alias = "io_uring_zcrx_rqe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxRqe {
    /// Its offset: the one in the completion, combined with the token of the area.
    pub off: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Reserved.
    pub pad: u32,
}

const _: () = {
    assert!(size_of::<ZcrxRqe>() == 16);
    assert!(align_of::<ZcrxRqe>() == 8);
    assert!(offset_of!(ZcrxRqe, off) == 0);
    assert!(offset_of!(ZcrxRqe, len) == 8);
    assert!(offset_of!(ZcrxRqe, pad) == 12);
};

/// The second half of a `RECV_ZC` completion.
#[doc(alias = "io_uring_zcrx_cqe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxCqe {
    /// The area, and the offset of the data in it; `res` is the length.
    pub off: u64,
    /// Reserved.
    pub pad: u64,
}

const _: () = {
    assert!(size_of::<ZcrxCqe>() == 16);
    assert!(align_of::<ZcrxCqe>() == 8);
    assert!(offset_of!(ZcrxCqe, off) == 0);
    assert!(offset_of!(ZcrxCqe, pad) == 8);
};

/// The offsets of the parts of the refill ring in its map, in bytes.
#[doc(alias = "io_uring_zcrx_offsets")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxOffsets {
    /// The index up to which the kernel has taken entries.
    pub head: u32,
    /// The index up to which we have published entries.
    pub tail: u32,
    /// The entries.
    pub rqes: u32,
    /// Reserved.
    pub resv2: u32,
    /// Reserved.
    pub resv: [u64; 2],
}

const _: () = {
    assert!(size_of::<ZcrxOffsets>() == 32);
    assert!(align_of::<ZcrxOffsets>() == 8);
    assert!(offset_of!(ZcrxOffsets, head) == 0);
    assert!(offset_of!(ZcrxOffsets, tail) == 4);
    assert!(offset_of!(ZcrxOffsets, rqes) == 8);
    assert!(offset_of!(ZcrxOffsets, resv2) == 12);
    assert!(offset_of!(ZcrxOffsets, resv) == 16);
};

bitflags! {
    /// The kind of memory of an area.
    #[doc(alias = "io_uring_zcrx_area_flags")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ZcrxAreaFlags: u32 {
        /// The memory belongs to a device, which `dmabuf_fd` names. Since Linux 6.16.
        #[doc(alias = "IORING_ZCRX_AREA_DMABUF")]
        const DMABUF = 1 << 0;

        const _ = !0;
    }
}

/// A memory area that the card fills.
#[doc(alias = "io_uring_zcrx_area_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxAreaReg {
    /// Its address; with `DMABUF`, an offset.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u64,
    /// From the kernel: the token that refill entries combine with their offset.
    pub rq_area_token: u64,
    /// The kind of memory.
    pub flags: ZcrxAreaFlags,
    /// The descriptor of the device memory, with `DMABUF`.
    pub dmabuf_fd: u32,
    /// Reserved.
    pub resv2: [u64; 2],
}

const _: () = {
    assert!(size_of::<ZcrxAreaReg>() == 48);
    assert!(align_of::<ZcrxAreaReg>() == 8);
    assert!(offset_of!(ZcrxAreaReg, addr) == 0);
    assert!(offset_of!(ZcrxAreaReg, len) == 8);
    assert!(offset_of!(ZcrxAreaReg, rq_area_token) == 16);
    assert!(offset_of!(ZcrxAreaReg, flags) == 24);
    assert!(offset_of!(ZcrxAreaReg, dmabuf_fd) == 28);
    assert!(offset_of!(ZcrxAreaReg, resv2) == 32);
};

bitflags! {
    /// How a receive queue is registered.
    #[doc(alias = "zcrx_reg_flags")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ZcrxRegFlags: u32 {
        /// Imports a queue that another ring exported; `if_idx` is its descriptor.
        /// Since Linux 6.19.
        #[doc(alias = "ZCRX_REG_IMPORT")]
        const IMPORT = 1 << 0;
        /// Uses no network card: every byte is copied. Since Linux 7.1.
        #[doc(alias = "ZCRX_REG_NODEV")]
        const NODEV = 1 << 1;

        const _ = !0;
    }
}

bitflags! {
    /// The features of the kernel's zero-copy receive.
    #[doc(alias = "zcrx_features")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ZcrxFeatures: u32 {
        /// `rx_buf_len` sets how much memory the card takes at a time. Since Linux 7.0.
        #[doc(alias = "ZCRX_FEATURE_RX_PAGE_SIZE")]
        const RX_PAGE_SIZE = 1 << 0;
        /// Events can be reported, as `event_desc` describes. Since Linux 7.2.
        #[doc(alias = "ZCRX_FEATURE_EVENT")]
        const EVENT = 1 << 1;

        const _ = !0;
    }
}

/// A receive queue to bind to the ring.
#[doc(alias = "io_uring_zcrx_ifq_reg")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxIfqReg {
    /// The index of the network interface; with `IMPORT`, a descriptor.
    pub if_idx: u32,
    /// The number of the receive queue on that interface.
    pub if_rxq: u32,
    /// The number of entries of the refill ring; from the kernel: rounded up.
    pub rq_entries: u32,
    /// How the queue is registered.
    pub flags: ZcrxRegFlags,
    /// The address of a [`ZcrxAreaReg`].
    pub area_ptr: u64,
    /// The address of a [`RegionDesc`](crate::abi_register::RegionDesc) for the refill ring.
    pub region_ptr: u64,
    /// From the kernel: the offsets of the parts of the refill ring.
    pub offsets: ZcrxOffsets,
    /// From the kernel: the number by which entries and commands name the queue.
    pub zcrx_id: u32,
    /// How much memory the card takes at a time, in bytes; 0 for the default. Since Linux 7.0.
    pub rx_buf_len: u32,
    /// The address of a [`ZcrxEventDesc`], or 0. Since Linux 7.2.
    pub event_desc: u64,
    /// Reserved.
    pub resv: [u64; 2],
}

const _: () = {
    assert!(size_of::<ZcrxIfqReg>() == 96);
    assert!(align_of::<ZcrxIfqReg>() == 8);
    assert!(offset_of!(ZcrxIfqReg, if_idx) == 0);
    assert!(offset_of!(ZcrxIfqReg, if_rxq) == 4);
    assert!(offset_of!(ZcrxIfqReg, rq_entries) == 8);
    assert!(offset_of!(ZcrxIfqReg, flags) == 12);
    assert!(offset_of!(ZcrxIfqReg, area_ptr) == 16);
    assert!(offset_of!(ZcrxIfqReg, region_ptr) == 24);
    assert!(offset_of!(ZcrxIfqReg, offsets) == 32);
    assert!(offset_of!(ZcrxIfqReg, zcrx_id) == 64);
    assert!(offset_of!(ZcrxIfqReg, rx_buf_len) == 68);
    assert!(offset_of!(ZcrxIfqReg, event_desc) == 72);
    assert!(offset_of!(ZcrxIfqReg, resv) == 80);
};

/// An event of a receive queue: a bit position in [`ZcrxEventDesc::type_mask`].
#[doc(alias = "zcrx_event_type")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ZcrxEvent(pub u32);

impl ZcrxEvent {
    /// The card found no memory to fill. Since Linux 7.2.
    #[doc(alias = "ZCRX_EVENT_ALLOC_FAIL")]
    pub const ALLOC_FAIL: Self = Self(0);
    /// Data was copied because it was not in the area. Since Linux 7.2.
    #[doc(alias = "ZCRX_EVENT_COPY")]
    pub const COPY: Self = Self(1);
}

bitflags! {
    /// How events are reported.
    #[doc(alias = "zcrx_event_desc_flags")]
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ZcrxEventDescFlags: u32 {
        /// The kernel updates counters, a [`ZcrxStats`] at `stats_offset`. Since Linux 7.2.
        #[doc(alias = "ZCRX_EVENT_DESC_FLAG_STATS")]
        const STATS = 1 << 0;

        const _ = !0;
    }
}

/// Which events are reported, and how. Since Linux 7.2.
#[doc(alias = "zcrx_event_desc")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxEventDesc {
    /// The `user_data` of the completions that report events.
    pub user_data: u64,
    /// One bit for each [`ZcrxEvent`].
    pub type_mask: u32,
    /// How events are reported.
    pub flags: ZcrxEventDescFlags,
    /// The offset of the [`ZcrxStats`] in the region of the refill ring, with `STATS`.
    pub stats_offset: u64,
    /// Reserved.
    pub resv2: [u64; 9],
}

const _: () = {
    assert!(size_of::<ZcrxEventDesc>() == 96);
    assert!(align_of::<ZcrxEventDesc>() == 8);
    assert!(offset_of!(ZcrxEventDesc, user_data) == 0);
    assert!(offset_of!(ZcrxEventDesc, type_mask) == 8);
    assert!(offset_of!(ZcrxEventDesc, flags) == 12);
    assert!(offset_of!(ZcrxEventDesc, stats_offset) == 16);
    assert!(offset_of!(ZcrxEventDesc, resv2) == 24);
};

/// The kernel's counters, in shared memory. Since Linux 7.2.
#[doc(alias = "zcrx_stats")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxStats {
    /// How many completions had their data copied.
    pub copy_count: u64,
    /// How many bytes were copied.
    pub copy_bytes: u64,
}

const _: () = {
    assert!(size_of::<ZcrxStats>() == 16);
    assert!(align_of::<ZcrxStats>() == 8);
    assert!(offset_of!(ZcrxStats, copy_count) == 0);
    assert!(offset_of!(ZcrxStats, copy_bytes) == 8);
};

/// A command of `ZCRX_CTRL` to a receive queue.
#[doc(alias = "zcrx_ctrl_op")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ZcrxCtrlOp(pub u32);

impl ZcrxCtrlOp {
    /// Takes the entries that are in the refill ring now. Since Linux 6.19.
    #[doc(alias = "ZCRX_CTRL_FLUSH_RQ")]
    pub const FLUSH_RQ: Self = Self(0);
    /// Makes a descriptor with which another ring can import the queue. Since Linux 6.19.
    #[doc(alias = "ZCRX_CTRL_EXPORT")]
    pub const EXPORT: Self = Self(1);
    /// Re-enables an event after it was reported. Since Linux 7.2.
    #[doc(alias = "ZCRX_CTRL_ARM_EVENT")]
    pub const ARM_EVENT: Self = Self(2);
    /// Adds a memory area for the card to fill. Since Linux 7.3.
    #[doc(alias = "ZCRX_CTRL_ADD_AREA")]
    pub const ADD_AREA: Self = Self(3);
}

/// The argument of `ZCRX_CTRL`: a command to a receive queue.
#[doc(alias = "zcrx_ctrl")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxCtrl {
    /// The queue: its [`ZcrxIfqReg::zcrx_id`].
    pub zcrx_id: u32,
    /// The command.
    pub op: ZcrxCtrlOp,
    /// Reserved.
    pub resv: [u64; 2],
    /// `zc_export` (a [`ZcrxCtrlExport`]), `zc_flush` (a [`ZcrxCtrlFlushRq`]), `zc_arm_event` (a
    /// [`ZcrxCtrlArmEvent`]), `zc_area` (a [`ZcrxCtrlAddArea`]).
    #[doc(alias("zc_flush", "zc_arm_event", "zc_area"))]
    pub zc_export: [u64; 6],
}

impl ZcrxCtrl {
    /// The command [`FLUSH_RQ`](ZcrxCtrlOp::FLUSH_RQ).
    pub const fn flush_rq(zcrx_id: u32) -> Self {
        Self { zcrx_id, op: ZcrxCtrlOp::FLUSH_RQ, resv: [0; 2], zc_export: [0; 6] }
    }

    /// The command [`EXPORT`](ZcrxCtrlOp::EXPORT). Read the kernel's answer with
    /// [`exported`](Self::exported).
    pub const fn export(zcrx_id: u32) -> Self {
        Self { zcrx_id, op: ZcrxCtrlOp::EXPORT, resv: [0; 2], zc_export: [0; 6] }
    }

    /// The command [`ARM_EVENT`](ZcrxCtrlOp::ARM_EVENT).
    pub fn arm_event(zcrx_id: u32, event: ZcrxEvent) -> Self {
        let zc_export = [u64::from(event.0), 0, 0, 0, 0, 0];
        Self { zcrx_id, op: ZcrxCtrlOp::ARM_EVENT, resv: [0; 2], zc_export }
    }

    /// The command [`ADD_AREA`](ZcrxCtrlOp::ADD_AREA), with the address of a [`ZcrxAreaReg`].
    pub const fn add_area(zcrx_id: u32, area_ptr: u64) -> Self {
        let zc_export = [area_ptr, 0, 0, 0, 0, 0];
        Self { zcrx_id, op: ZcrxCtrlOp::ADD_AREA, resv: [0; 2], zc_export }
    }

    /// From the kernel, after [`export`](Self::export): `zcrx_fd`, the new descriptor.
    pub const fn exported(&self) -> u32 {
        let [a, b, c, d, ..] = self.zc_export[0].to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

const _: () = {
    assert!(size_of::<ZcrxCtrl>() == 72);
    assert!(align_of::<ZcrxCtrl>() == 8);
    assert!(offset_of!(ZcrxCtrl, zcrx_id) == 0);
    assert!(offset_of!(ZcrxCtrl, op) == 4);
    assert!(offset_of!(ZcrxCtrl, resv) == 8);
    assert!(offset_of!(ZcrxCtrl, zc_export) == 24);
};

/// The argument of `FLUSH_RQ`, which has only reserved fields.
#[doc(alias = "zcrx_ctrl_flush_rq")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxCtrlFlushRq {
    /// Reserved.
    pub resv: [u64; 6],
}

const _: () = {
    assert!(size_of::<ZcrxCtrlFlushRq>() == 48);
    assert!(align_of::<ZcrxCtrlFlushRq>() == 8);
    assert!(offset_of!(ZcrxCtrlFlushRq, resv) == 0);
};

/// The answer to `EXPORT`.
#[doc(alias = "zcrx_ctrl_export")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxCtrlExport {
    /// From the kernel: the new descriptor.
    pub zcrx_fd: u32,
    /// Reserved.
    pub resv1: [u32; 11],
}

const _: () = {
    assert!(size_of::<ZcrxCtrlExport>() == 48);
    assert!(align_of::<ZcrxCtrlExport>() == 4);
    assert!(offset_of!(ZcrxCtrlExport, zcrx_fd) == 0);
    assert!(offset_of!(ZcrxCtrlExport, resv1) == 4);
};

/// The argument of `ARM_EVENT`. Since Linux 7.2.
#[doc(alias = "zcrx_ctrl_arm_event")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxCtrlArmEvent {
    /// The event to re-enable.
    pub event_type: ZcrxEvent,
    /// Reserved.
    pub resv: [u32; 11],
}

const _: () = {
    assert!(size_of::<ZcrxCtrlArmEvent>() == 48);
    assert!(align_of::<ZcrxCtrlArmEvent>() == 4);
    assert!(offset_of!(ZcrxCtrlArmEvent, event_type) == 0);
    assert!(offset_of!(ZcrxCtrlArmEvent, resv) == 4);
};

/// The argument of `ADD_AREA`. Since Linux 7.3.
#[doc(alias = "zcrx_ctrl_add_area")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZcrxCtrlAddArea {
    /// The address of a [`ZcrxAreaReg`].
    pub area_ptr: u64,
    /// Reserved.
    pub resv: [u64; 5],
}

const _: () = {
    assert!(size_of::<ZcrxCtrlAddArea>() == 48);
    assert!(align_of::<ZcrxCtrlAddArea>() == 8);
    assert!(offset_of!(ZcrxCtrlAddArea, area_ptr) == 0);
    assert!(offset_of!(ZcrxCtrlAddArea, resv) == 8);
};
