//! The mock file: a kernel device for testing rings, used through `URING_CMD`, since Linux 6.17.
//!
//! ```text
//!   /dev/io_uring_mock ── MockMgrCmd::PROBE  (addr: MockProbe)  ──► its features
//!                      ── MockMgrCmd::CREATE (addr: MockCreate) ──► a file that answers late,
//!                                                                  short or not at all
//!   that file          ── MockCmd::COPY_REGBUF ──► copies to or from a registered buffer
//! ```
//!
//! The number of the command is in the lower half of `off`. Only kernels built for testing have
//! the device, so ordinary programs have no use for it. These are plain numbers; reserved fields
//! must be zero.

use core::mem::{align_of, offset_of, size_of};

use bitflags::bitflags;

/// A command to the mock device.
#[doc(alias = "io_uring_mock_mgr_cmd")]
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MockMgrCmd(pub u32);

impl MockMgrCmd {
    /// Returns its features. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_MGR_CMD_PROBE")]
    pub const PROBE: Self = Self(0);
    /// Makes a mock file. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_MGR_CMD_CREATE")]
    pub const CREATE: Self = Self(1);
}

/// A command to a mock file.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MockCmd(pub u32);

impl MockCmd {
    /// Copies between a registered buffer and ordinary memory. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_CMD_COPY_REGBUF")]
    pub const COPY_REGBUF: Self = Self(0);
}

bitflags! {
    /// `file_index` of a [`MockCmd::COPY_REGBUF`].
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MockCopyFlags: u32 {
        /// Copies out of the registered buffer, not into it. Since Linux 6.17.
        #[doc(alias = "IORING_MOCK_COPY_FROM")]
        const FROM = 1 << 0;

        const _ = !0;
    }
}

/// A feature of the mock device. The numbers are in the order in which the kernel added them, so
/// the count in [`MockProbe::features`] tells which ones there are.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MockFeature(pub u64);

impl MockFeature {
    /// [`MockCmd::COPY_REGBUF`]. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_FEAT_CMD_COPY")]
    pub const CMD_COPY: Self = Self(0);
    /// Reads return zeroes, and writes are discarded. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_FEAT_RW_ZERO")]
    pub const RW_ZERO: Self = Self(1);
    /// Reads and writes accept the request not to block. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_FEAT_RW_NOWAIT")]
    pub const RW_NOWAIT: Self = Self(2);
    /// Reads and writes can complete after a delay. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_FEAT_RW_ASYNC")]
    pub const RW_ASYNC: Self = Self(3);
    /// A mock file can be polled. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_FEAT_POLL")]
    pub const POLL: Self = Self(4);

    /// The number of features in Linux 7.3: one more than the last number. Since Linux 6.17.
    #[doc(alias = "IORING_MOCK_FEAT_END")]
    pub const END: u64 = 5;
}

bitflags! {
    /// Properties of a new mock file.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct MockCreateFlags: u32 {
        /// It accepts the request not to block. Since Linux 6.17.
        #[doc(alias = "IORING_MOCK_CREATE_F_SUPPORT_NOWAIT")]
        const SUPPORT_NOWAIT = 1 << 0;
        /// It can be polled. Since Linux 6.17.
        #[doc(alias = "IORING_MOCK_CREATE_F_POLL")]
        const POLL = 1 << 1;

        const _ = !0;
    }
}

/// The answer to [`MockMgrCmd::PROBE`].
#[doc(alias = "io_uring_mock_probe")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MockProbe {
    /// From the kernel: how many of the [`MockFeature`]s the device has.
    pub features: u64,
    /// Reserved.
    pub resv: [u64; 9],
}

const _: () = {
    assert!(size_of::<MockProbe>() == 80);
    assert!(align_of::<MockProbe>() == 8);
    assert!(offset_of!(MockProbe, features) == 0);
    assert!(offset_of!(MockProbe, resv) == 8);
};

/// The argument of [`MockMgrCmd::CREATE`].
#[doc(alias = "io_uring_mock_create")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MockCreate {
    /// From the kernel: the descriptor of the new file.
    pub out_fd: u32,
    /// The properties of the file.
    pub flags: MockCreateFlags,
    /// The length of the file, in bytes.
    pub file_size: u64,
    /// How many nanoseconds a read or a write takes.
    pub rw_delay_ns: u64,
    /// Reserved.
    pub resv: [u64; 13],
}

const _: () = {
    assert!(size_of::<MockCreate>() == 128);
    assert!(align_of::<MockCreate>() == 8);
    assert!(offset_of!(MockCreate, out_fd) == 0);
    assert!(offset_of!(MockCreate, flags) == 4);
    assert!(offset_of!(MockCreate, file_size) == 8);
    assert!(offset_of!(MockCreate, rw_delay_ns) == 16);
    assert!(offset_of!(MockCreate, resv) == 24);
};
