//! The table of registered files, raw API: entries name a slot of it instead of a descriptor.
//!
//! ```text
//!   register_files(&[Some(a), None, Some(b)])      │ a │   │ b │
//!   update_files(1, &[Put(c), Keep])               │ a │ c │ b │
//!   Sqe { fd: 1, flags: FIXED_FILE, .. }  ─────────────┘
//! ```
//!
//! The kernel keeps the files themselves, so their descriptors may be closed. A file that is
//! removed stays open until the last request that uses it has completed. If the file has a tag, a
//! completion then reports this; its `user_data` is the tag, and its result is 0. Before Linux
//! 6.13, only an update removes a file in this way; unregistering the whole table does not.
//!
//! | call | since |
//! |---|---|
//! | [`register_files`](RawRing::register_files), [`unregister_files`](RawRing::unregister_files) | Linux 5.1 |
//! | [`update_files`](RawRing::update_files) | Linux 5.5 |
//! | [`register_files_tagged`](RawRing::register_files_tagged), [`update_files_tagged`](RawRing::update_files_tagged) | Linux 5.13 |
//! | [`register_files_sparse`](RawRing::register_files_sparse) | Linux 5.19 |
//! | [`set_file_alloc_range`](RawRing::set_file_alloc_range) | Linux 6.0 |
//!
//! Leaves to others: files that are closed when they are dropped ([`FileTable`](crate::lease)), and
//! operations that fill slots ([`prep::files_update`](crate::prep::files_update)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use annulus_sys::abi_register::{FileIndexRange, FilesUpdate, RsrcRegister, RsrcUpdate2};
use annulus_sys::flags_register::{REGISTER_FILES_SKIP, RsrcRegisterFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use super::call::{Call, count_of};
use super::error::RegisterError;
use crate::raw::RawRing;
use crate::raw::disabled::DisabledRing;

/// The descriptor that stands for an empty slot.
const EMPTY: i32 = -1;

const TABLE: &str = "table of registered files";
const UPDATE: &str = "an update must lie within the table and have at least one slot; a slot that \
                      is empty or kept must have tag 0; and `Keep` needs Linux 5.12";

/// What an update does to a slot of the table of files.
#[derive(Debug, Clone, Copy)]
pub enum FileSlot<'f> {
    /// Puts this file there, and releases the previous one.
    Put(BorrowedFd<'f>),
    /// Empties the slot, and releases the previous file.
    Empty,
    /// Leaves the slot as it is. Since Linux 5.12.
    Keep,
}

impl FileSlot<'_> {
    fn number(&self) -> i32 {
        match self {
            Self::Put(fd) => fd.as_raw_fd(),
            Self::Empty => EMPTY,
            Self::Keep => REGISTER_FILES_SKIP,
        }
    }
}

/// # Registering files
impl RawRing {
    /// Registers a table of `files`; `None` leaves a slot empty. Since Linux 5.1, empty slots since
    /// Linux 5.5.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] if the ring has a table already, [`RegisterError::TooManyFiles`] if
    /// the table would be longer than the number of files this process may have open,
    /// [`RegisterError::Invalid`] if one of the files is a ring.
    #[doc(alias = "IORING_REGISTER_FILES")]
    #[doc(alias = "io_uring_register_files")]
    pub fn register_files(
        &mut self,
        files: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), RegisterError> {
        table(self.base(), files)
    }

    /// Registers a table of `files` with a tag each. When a file whose tag is not 0 has left the
    /// table and is no longer used, a completion with the tag as its `user_data` arrives. Since
    /// Linux 5.13.
    ///
    /// # Errors
    ///
    /// As for [`register_files`](Self::register_files), and [`RegisterError::Invalid`] unless there
    /// are as many tags as files, or if an empty slot has a tag.
    ///
    /// # Safety
    ///
    /// Whoever reaps this ring must recognize the tags: while the file is in the table or in use,
    /// no request may have, or get, a tag as its `user_data` (OP2).
    #[doc(alias = "IORING_REGISTER_FILES2")]
    #[doc(alias = "io_uring_register_files_tags")]
    pub unsafe fn register_files_tagged(
        &mut self,
        files: &[Option<BorrowedFd<'_>>],
        tags: &[u64],
    ) -> Result<(), RegisterError> {
        let numbers = numbers(files);
        let nr = count_of(files)?;
        check_tags(files.len(), tags)?;
        let mut arg = RsrcRegister {
            nr,
            data: numbers.as_ptr().expose_provenance() as u64,
            tags: tags.as_ptr().expose_provenance() as u64,
            ..RsrcRegister::default()
        };
        let wrong = "a table has 1 to 1048576 slots, and no tag of an empty one is other than 0";
        let call = Call::sized::<RsrcRegister>(RegisterOp::FILES2, wrong);
        self.expect_others();
        // SAFETY: a live `struct io_uring_rsrc_register` that names as many live numbers and tags
        // as it says, all of which the kernel copies, because it keeps the files; the tags are as
        // promised to `register_files_tagged`.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| explain(error, nr))
    }

    /// Registers a table of `count` empty slots. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// As for [`register_files`](Self::register_files).
    #[doc(alias = "IORING_RSRC_REGISTER_SPARSE")]
    #[doc(alias = "io_uring_register_files_sparse")]
    pub fn register_files_sparse(&mut self, count: u32) -> Result<(), RegisterError> {
        let flags = RsrcRegisterFlags::SPARSE;
        let mut arg = RsrcRegister { nr: count, flags, ..RsrcRegister::default() };
        let wrong = "a table has 1 to 1048576 slots, and an empty table needs Linux 5.19";
        let call = Call::sized::<RsrcRegister>(RegisterOp::FILES2, wrong);
        // SAFETY: a live `struct io_uring_rsrc_register`, which names no memory, because it is
        // sparse.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| explain(error, count))
    }

    /// Changes the slots from `offset` on, and returns how many were changed: fewer than `slots` if
    /// one of them fails. Since Linux 5.5.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is no table, [`RegisterError::Invalid`] beyond its end
    /// or if the first slot fails.
    #[doc(alias = "IORING_REGISTER_FILES_UPDATE")]
    #[doc(alias = "io_uring_register_files_update")]
    pub fn update_files(
        &mut self,
        offset: u32,
        slots: &[FileSlot<'_>],
    ) -> Result<u32, RegisterError> {
        let numbers: Vec<i32> = slots.iter().map(FileSlot::number).collect();
        let count = count_of(slots)?;
        let fds = numbers.as_ptr().expose_provenance() as u64;
        let mut arg = FilesUpdate { offset, resv: 0, fds };
        let call = Call::new(RegisterOp::FILES_UPDATE, count, UPDATE);
        // SAFETY: a live `struct io_uring_files_update` over `count` live numbers, which the kernel
        // copies, because it keeps the files.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map_err(|error| explain(error, count))
    }

    /// Like [`update_files`](Self::update_files), with the tags of the new files. Since Linux 5.13.
    ///
    /// # Errors
    ///
    /// As for [`update_files`](Self::update_files), and [`RegisterError::Invalid`] unless there are
    /// as many tags as slots.
    ///
    /// # Safety
    ///
    /// As for [`register_files_tagged`](Self::register_files_tagged) (OP2).
    #[doc(alias = "IORING_REGISTER_FILES_UPDATE2")]
    #[doc(alias = "io_uring_register_files_update_tag")]
    pub unsafe fn update_files_tagged(
        &mut self,
        offset: u32,
        slots: &[FileSlot<'_>],
        tags: &[u64],
    ) -> Result<u32, RegisterError> {
        let numbers: Vec<i32> = slots.iter().map(FileSlot::number).collect();
        let nr = count_of(slots)?;
        check_tags(slots.len(), tags)?;
        let mut arg = RsrcUpdate2 {
            offset,
            data: numbers.as_ptr().expose_provenance() as u64,
            tags: tags.as_ptr().expose_provenance() as u64,
            nr,
            ..RsrcUpdate2::default()
        };
        let call = Call::sized::<RsrcUpdate2>(RegisterOp::FILES_UPDATE2, UPDATE);
        self.expect_others();
        // SAFETY: a live `struct io_uring_rsrc_update2` that names `nr` live numbers and tags, all
        // of which the kernel copies, because it keeps the files.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map_err(|error| explain(error, nr))
    }

    /// Unregisters the table. Requests in flight keep their files; before Linux 6.13 the call waits
    /// for them. Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if there is no table.
    #[doc(alias = "IORING_UNREGISTER_FILES")]
    #[doc(alias = "io_uring_unregister_files")]
    pub fn unregister_files(&mut self) -> Result<(), RegisterError> {
        let call = Call::new(RegisterOp::UNREGISTER_FILES, 0, "it takes no argument");
        call.bare(self.base()).map(drop).map_err(|error| explain(error, 0))
    }

    /// Sets the range of slots from which the kernel chooses when an entry leaves the choice to it
    /// (`IORING_FILE_INDEX_ALLOC`). Until then the range is the whole table. Slots that the kernel
    /// has already filled stay filled. Since Linux 6.0.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless the range lies within the table.
    #[doc(alias = "IORING_REGISTER_FILE_ALLOC_RANGE")]
    #[doc(alias = "io_uring_register_file_alloc_range")]
    pub fn set_file_alloc_range(&self, places: Range<u32>) -> Result<(), RegisterError> {
        let reason = "the slots to choose from must be a range of the table: register it first";
        let Some(len) = places.end.checked_sub(places.start) else {
            return Err(RegisterError::Invalid { reason });
        };
        let mut arg = FileIndexRange { off: places.start, len, resv: 0 };
        let call = Call::new(RegisterOp::FILE_ALLOC_RANGE, 0, reason);
        // SAFETY: a live `struct io_uring_file_index_range`, which the kernel copies, because it
        // says so; its count is 0, whatever the manual page says.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop)
            .map_err(|error| error.unless(libc::EOVERFLOW, RegisterError::Invalid { reason }))
    }
}

/// # Registering files
impl DisabledRing {
    /// Registers a table of `files`, like [`RawRing::register_files`], before the ring is
    /// restricted to them and enabled. For the raw API only: a [`Ring`](crate::Ring) registers its
    /// files with [`file_table`](crate::Ring::file_table), and a ring has only one table.
    ///
    /// # Errors
    ///
    /// As for [`RawRing::register_files`].
    pub fn register_files(
        &mut self,
        files: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), RegisterError> {
        table(self.rings().base(), files)
    }
}

fn table(base: &Base, files: &[Option<BorrowedFd<'_>>]) -> Result<(), RegisterError> {
    let mut numbers = numbers(files);
    let count = count_of(files)?;
    let call = Call::new(RegisterOp::FILES, count, "a table has 1 to 1048576 slots");
    // SAFETY: `count` live numbers, which the kernel copies, because it keeps the files.
    let made = unsafe { call.make(base, numbers.as_mut_ptr()) };
    made.map(drop).map_err(|error| explain(error, count))
}

fn numbers(files: &[Option<BorrowedFd<'_>>]) -> Vec<i32> {
    files.iter().map(|file| file.map_or(EMPTY, |file| file.as_raw_fd())).collect()
}

pub(super) fn check_tags(count: usize, tags: &[u64]) -> Result<(), RegisterError> {
    let reason = "there is one tag for each place, 0 for none";
    if tags.len() == count { Ok(()) } else { Err(RegisterError::Invalid { reason }) }
}

fn explain(error: RegisterError, count: u32) -> RegisterError {
    let reason = "a ring cannot stand in a table of files";
    error
        .unless(libc::EOVERFLOW, RegisterError::Invalid { reason: UPDATE })
        .unless(libc::EBUSY, RegisterError::InUse { what: TABLE })
        .unless(libc::ENXIO, RegisterError::Missing { what: TABLE })
        .unless(libc::EMFILE, RegisterError::too_many_files(count))
        .unless(libc::EBADF, RegisterError::Invalid { reason })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_empty_place_has_no_number_and_each_place_has_a_tag() {
        let stdin = std::io::stdin();
        let fd = stdin.as_fd();
        assert_eq!(numbers(&[None, Some(fd)]), [EMPTY, fd.as_raw_fd()]);
        assert!(check_tags(1, &[0]).is_ok() && check_tags(2, &[0]).is_err());
    }
}
