//! Flags of operations and register calls.

use annulus_sys::{flags, flags_register};
use bitflags::bitflags;

bitflags! {
    /// Flags of timeouts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct TimeoutFlags: u32 {
        /// A point in time, not a span.
        const ABS = flags::TimeoutFlags::ABS.bits();
        /// On the clock that goes on while the machine sleeps. Since Linux 5.15.
        const BOOTTIME = flags::TimeoutFlags::BOOTTIME.bits();
        /// On the clock of the wall. Since Linux 5.15.
        const REALTIME = flags::TimeoutFlags::REALTIME.bits();
        /// The timeout to update is a linked one. Since Linux 5.15.
        const LINK_TIMEOUT_UPDATE = flags::TimeoutFlags::LINK_UPDATE.bits();
        /// The end of the time counts as success, so a chain goes on. Since Linux 5.16.
        const ETIME_SUCCESS = flags::TimeoutFlags::ETIME_SUCCESS.bits();
        /// It repeats. Since Linux 6.4.
        const MULTISHOT = flags::TimeoutFlags::MULTISHOT.bits();
    }
}

bitflags! {
    /// Flags of `fsync`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct FsyncFlags: u32 {
        /// Only the data, and what is needed to read it: `fdatasync(2)`.
        const DATASYNC = flags::FsyncFlags::DATASYNC.bits();
    }
}

bitflags! {
    /// Flags of
    /// [`register_buffers_clone_offset`](super::super::Submitter::register_buffers_clone_offset).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct CloneBuffersFlags: u32 {
        /// The other ring is named by its index among the thread's registered rings.
        const SRC_REGISTERED = flags_register::CloneBuffersFlags::SRC_REGISTERED.bits();
        /// Replaces what is registered here. Since Linux 6.13.
        const DST_REPLACE = flags_register::CloneBuffersFlags::DST_REPLACE.bits();
    }
}
