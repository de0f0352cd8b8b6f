//! Buffer groups, raw API: buffer rings from which the kernel selects buffers, by group number.
//!
//! ```text
//!   buffer_group(7, 8, User, Whole) ─► BufferGroup ─► ring().push(addr, len, bid)
//!   Sqe { buf_group: 7, flags: BUFFER_SELECT, .. }       the kernel selects, the completion names
//!   buffer_group_head(7) ─► how many it has selected
//! ```
//!
//! | a buffer is consumed | and returned | since |
//! |---|---|---|
//! | [`Consumption::Whole`] | with the completion that names it | Linux 5.19 |
//! | [`Consumption::Incremental`] | with the first completion that names it without `F_BUF_MORE` | Linux 6.12 |
//!
//! Leaves to others: buffers that are owned ([`BufRing`](crate::lease::BufRing)), and the buffer
//! ring itself ([`annulus_sys::buf_ring::BufferRing`]).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use annulus_sys::abi_register::BufStatus;
use annulus_sys::flags_register::PbufRingFlags;
pub use annulus_sys::groups::{Group as BufferGroup, RingMemory};
use annulus_sys::index::Entries;
use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use super::error::RegisterError;
use super::{Asked, knows};
use crate::raw::RawRing;

/// How the kernel consumes a buffer that it selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consumption {
    /// In one go, however little data there is to put into it.
    #[default]
    Whole,
    /// Incrementally: as long as there is room in the buffer, one part after the other
    /// (`IOU_PBUF_RING_INC`). Since Linux 6.12.
    ///
    /// A completion does not say where its part begins. So several operations can select from such
    /// buffers at the same time only if [each of them is multishot](crate::op::RecvMulti). Use this
    /// for streams: a datagram that is longer than the rest of a buffer is truncated, and nothing
    /// reports that.
    #[doc(alias = "IOU_PBUF_RING_INC")]
    Incremental {
        /// If fewer bytes are left than this, the kernel does not use the rest of the buffer. 0
        /// uses every byte. Other values need Linux 7.1, or an older stable kernel with the feature
        /// backported.
        min_left: u32,
    },
}

/// # Buffer groups
impl RawRing {
    /// Registers a buffer ring for `entries` buffers, as group `id`. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] if there is a group with that number, [`RegisterError::Invalid`]
    /// unless `entries` is a power of two of at most 32768, and for [`RingMemory::Kernel`] unless
    /// `id` is below [`BufferGroup::MAPPED_IDS`]; [`RegisterError::Unsupported`] for a feature that
    /// this kernel lacks.
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    #[doc(alias = "io_uring_register_buf_ring")]
    #[doc(alias = "io_uring_setup_buf_ring")]
    pub fn buffer_group(
        &self,
        id: u16,
        entries: u32,
        memory: RingMemory,
        used: Consumption,
    ) -> Result<BufferGroup, RegisterError> {
        let reason = "a buffer ring has 1, 2, 4, and so on, at most 32768 entries";
        let invalid = RegisterError::Invalid { reason };
        let entries = Entries::new(entries).filter(|entries| entries.count() <= 1 << 15);
        let entries = entries.ok_or(invalid)?;
        if memory == RingMemory::Kernel && id >= BufferGroup::MAPPED_IDS {
            let reason = "a group in kernel memory has a number below 2048: for a higher one, or \
                          in a ring that has made as many groups, use RingMemory::User";
            return Err(RegisterError::Invalid { reason });
        }
        let (flags, min_left) = match used {
            Consumption::Whole => (PbufRingFlags::empty(), 0),
            Consumption::Incremental { min_left } => (PbufRingFlags::INC, min_left),
        };
        let made = BufferGroup::register_leaving(self.base(), id, entries, memory, flags, min_left);
        made.map_err(|errno| match errno.raw() {
            libc::EEXIST => RegisterError::InUse { what: "group of that number" },
            libc::EINVAL => self.too_old(memory, used),
            libc::ENOMEM => RegisterError::no_memory(u64::from(entries.count()) * 16),
            libc::EACCES => RegisterError::Restricted { call: "PBUF_RING" },
            _ => RegisterError::other(errno),
        })
    }

    /// Which feature of a group this kernel lacks, after it refused a valid group.
    fn too_old(&self, memory: RingMemory, used: Consumption) -> RegisterError {
        let has_rings = knows(self.base(), Asked::Ring, RegisterOp::PBUF_RING, 1);
        let (what, since) = match (has_rings, used, memory) {
            (false, ..) => ("PBUF_RING", "5.19"),
            (true, Consumption::Incremental { min_left: 1.. }, _) => {
                ("leaving the rest of a buffer", "7.1")
            }
            (true, Consumption::Incremental { min_left: 0 }, _) => {
                ("using a buffer in parts", "6.12")
            }
            (true, Consumption::Whole, _) => ("a buffer ring in kernel memory", "6.4"),
        };
        RegisterError::Unsupported { what, since }
    }

    /// How many buffers the kernel has selected from group `id` so far, modulo 65536. Since Linux
    /// 6.8.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is no such group.
    #[doc(alias = "IORING_REGISTER_PBUF_STATUS")]
    #[doc(alias = "io_uring_buf_ring_head")]
    pub fn buffer_group_head(&self, id: u16) -> Result<u16, RegisterError> {
        let mut status = BufStatus { buf_group: id.into(), ..BufStatus::default() };
        let missing = RegisterError::Missing { what: "group of that number" };
        let call = Call::new(RegisterOp::PBUF_STATUS, 1, "the group has no ring");
        // SAFETY: a live `struct io_uring_buf_status`, which the kernel writes, because it says so.
        unsafe { call.make(self.base(), &raw mut status) }.map_err(|error| match error {
            // The kernel may have provided buffers under this number, without a buffer ring.
            RegisterError::Invalid { .. } => missing,
            error => error.unless(libc::ENOENT, missing),
        })?;
        let [a, b, ..] = status.head.to_le_bytes();
        Ok(u16::from_le_bytes([a, b]))
    }
}
