//! The table of registered buffers, raw API: memory whose pages the kernel has already looked up.
//!
//! ```text
//!   register_buffers(&[a, b])          │ a │ b │        pinned, until unregistered and unused
//!   update_buffers(1, &[c], None)      │ a │ c │
//!   Sqe { opcode: READ_FIXED, buf_index: 1, addr: within c, .. }
//! ```
//!
//! The kernel pins the pages, and requests say what it does to them; whoever pushes a request
//! vouches for its memory (OP1). So nothing here ends the use of a buffer: a buffer that is removed
//! stays pinned until the last request that uses it has completed. If the buffer has a tag, a
//! completion then reports this; its `user_data` is the tag, and its result is 0. Before Linux
//! 6.13, only an update removes a buffer in this way; unregistering the whole table does not.
//!
//! | call | since |
//! |---|---|
//! | [`register_buffers`](RawRing::register_buffers), [`unregister_buffers`](RawRing::unregister_buffers) | Linux 5.1 |
//! | [`register_buffers_tagged`](RawRing::register_buffers_tagged), [`update_buffers`](RawRing::update_buffers) | Linux 5.13 |
//! | [`register_buffers_sparse`](RawRing::register_buffers_sparse) | Linux 5.19 |
//! | [`clone_buffers`](RawRing::clone_buffers) | Linux 6.12, ranges 6.13 |
//!
//! Leaves to others: buffers that are owned ([`FixedPool`](crate::lease::FixedPool)).
#![allow(unsafe_code, reason = "tells the kernel of memory")]

use std::ops::Range;

use annulus_sys::abi_register::{CloneBuffers, RsrcRegister, RsrcUpdate2};
use annulus_sys::flags_register::{CloneBuffersFlags, RsrcRegisterFlags};
use annulus_sys::map::page_size;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use super::call::{Call, count_of};
use super::error::RegisterError;
use super::files::check_tags;
use crate::raw::RawRing;
use crate::raw::disabled::DisabledRing;

const TABLE: &str = "table of registered buffers";
const BUFFER: &str = "a table has 1 to 16384 buffers (1024 before Linux 5.13), each of 1 byte to \
                      1 GiB, or null and empty (since 5.13, and without a tag)";

/// Which buffers of another ring's table to share, and where to put them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClonePart {
    from: Option<Range<u32>>,
    to: u32,
    flags: CloneBuffersFlags,
}

impl ClonePart {
    /// All buffers, at the indices that they have in the other table.
    pub const fn all() -> Self {
        Self { from: None, to: 0, flags: CloneBuffersFlags::empty() }
    }

    /// The buffers at the indices `from` of the other table, put at index `to` and after. Since
    /// Linux 6.13.
    pub const fn range(from: Range<u32>, to: u32) -> Self {
        Self { from: Some(from), to, flags: CloneBuffersFlags::empty() }
    }

    /// Replaces the buffers that this ring's table holds at those indices, and keeps the others.
    /// Without this, the ring must not have a table. Since Linux 6.13.
    #[doc(alias = "IORING_REGISTER_DST_REPLACE")]
    #[must_use]
    pub const fn replacing(self) -> Self {
        Self { flags: CloneBuffersFlags::DST_REPLACE, ..self }
    }
}

/// # Registering buffers
impl RawRing {
    /// Registers a table of `buffers`. Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] if the ring has a table already, [`RegisterError::LockedMemory`] if
    /// this user may not lock that much memory, `EFAULT` if the memory is not mapped or not
    /// writable.
    ///
    /// # Safety
    ///
    /// The caller must have the right to read and write the memory. The requests that use it have
    /// their own contract when they are pushed (OP1).
    #[doc(alias = "IORING_REGISTER_BUFFERS")]
    #[doc(alias = "io_uring_register_buffers")]
    pub unsafe fn register_buffers(
        &mut self,
        buffers: &[libc::iovec],
    ) -> Result<(), RegisterError> {
        // SAFETY: as promised to `register_buffers`.
        unsafe { table(self.base(), buffers) }
    }

    /// Registers a table of `buffers` with a tag each. When a buffer whose tag is not 0 has left
    /// the table and is no longer used, a completion with the tag as its `user_data` arrives. Since
    /// Linux 5.13.
    ///
    /// # Errors
    ///
    /// As for [`register_buffers`](Self::register_buffers), and [`RegisterError::Invalid`] unless
    /// there are as many tags as buffers.
    ///
    /// # Safety
    ///
    /// As for [`register_buffers`](Self::register_buffers); for the tags, as for
    /// [`register_files_tagged`](Self::register_files_tagged).
    #[doc(alias = "IORING_REGISTER_BUFFERS2")]
    #[doc(alias = "io_uring_register_buffers_tags")]
    pub unsafe fn register_buffers_tagged(
        &mut self,
        buffers: &[libc::iovec],
        tags: &[u64],
    ) -> Result<(), RegisterError> {
        check_tags(buffers.len(), tags)?;
        let mut arg = RsrcRegister {
            nr: count_of(buffers)?,
            data: buffers.as_ptr().expose_provenance() as u64,
            tags: tags.as_ptr().expose_provenance() as u64,
            ..RsrcRegister::default()
        };
        let call = Call::sized::<RsrcRegister>(RegisterOp::BUFFERS2, BUFFER);
        self.expect_others();
        // SAFETY: a live `struct io_uring_rsrc_register` that names as many live iovecs and tags as
        // it says, which the kernel copies; the memory is as promised to `register_buffers_tagged`.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| explain(error, buffers))
    }

    /// Registers a table of `count` empty slots. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// As for [`register_buffers`](Self::register_buffers).
    #[doc(alias = "IORING_RSRC_REGISTER_SPARSE")]
    #[doc(alias = "io_uring_register_buffers_sparse")]
    pub fn register_buffers_sparse(&mut self, count: u32) -> Result<(), RegisterError> {
        let flags = RsrcRegisterFlags::SPARSE;
        let mut arg = RsrcRegister { nr: count, flags, ..RsrcRegister::default() };
        let wrong = "a table has 1 to 16384 slots, and an empty table needs Linux 5.19";
        let call = Call::sized::<RsrcRegister>(RegisterOp::BUFFERS2, wrong);
        // SAFETY: a live `struct io_uring_rsrc_register`, which names no memory, because it is
        // sparse.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| explain(error, &[]))
    }

    /// Replaces the buffers from index `offset` on, and returns how many were replaced: fewer than
    /// `buffers` if one of them fails. A null and empty buffer empties its slot. Since Linux 5.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is no table, [`RegisterError::Invalid`] beyond its end,
    /// and the errors of [`register_buffers`](Self::register_buffers) if the first buffer fails.
    ///
    /// # Safety
    ///
    /// As for [`register_buffers`](Self::register_buffers); for the tags, as for
    /// [`register_files_tagged`](Self::register_files_tagged).
    #[doc(alias = "IORING_REGISTER_BUFFERS_UPDATE")]
    #[doc(alias = "io_uring_register_buffers_update_tag")]
    pub unsafe fn update_buffers(
        &mut self,
        offset: u32,
        buffers: &[libc::iovec],
        tags: Option<&[u64]>,
    ) -> Result<u32, RegisterError> {
        if let Some(tags) = tags {
            check_tags(buffers.len(), tags)?;
            self.expect_others();
        }
        let mut arg = RsrcUpdate2 {
            offset,
            data: buffers.as_ptr().expose_provenance() as u64,
            tags: tags.map_or(0, |tags| tags.as_ptr().expose_provenance() as u64),
            nr: count_of(buffers)?,
            ..RsrcUpdate2::default()
        };
        let wrong = "an update must lie within the table and have at least one buffer, each of 1 \
                     byte to 1 GiB, or null, empty and without a tag";
        let call = Call::sized::<RsrcUpdate2>(RegisterOp::BUFFERS_UPDATE, wrong);
        // SAFETY: a live `struct io_uring_rsrc_update2` that names `nr` live iovecs, and tags or
        // none, which the kernel copies; the memory is as promised to `update_buffers`.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map_err(|error| explain(error, buffers))
    }

    /// Unregisters the table. Requests in flight keep their buffers pinned; before Linux 6.13 the
    /// call waits for them. Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is no table.
    #[doc(alias = "IORING_UNREGISTER_BUFFERS")]
    #[doc(alias = "io_uring_unregister_buffers")]
    pub fn unregister_buffers(&mut self) -> Result<(), RegisterError> {
        let call = Call::new(RegisterOp::UNREGISTER_BUFFERS, 0, "it takes no argument");
        call.bare(self.base()).map(drop).map_err(|error| explain(error, &[]))
    }

    /// Shares buffers of `other`'s table without looking their pages up again. They stay pinned
    /// until both tables have released them. Since Linux 6.12.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] if this ring has a table and `part` is not
    /// [replacing](ClonePart::replacing); [`RegisterError::Missing`] if the other ring has none;
    /// [`RegisterError::Invalid`] for indices beyond its end; [`RegisterError::OtherThread`] if
    /// either ring belongs to another thread; [`RegisterError::OtherProcess`] in a forked child.
    ///
    /// # Safety
    ///
    /// The owner of the buffers must count the requests of this ring as users too: the owner gets a
    /// buffer back only when both rings have released it.
    #[doc(alias = "IORING_REGISTER_CLONE_BUFFERS")]
    #[doc(alias = "io_uring_clone_buffers")]
    #[doc(alias = "io_uring_clone_buffers_offset")]
    pub unsafe fn clone_buffers(
        &mut self,
        other: &Self,
        part: &ClonePart,
    ) -> Result<(), RegisterError> {
        let reason = "share one or more of the other ring's buffers, within a table of 16384; to \
                      share only some of them, or to replace, needs Linux 6.13";
        let (src_off, nr) = match &part.from {
            Some(from) if from.is_empty() => return Err(RegisterError::Invalid { reason }),
            Some(from) => (from.start, from.end - from.start),
            None => (0, 0),
        };
        if !other.base().is_of_this_process() {
            // Its name leads to the parent's ring, or nowhere.
            return Err(RegisterError::OtherProcess);
        }
        if !other.base().is_here() {
            return Err(RegisterError::OtherThread); // Its index names another ring here.
        }
        let name = other.base().fd().by_ref();
        let named = match name.is_registered() {
            true => CloneBuffersFlags::SRC_REGISTERED,
            false => CloneBuffersFlags::empty(),
        };
        let mut arg = CloneBuffers {
            src_fd: name.number().cast_unsigned(),
            flags: part.flags | named,
            src_off,
            dst_off: part.to,
            nr,
            ..CloneBuffers::default()
        };
        let call = Call::new(RegisterOp::CLONE_BUFFERS, 1, reason);
        // SAFETY: a live `struct io_uring_clone_buffers`, which the kernel copies; the memory is as
        // promised to `clone_buffers`.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| {
            error
                .unless(libc::EBUSY, RegisterError::InUse { what: TABLE })
                .unless(libc::ENXIO, RegisterError::Missing { what: TABLE })
                .unless(libc::EOVERFLOW, RegisterError::Invalid { reason })
        })
    }
}

/// # Registering buffers
impl DisabledRing {
    /// Registers a table of `buffers`, like [`RawRing::register_buffers`], before the ring is
    /// restricted and enabled. For the raw API only: a [`Ring`](crate::Ring) registers its buffers
    /// with [`fixed_pool`](crate::Ring::fixed_pool), and a ring has only one table.
    ///
    /// # Errors
    ///
    /// As for [`RawRing::register_buffers`].
    ///
    /// # Safety
    ///
    /// As for [`RawRing::register_buffers`].
    pub unsafe fn register_buffers(
        &mut self,
        buffers: &[libc::iovec],
    ) -> Result<(), RegisterError> {
        // SAFETY: as promised to `register_buffers`.
        unsafe { table(self.rings().base(), buffers) }
    }
}

/// # Safety
///
/// As for [`RawRing::register_buffers`].
unsafe fn table(base: &Base, buffers: &[libc::iovec]) -> Result<(), RegisterError> {
    let call = Call::new(RegisterOp::BUFFERS, count_of(buffers)?, BUFFER);
    let arg = buffers.as_ptr().cast_mut();
    // SAFETY: so many live iovecs, which the kernel copies; their memory is as promised to `table`.
    let made = unsafe { call.make(base, arg) };
    made.map(drop).map_err(|error| explain(error, buffers))
}

/// The bytes that the kernel pins for a buffer: every page that the buffer touches, in full.
fn pinned(buffer: &libc::iovec) -> u64 {
    let (start, page) = (buffer.iov_base.addr(), page_size());
    let end = start.saturating_add(buffer.iov_len);
    (end.div_ceil(page) - start / page) as u64 * page as u64
}

fn explain(error: RegisterError, buffers: &[libc::iovec]) -> RegisterError {
    let needed = buffers.iter().map(pinned).sum();
    error
        .unless(libc::EBUSY, RegisterError::InUse { what: TABLE })
        .unless(libc::ENXIO, RegisterError::Missing { what: TABLE })
        .unless(libc::ENOMEM, RegisterError::no_memory(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_that_a_buffer_touches_is_pinned_whole() {
        let page = page_size();
        let pages = |at, iov_len| {
            pinned(&libc::iovec { iov_base: std::ptr::without_provenance_mut(at), iov_len })
                / page as u64
        };
        assert_eq!([pages(8 * page, page), pages(8 * page - 1, 2), pages(0, 0)], [1, 2, 0]);
    }
}
