//! Files that are opened in the ring's table.
//!
//! ```text
//!   InsertFile { fd, table }   ─►  FILES_UPDATE   the kernel finds a free place,
//!                                                 and writes its number over the descriptor's
//! ```
//!
//! Leaves to others: the table (`lease`).
#![allow(unsafe_code, reason = "writes entries that point to numbers")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::FILE_INDEX_ALLOC;

use super::{Done, Op, Outcome, RingId};
use crate::lease::{FileTable, FixedFile, Table};
use crate::prep;

/// Opens a file in the ring's table too. It stays open there when the descriptor is closed. Since
/// Linux 5.19.
///
/// # Completion
///
/// Once, with the file; `ENFILE` when the table is full.
///
/// # Cancellation
///
/// Never: it does not wait.
#[doc(alias = "IORING_OP_FILES_UPDATE")]
#[doc(alias = "io_uring_prep_files_update")]
#[derive(Debug)]
pub struct InsertFile<F> {
    fd: F,
    table: Rc<Table>,
    /// The descriptor; from the kernel, the file's place.
    number: i32,
}

impl<F: AsFd> InsertFile<F> {
    /// Opens `fd` in `table` too.
    pub fn new(fd: F, table: &FileTable) -> Self {
        Self { fd, table: Rc::clone(&table.0), number: -1 }
    }
}

// SAFETY: OP1: the address is of `number`, which the kernel may write, and the descriptor of `fd`;
// the table is of the ring that `belongs_to` compares. It completes once; the place that it names
// is adopted in `finish`, which nobody else does (OP3).
unsafe impl<F: AsFd> Op for InsertFile<F> {
    type Output = Outcome<FixedFile, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.table.ring() == ring
    }

    fn prep(&mut self) -> Sqe {
        self.number = self.fd.as_fd().as_raw_fd();
        let address = (&raw mut self.number).expose_provenance() as u64;
        prep::files_update(address, 1, FILE_INDEX_ALLOC)
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = done.result().and_then(|count| {
            let file = if count == 1 { Table::adopt(&self.table, self.number) } else { None };
            file.ok_or_else(|| io::Error::other("the kernel named no place that is free"))
        });
        Outcome { result, fd: self.fd, buf: () }
    }
}
