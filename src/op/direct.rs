//! Files that are opened in the ring's table, and never have a descriptor.
//!
//! | operation | opens | since |
//! |---|---|---|
//! | [`Direct`]`<OpenAt>`: [`OpenAt::direct`] | what a path names | Linux 5.19 |
//! | [`Direct`]`<OpenAt2>`: [`OpenAt2::direct`] | what a path names, within bounds | Linux 5.19 |
//! | [`Direct`]`<Socket>`: [`Socket::direct`] | a new socket | Linux 5.19 |
//! | [`Direct`]`<Accept>`: [`Accept::direct`] | a connection | Linux 5.19 |
//! | [`Direct`]`<AcceptMulti>`: [`AcceptMulti::direct`] | every connection that comes | Linux 5.19 |
//! | [`InsertFile`] | what a descriptor names | Linux 5.19 |
//!
//! The kernel finds a free place in the table, and tells which: all but the last in the result, and
//! the last where the descriptor stood. A place belongs to whoever takes the completion, and is
//! closed again if nobody does (OP3).
//!
//! Leaves to others: the table, and closing (`lease`).
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::{Cwd, How, OpenAt, Read};
//!
//! let mut ring = Setup::new(4).build()?;
//! let Ok(table) = ring.file_table(4) else { return Ok(()) }; // Linux 5.19
//! let open = OpenAt::new(Cwd, c"/proc/self/comm", How::read()).direct(&table);
//! let open = ring.submit(open)?;
//! let file = ring.wait(open)?.result?;
//! let read = ring.submit(Read::new(file, Vec::with_capacity(16)))?;
//! let (_, name) = ring.wait(read)?.ok()?;
//! assert!(!name.is_empty());
//! assert_eq!(table.held(), 0); // Closed, with the operation that had it.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "writes entries that point to numbers")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{CqeFlags, FILE_INDEX_ALLOC, Features};

use super::ending::{Ended, Ending};
use super::fs::{Dir, OpenAt, OpenAt2};
use super::multi::AcceptMulti;
use super::net::{Accept, CLOSE_ON_EXEC, Socket};
use super::target::Target;
use super::{Brings, Done, Multishot, Op, Outcome, RingId, Shot, Shots};
use crate::lease::{Brought, FileTable, FixedFile, Source, Table};
use crate::prep;

mod sealed {
    use super::{Done, Sqe};

    /// An operation that makes a descriptor, and can open the file in a table instead.
    pub trait Opens: super::Op {
        /// What it ends with then.
        type Direct;

        /// Its entry, without "close on exec": the kernel refuses that, since `exec` closes the
        /// table anyway.
        fn lasting(sqe: Sqe) -> Sqe;

        /// Makes the output.
        fn land(self, done: Done) -> Self::Direct;
    }
}

use sealed::Opens;

const _: () = assert!(libc::O_CLOEXEC == libc::SOCK_CLOEXEC);

/// An operation that opens a file, and opens it in the ring's table. Since Linux 5.19.
///
/// # Completion
///
/// As the operation inside, with a [`FixedFile`] in place of a descriptor. `ENFILE` when the table
/// is full, whose text ("Too many open files in system") speaks of another table: drop a
/// [`FixedFile`], or make a larger table. A connection that was taken for it is closed then.
///
/// # Cancellation
///
/// As the operation inside.
#[doc(alias = "IORING_FILE_INDEX_ALLOC")]
#[derive(Debug)]
pub struct Direct<O> {
    op: O,
    table: Rc<Table>,
}

impl<O> Direct<O> {
    fn new(op: O, table: &FileTable) -> Self {
        Table::sweep(&table.0);
        Self { op, table: Rc::clone(&table.0) }
    }
}

// SAFETY: OP1, OP2 as the operation inside keeps them. OP3: with `FILE_INDEX_ALLOC` each result is
// a place of the table that is its source, chosen by the kernel; `BRINGS` says so.
unsafe impl<O: Opens> Op for Direct<O> {
    type Output = O::Direct;
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = Brings::File;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.op.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let sqe = O::lasting(self.op.prep());
        Sqe { file_index: FILE_INDEX_ALLOC, ..sqe }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.op.land(done)
    }

    fn source(&self) -> Option<Source> {
        Some(Source::files(Rc::clone(&self.table)))
    }

    fn last_is_shot(result: i32) -> bool {
        O::last_is_shot(result)
    }
}

/// A completion that brings nothing, for an operation to give back what it was given.
fn nothing() -> Done {
    let (result, brought) = (-libc::ECANCELED, Brought::Nothing);
    Done::new(result, CqeFlags::empty(), None, brought)
}

impl<D: Dir, P: AsRef<CStr>> OpenAt<D, P> {
    /// The same, in the ring's table. Since Linux 5.19.
    #[doc(alias = "io_uring_prep_openat_direct")]
    pub fn direct(self, table: &FileTable) -> Direct<Self> {
        Direct::new(self, table)
    }
}

impl<D: Dir, P: AsRef<CStr>> Opens for OpenAt<D, P> {
    type Direct = Outcome<FixedFile, D, P>;

    fn lasting(sqe: Sqe) -> Sqe {
        Sqe { op_flags: sqe.op_flags & !CLOSE_ON_EXEC, ..sqe }
    }

    fn land(self, mut done: Done) -> Self::Direct {
        let Outcome { fd, buf, .. } = self.finish(nothing());
        Outcome { result: done.file(), fd, buf }
    }
}

impl<D: Dir, P: AsRef<CStr>> OpenAt2<D, P> {
    /// The same, in the ring's table. Since Linux 5.19.
    #[doc(alias = "io_uring_prep_openat2_direct")]
    pub fn direct(self, table: &FileTable) -> Direct<Self> {
        Direct::new(self.lasting(), table)
    }
}

impl<D: Dir, P: AsRef<CStr>> Opens for OpenAt2<D, P> {
    type Direct = Outcome<FixedFile, D, P>;

    fn lasting(sqe: Sqe) -> Sqe {
        sqe // It says so in memory, and has been told already.
    }

    fn land(self, mut done: Done) -> Self::Direct {
        let Outcome { fd, buf, .. } = self.finish(nothing());
        Outcome { result: done.file(), fd, buf }
    }
}

impl Socket {
    /// The same, in the ring's table. Since Linux 5.19.
    #[doc(alias = "io_uring_prep_socket_direct")]
    pub fn direct(self, table: &FileTable) -> Direct<Self> {
        Direct::new(self, table)
    }
}

impl Opens for Socket {
    type Direct = io::Result<FixedFile>;

    fn lasting(sqe: Sqe) -> Sqe {
        Sqe { off: sqe.off & !u64::from(CLOSE_ON_EXEC), ..sqe }
    }

    fn land(self, mut done: Done) -> Self::Direct {
        done.file()
    }
}

impl<F: Target> Accept<F> {
    /// The same, in the ring's table. Since Linux 5.19.
    #[doc(alias = "io_uring_prep_accept_direct")]
    pub fn direct(self, table: &FileTable) -> Direct<Self> {
        Direct::new(self, table)
    }
}

impl<F: Target> Opens for Accept<F> {
    type Direct = Outcome<FixedFile, F>;

    fn lasting(sqe: Sqe) -> Sqe {
        Sqe { op_flags: sqe.op_flags & !CLOSE_ON_EXEC, ..sqe }
    }

    fn land(self, mut done: Done) -> Self::Direct {
        let Outcome { fd, buf, .. } = self.finish(nothing());
        Outcome { result: done.file(), fd, buf }
    }
}

impl<F: Target> AcceptMulti<F> {
    /// The same, in the ring's table. Since Linux 5.19.
    #[doc(alias = "io_uring_prep_multishot_accept_direct")]
    pub fn direct(self, table: &FileTable) -> Direct<Self> {
        Direct::new(self, table)
    }
}

impl<F: Target> Opens for AcceptMulti<F> {
    type Direct = Ended<F, io::Result<FixedFile>>;

    fn lasting(sqe: Sqe) -> Sqe {
        Sqe { op_flags: sqe.op_flags & !CLOSE_ON_EXEC, ..sqe }
    }

    fn land(self, done: Done) -> Self::Direct {
        Ended::new(Ending::of_things(&done), self.into_fd(), done, <Direct<Self>>::item)
    }
}

impl<F: Target> Multishot for Direct<AcceptMulti<F>> {
    type Item = io::Result<FixedFile>;

    fn item(shot: Shot) -> Self::Item {
        match shot.brought {
            Brought::File(file) => Ok(file),
            _ => Err(shot.refusal()),
        }
    }
}

/// Opens a file in the ring's table too. It stays open there when the descriptor is closed. Since
/// Linux 5.19.
///
/// # Completion
///
/// Once, with the file; `ENFILE` when the table is full, as for [`Direct`], whatever its text
/// says of the system.
///
/// # Cancellation
///
/// Never: it does not wait.
#[doc(alias("IORING_OP_FILES_UPDATE", "io_uring_prep_files_update"))]
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
