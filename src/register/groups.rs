//! Buffer groups, raw: rings of buffers that the kernel picks from, by a number of ours.
//!
//! ```text
//!   buffer_group(7, 8, Whose::Ours, Used::Whole) ─► BufferGroup ─► ring().push(addr, len, bid)
//!   Sqe { buf_group: 7, flags: BUFFER_SELECT, .. }       the kernel picks, the completion names
//!   buffer_group_head(7) ─► how many it has picked
//! ```
//!
//! | a buffer is used | and comes back | since |
//! |---|---|---|
//! | [`Used::Whole`] | with the completion that names it | Linux 5.19 |
//! | [`Used::InParts`] | with the first completion that names it without `F_BUF_MORE` | Linux 6.12 |
//!
//! Leaves to others: buffers that are owned ([`BufRing`](crate::lease::BufRing)), and the ring of a
//! group ([`BufferRing`](annulus_sys::buf_ring::BufferRing)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use annulus_sys::abi_register::BufStatus;
use annulus_sys::flags_register::PbufRingFlags;
pub use annulus_sys::groups::{Group as BufferGroup, Whose};
use annulus_sys::index::Entries;
use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use super::{Asked, knows};
use crate::lease::RegisterError;
use crate::raw::RawRing;

/// How the kernel uses a buffer that it picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Used {
    /// Once, whatever there is to fill it with.
    #[default]
    Whole,
    /// As long as there is room in it, one part after the other. Since Linux 6.12.
    ///
    /// A completion does not say where its part begins, so several operations pick from such
    /// buffers beside each other only if [each completes many times](crate::op::RecvMulti). They
    /// are for streams: a datagram that is longer than what is left of a buffer
    /// is cut there, and nothing says so.
    #[doc(alias = "IOU_PBUF_RING_INC")]
    InParts {
        /// When fewer bytes are left, the rest is not used. 0 uses all; more since Linux 7.1, and
        /// in those stable kernels before it that took it over.
        min_left: u32,
    },
}

impl RawRing {
    /// Makes a ring for `entries` buffers, as group `id`. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] when there is a group of that number,
    /// [`RegisterError::Invalid`] unless there are a power of two of entries, at most 32768;
    /// [`RegisterError::Unsupported`] for what this kernel does not have.
    #[doc(alias = "IORING_REGISTER_PBUF_RING")]
    #[doc(alias = "io_uring_register_buf_ring")]
    #[doc(alias = "io_uring_setup_buf_ring")]
    pub fn buffer_group(
        &self,
        id: u16,
        entries: u32,
        whose: Whose,
        used: Used,
    ) -> Result<BufferGroup, RegisterError> {
        let reason = "a ring of buffers has 1, 2, 4, and so on, at most 32768 entries";
        let invalid = RegisterError::Invalid { reason };
        let entries = Entries::new(entries).filter(|entries| entries.count() <= 1 << 15);
        let entries = entries.ok_or(invalid)?;
        let (flags, min_left) = match used {
            Used::Whole => (PbufRingFlags::empty(), 0),
            Used::InParts { min_left } => (PbufRingFlags::INC, min_left),
        };
        let made = BufferGroup::register_leaving(self.base(), id, entries, whose, flags, min_left);
        made.map_err(|errno| match errno.raw() {
            libc::EEXIST => RegisterError::Taken { what: "group of that number" },
            libc::EINVAL => self.too_old(whose, used),
            libc::ENOMEM => RegisterError::no_memory(u64::from(entries.count()) * 16),
            libc::EACCES => RegisterError::Restricted { call: "PBUF_RING" },
            _ => RegisterError::other(errno),
        })
    }

    /// What of a group this kernel does not have, when it has refused one that is well made.
    fn too_old(&self, whose: Whose, used: Used) -> RegisterError {
        let has_rings = knows(self.base(), Asked::RawRing, RegisterOp::PBUF_RING, 1);
        let (what, since) = match (has_rings, used, whose) {
            (false, ..) => ("PBUF_RING", "5.19"),
            (true, Used::InParts { min_left: 1.. }, _) => ("leaving the rest of a buffer", "7.1"),
            (true, Used::InParts { min_left: 0 }, _) => ("using a buffer in parts", "6.12"),
            (true, Used::Whole, _) => ("a ring of buffers in the kernel's memory", "6.4"),
        };
        RegisterError::Unsupported { what, since }
    }

    /// How many buffers the kernel has picked from group `id`, so far, wrapping after 65535. Since
    /// Linux 6.8.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] when there is no such group.
    #[doc(alias = "IORING_REGISTER_PBUF_STATUS")]
    #[doc(alias = "io_uring_buf_ring_head")]
    pub fn buffer_group_head(&self, id: u16) -> Result<u16, RegisterError> {
        let mut status = BufStatus { buf_group: id.into(), ..BufStatus::default() };
        let missing = RegisterError::Missing { what: "group of that number" };
        let call = Call::new(RegisterOp::PBUF_STATUS, 1, "the group has no ring");
        // SAFETY: a live `struct io_uring_buf_status`, which the kernel writes, because it says so.
        unsafe { call.make(self.base(), &raw mut status) }.map_err(|error| match error {
            // A kernel may keep a list for the number, without a ring.
            RegisterError::Invalid { .. } => missing,
            error => error.unless(libc::ENOENT, missing),
        })?;
        let [a, b, ..] = status.head.to_le_bytes();
        Ok(u16::from_le_bytes([a, b]))
    }
}
