//! The table of files, raw: places that entries name instead of descriptors.
//!
//! ```text
//!   register_files(&[Some(a), None, Some(b)])      │ a │   │ b │
//!   update_files(1, &[Put(c), Keep])               │ a │ c │ b │
//!   Sqe { fd: 1, flags: FIXED_FILE, .. }  ─────────────┘
//! ```
//!
//! The kernel holds the files themselves, so their descriptors may be closed. A file that is taken
//! out stays open until the last request that uses it has completed; with a tag, a completion then
//! says so, whose `user_data` is the tag and whose result is 0. Before Linux 6.13 only an update
//! takes a file out in this sense, and not the end of the whole table.
//!
//! | call | since |
//! |---|---|
//! | [`register_files`](RawRing::register_files), [`unregister_files`](RawRing::unregister_files) | Linux 5.1 |
//! | [`update_files`](RawRing::update_files) | Linux 5.5 |
//! | [`register_files_tagged`](RawRing::register_files_tagged), [`update_files_tagged`](RawRing::update_files_tagged) | Linux 5.13 |
//! | [`register_files_sparse`](RawRing::register_files_sparse) | Linux 5.19 |
//! | [`set_file_alloc_range`](RawRing::set_file_alloc_range) | Linux 6.0 |
//!
//! Leaves to others: files that are closed when they are dropped ([`FileTable`](crate::lease)),
//! and operations that fill places ([`prep::files_update`](crate::prep::files_update)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use annulus_sys::abi_register::{FileIndexRange, FilesUpdate, RsrcRegister, RsrcUpdate2};
use annulus_sys::flags_register::{REGISTER_FILES_SKIP, RsrcRegisterFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use super::call::{Call, count_of};
use crate::disabled::DisabledRing;
use crate::lease::RegisterError;
use crate::raw::RawRing;

/// What stands for no file.
const EMPTY: i32 = -1;

const TABLE: &str = "table of registered files";
const UPDATE: &str = "an update lies within the table, and is of one place at least; no tag of an \
                      empty or kept place is other than 0; and `Keep` needs Linux 5.12";

/// What becomes of a place in the table of files.
#[derive(Debug, Clone, Copy)]
pub enum FileSlot<'f> {
    /// It holds this file; what it held is let go of.
    Put(BorrowedFd<'f>),
    /// It is empty; what it held is let go of.
    Empty,
    /// It stays as it is. Since Linux 5.12.
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

impl RawRing {
    /// Makes a table of `files`; `None` leaves a place empty. Since Linux 5.1, empty places since
    /// 5.5.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] while there is a table, [`RegisterError::TooManyFiles`] when it
    /// would be longer than this process may have files open, [`RegisterError::Invalid`] for a
    /// ring among the files.
    #[doc(alias = "IORING_REGISTER_FILES")]
    #[doc(alias = "io_uring_register_files")]
    pub fn register_files(
        &mut self,
        files: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), RegisterError> {
        table(self.base(), files)
    }

    /// Makes a table of `files` with a tag each. When a file with a tag other than 0 is out of the
    /// table and of use, a completion with that word comes. Since Linux 5.13.
    ///
    /// # Errors
    ///
    /// As [`register_files`](Self::register_files); [`RegisterError::Invalid`] unless there are as
    /// many tags as files, and for a tag of an empty place.
    ///
    /// # Safety
    ///
    /// Whoever reaps this ring must take the completions for what they are: no tag may be a word
    /// that they have given to a request, or will, while the file is in the table or in use (OP2).
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
        let wrong = "a table has 1 to 1048576 places, and no tag of an empty one is other than 0";
        let call = Call::sized::<RsrcRegister>(RegisterOp::FILES2, wrong);
        self.expect_others();
        // SAFETY: a live `struct io_uring_rsrc_register` that names as many live numbers and tags
        // as it says, all of which the kernel copies, because it keeps the files; what
        // their words mean is as promised to `register_files_tagged`.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| explain(error, nr))
    }

    /// Makes a table of `count` empty places. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// As [`register_files`](Self::register_files).
    #[doc(alias = "IORING_RSRC_REGISTER_SPARSE")]
    #[doc(alias = "io_uring_register_files_sparse")]
    pub fn register_files_sparse(&mut self, count: u32) -> Result<(), RegisterError> {
        let flags = RsrcRegisterFlags::SPARSE;
        let mut arg = RsrcRegister { nr: count, flags, ..RsrcRegister::default() };
        let wrong = "a table has 1 to 1048576 places, and an empty one needs Linux 5.19";
        let call = Call::sized::<RsrcRegister>(RegisterOp::FILES2, wrong);
        // SAFETY: a live `struct io_uring_rsrc_register`, which names no memory, because it is
        // sparse.
        let made = unsafe { call.make(self.base(), &raw mut arg) };
        made.map(drop).map_err(|error| explain(error, count))
    }

    /// Changes the places from `offset` on, and returns how many were changed: fewer than `slots`
    /// when one of them fails. Since Linux 5.5.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] without a table, [`RegisterError::Invalid`] beyond its end or
    /// when the first place fails.
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

    /// As [`update_files`](Self::update_files), with the tags of the new files. Since Linux 5.13.
    ///
    /// # Errors
    ///
    /// As [`update_files`](Self::update_files); [`RegisterError::Invalid`] unless there are as many
    /// tags as places.
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

    /// Lets go of the table. Requests in flight keep their files; before Linux 6.13 the call waits
    /// for them. Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] when there is none.
    #[doc(alias = "IORING_UNREGISTER_FILES")]
    #[doc(alias = "io_uring_unregister_files")]
    pub fn unregister_files(&mut self) -> Result<(), RegisterError> {
        let call = Call::new(RegisterOp::UNREGISTER_FILES, 0, "it takes no argument");
        call.bare(self.base()).map(drop).map_err(|error| explain(error, 0))
    }

    /// Sets the places among which the kernel chooses when it is to choose one
    /// (`IORING_FILE_INDEX_ALLOC`); before that, all of them. Those that it has filled stay. Since
    /// Linux 6.0.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Invalid`] unless the places are of the table.
    #[doc(alias = "IORING_REGISTER_FILE_ALLOC_RANGE")]
    #[doc(alias = "io_uring_register_file_alloc_range")]
    pub fn set_file_alloc_range(&self, places: Range<u32>) -> Result<(), RegisterError> {
        let reason = "the places to choose from are a range of the table's: register it first";
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

impl DisabledRing {
    /// Makes a table of `files`, as [`RawRing::register_files`] does: before the ring is restricted
    /// to them, and enabled. For the raw face: a [`Ring`](crate::Ring) has its files by
    /// [`file_table`](crate::Ring::file_table), of which there is one.
    ///
    /// # Errors
    ///
    /// As [`RawRing::register_files`].
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
    let call = Call::new(RegisterOp::FILES, count, "a table has 1 to 1048576 places");
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
        .unless(libc::EBUSY, RegisterError::Taken { what: TABLE })
        .unless(libc::ENXIO, RegisterError::Missing { what: TABLE })
        .unless(libc::EMFILE, RegisterError::too_many_files(count))
        .unless(libc::EBADF, RegisterError::Invalid { reason })
}
