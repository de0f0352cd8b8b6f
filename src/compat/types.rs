//! Values that operations and register calls take.

mod cancel;
mod fd;
mod flags;
mod open_how;
mod provided;
mod recvmsg_out;
mod submit_args;
mod time;
mod zcrx;

pub use cancel::CancelBuilder;
pub use fd::{DestinationSlot, Fd, Fixed};
pub(super) use fd::{Target, UseFd, UseFixed};
pub use flags::{CloneBuffersFlags, FsyncFlags, TimeoutFlags};
pub use open_how::{FutexWaitV, OpenHow};
pub use provided::{BufRingEntry, IOU_PBUF_RING_INC, IOU_PBUF_RING_MMAP, Napi, NapiTracking};
pub use recvmsg_out::RecvMsgOut;
pub use submit_args::SubmitArgs;
pub use time::Timespec;
pub use zcrx::{
    IORING_MEM_REGION_TYPE_USER, IORING_ZCRX_AREA_MASK, IORING_ZCRX_AREA_SHIFT,
    io_uring_region_desc, io_uring_zcrx_area_reg, io_uring_zcrx_cqe, io_uring_zcrx_ifq_reg,
    io_uring_zcrx_offsets, io_uring_zcrx_rqe,
};

/// Flags of `preadv2(2)` and `pwritev2(2)`.
#[deprecated(note = "the operations take an `i32`")]
pub type RwFlags = u32;

/// A place for the kernel's `struct statx`: cast a pointer to libc's to one of this.
#[allow(non_camel_case_types, reason = "the name of the peer")]
#[derive(Debug)]
#[repr(C)]
pub struct statx {
    _priv: (),
}

/// A place for the kernel's `struct epoll_event`: cast a pointer to libc's to one of this.
#[allow(non_camel_case_types, reason = "the name of the peer")]
#[derive(Debug)]
#[repr(C)]
pub struct epoll_event {
    _priv: (),
}
