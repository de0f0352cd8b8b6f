//! Registering files, and the eventfd.
#![allow(unsafe_code, reason = "hands descriptors to the kernel")]

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use annulus_sys::abi_register::FilesUpdate;
use annulus_sys::opcode::RegisterOp;

use super::super::address;
use super::Submitter;

impl Submitter<'_> {
    /// Registers files for [`types::Fixed`](super::super::types::Fixed). A descriptor of -1 leaves
    /// its place empty.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_files(&self, fds: &[RawFd]) -> io::Result<()> {
        // SAFETY: the kernel copies the array, whose length it gets.
        unsafe { self.register(RegisterOp::FILES, fds.as_ptr(), fds.len()) }.map(drop)
    }

    /// Registers `nr` empty places for files. Since Linux 5.19.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_files_sparse(&self, nr: u32) -> io::Result<()> {
        self.sparse(RegisterOp::FILES2, nr)
    }

    /// Replaces registered files, from index `offset` on, and returns how many. -1 empties a place,
    /// [`SKIP_FILE`](super::super::register::SKIP_FILE) leaves it as it is. Since Linux 5.5.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn register_files_update(&self, offset: u32, fds: &[RawFd]) -> io::Result<usize> {
        let update = FilesUpdate { offset, resv: 0, fds: address(fds.as_ptr()) };
        // SAFETY: the kernel copies the struct, and the array, whose length it gets.
        let done = unsafe { self.register(RegisterOp::FILES_UPDATE, &raw const update, fds.len()) };
        done.map(|count| count as usize)
    }

    /// Unregisters all files.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENXIO` if none are registered.
    pub fn unregister_files(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(RegisterOp::UNREGISTER_FILES, ptr::null::<()>(), 0) }.map(drop)
    }

    /// Registers an eventfd that tells of completions.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBUSY` if one is registered.
    pub fn register_eventfd(&self, eventfd: RawFd) -> io::Result<()> {
        // SAFETY: one descriptor, which the kernel copies.
        unsafe { self.register(RegisterOp::EVENTFD, &raw const eventfd, 1) }.map(drop)
    }

    /// Registers an eventfd that tells of those completions only that came after the submission had
    /// returned. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// As [`register_eventfd`](Self::register_eventfd).
    pub fn register_eventfd_async(&self, eventfd: RawFd) -> io::Result<()> {
        // SAFETY: one descriptor, which the kernel copies.
        unsafe { self.register(RegisterOp::EVENTFD_ASYNC, &raw const eventfd, 1) }.map(drop)
    }

    /// Unregisters the eventfd.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENXIO` if none is registered.
    pub fn unregister_eventfd(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(RegisterOp::UNREGISTER_EVENTFD, ptr::null::<()>(), 0) }.map(drop)
    }
}
