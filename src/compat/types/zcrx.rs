//! The kernel's structs of zero-copy receive, with the kernel's names.
#![allow(non_camel_case_types, reason = "the kernel's names")]

use core::mem::{align_of, offset_of, size_of};

use annulus_sys::abi_register::RegionDesc;
use annulus_sys::abi_zcrx::{ZcrxAreaReg, ZcrxCqe, ZcrxIfqReg, ZcrxOffsets, ZcrxRqe};

/// The memory of a region is ours.
pub const IORING_MEM_REGION_TYPE_USER: u32 = 1;
/// In an offset of a completion, the area begins at this bit.
pub const IORING_ZCRX_AREA_SHIFT: u32 = 48;
/// The bits of an offset that name the area.
pub const IORING_ZCRX_AREA_MASK: u64 = !((1 << IORING_ZCRX_AREA_SHIFT) - 1);

/// A memory region.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_uring_region_desc {
    /// Its address.
    pub user_addr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// [`IORING_MEM_REGION_TYPE_USER`], or 0.
    pub flags: u32,
    /// Its id.
    pub id: u32,
    /// Where to map it, if the kernel allocated it.
    pub mmap_offset: u64,
    /// Reserved.
    pub __resv: [u64; 4],
}

/// A memory area that the card fills.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_uring_zcrx_area_reg {
    /// Its address.
    pub addr: u64,
    /// Its size in bytes.
    pub len: u64,
    /// From the kernel: what refill entries combine with their offset.
    pub rq_area_token: u64,
    /// The kind of memory.
    pub flags: u32,
    /// The descriptor of the device's memory.
    pub dmabuf_fd: u32,
    /// Reserved.
    pub __resv2: [u64; 2],
}

/// Where the refill queue lies in its region.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_uring_zcrx_offsets {
    /// The kernel's index.
    pub head: u32,
    /// Our index.
    pub tail: u32,
    /// The entries.
    pub rqes: u32,
    /// Reserved.
    pub __resv2: u32,
    /// Reserved.
    pub __resv: [u64; 2],
}

/// A receive queue.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_uring_zcrx_ifq_reg {
    /// The index of the network interface.
    pub if_idx: u32,
    /// The number of the queue on that interface.
    pub if_rxq: u32,
    /// How many entries the refill queue has.
    pub rq_entries: u32,
    /// Flags.
    pub flags: u32,
    /// The address of an [`io_uring_zcrx_area_reg`].
    pub area_ptr: u64,
    /// The address of an [`io_uring_region_desc`].
    pub region_ptr: u64,
    /// From the kernel: where the refill queue lies.
    pub offsets: io_uring_zcrx_offsets,
    /// From the kernel: the id of the queue.
    pub zcrx_id: u32,
    /// Reserved.
    pub __resv2: u32,
    /// Reserved.
    pub __resv: [u64; 3],
}

/// The second half of a completion: where the data is.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_uring_zcrx_cqe {
    /// The area and the offset in it.
    pub off: u64,
    /// Reserved.
    pub __pad: u64,
}

/// An entry of the refill queue: memory that goes back to the card.
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct io_uring_zcrx_rqe {
    /// The area and the offset in it.
    pub off: u64,
    /// How many bytes.
    pub len: u32,
    /// Reserved.
    pub __pad: u32,
}

const _: () = {
    assert!(size_of::<io_uring_region_desc>() == size_of::<RegionDesc>());
    assert!(size_of::<io_uring_zcrx_area_reg>() == size_of::<ZcrxAreaReg>());
    assert!(size_of::<io_uring_zcrx_offsets>() == size_of::<ZcrxOffsets>());
    assert!(size_of::<io_uring_zcrx_ifq_reg>() == size_of::<ZcrxIfqReg>());
    assert!(align_of::<io_uring_zcrx_ifq_reg>() == align_of::<ZcrxIfqReg>());
    assert!(offset_of!(io_uring_zcrx_ifq_reg, zcrx_id) == offset_of!(ZcrxIfqReg, zcrx_id));
    assert!(size_of::<io_uring_zcrx_cqe>() == size_of::<ZcrxCqe>());
    assert!(size_of::<io_uring_zcrx_rqe>() == size_of::<ZcrxRqe>());
};
