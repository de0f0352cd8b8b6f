//! Files that are opened directly in the ring's file table, without a descriptor.
//!
//! | operation | opens | since |
//! |---|---|---|
//! | [`Direct`]`<OpenAt>`: [`OpenAt::direct`] | the file at a path | Linux 5.19 |
//! | [`Direct`]`<OpenAt2>`: [`OpenAt2::direct`] | the file at a path, within bounds | Linux 5.19 |
//! | [`Direct`]`<Socket>`: [`Socket::direct`] | a new socket | Linux 5.19 |
//! | [`Direct`]`<Accept>`: [`Accept::direct`] | a connection | Linux 5.19 |
//! | [`Direct`]`<AcceptMulti>`: [`AcceptMulti::direct`] | every connection | Linux 5.19 |
//! | [`InsertFile`] | the file of a descriptor | Linux 5.19 |
//!
//! The kernel finds a free slot in the table, and reports its index: [`InsertFile`] gets it in the
//! memory where the descriptor was, the others get it in the result. The slot belongs to whoever
//! takes the completion, and is closed again if nothing takes it (OP3).
//!
//! Leaves to others: the table, and closing (`lease`); places known beforehand
//! ([`replace`](super::replace)).
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

use super::fs::{Dir, OpenAt, OpenAt2};
use crate::lease::{FileTable, FixedFile, Resource, Source, Table};
use crate::op::ending::{Ended, Ending};
use crate::op::sockets::accept::Accept;
use crate::op::sockets::multishot::AcceptMulti;
use crate::op::sockets::net::{CLOSE_ON_EXEC, Socket};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, Outcome, ResultKind, RingId};
use crate::prep;

mod sealed {
    use crate::op::{Done, Sqe};

    /// An operation that creates a descriptor, and can open the file in a table instead.
    pub trait Opens: crate::op::Op {
        /// The output in that case.
        type Direct;

        /// The entry without "close on exec": the kernel refuses that flag here, since `exec`
        /// closes the table anyway.
        fn lasting(sqe: Sqe) -> Sqe;

        /// Makes the output.
        fn land(self, done: Done) -> Self::Direct;
    }
}

pub(super) use sealed::Opens;

const _: () = assert!(libc::O_CLOEXEC == libc::SOCK_CLOEXEC);

/// An operation that opens a file in the ring's file table instead of creating a descriptor. Since
/// Linux 5.19.
///
/// No descriptor exists at any time, so nothing outside of the ring can use the file: no `mmap(2)`,
/// no `std`, no other ring. [`InstallFd`](crate::op::InstallFd) makes a descriptor,
/// [`PassFile`](crate::op::PassFile) hands it to another ring. The file is closed when its last
/// [`FixedFile`] is dropped.
///
/// # Completion
///
/// As the operation inside, with a [`FixedFile`] instead of a descriptor.
///
/// # Cancellation
///
/// As the operation inside.
///
/// # Errors
///
/// As the operation inside. `ENFILE` when the table is full; its text ("Too many open files in
/// system") speaks of a different table. Drop a [`FixedFile`], or make a larger table. A connection
/// that was accepted for a full table is closed.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, How, InsertFile, OpenAt, Read};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let Ok(table) = ring.file_table(2) else { return Ok(()) }; // Linux 5.19
/// let open = OpenAt::new(Cwd, c"/proc/self/comm", How::read()).direct(&table);
/// let open = ring.submit(open)?;
/// let opened = ring.wait(open)?.result?;
/// let insert = ring.submit(InsertFile::new(File::open("/dev/null")?, &table))?;
/// let inserted = ring.wait(insert)?.result?; // The descriptor is closed here.
/// for (file, is_empty) in [(opened, false), (inserted, true)] {
///     let read = ring.submit(Read::new(file, [0; 16]))?;
///     assert_eq!(ring.wait(read)?.result? == 0, is_empty);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
// a slot, chosen by the kernel, of the table that is its source; `RESULT_KIND` says so.
unsafe impl<O: Opens> Op for Direct<O> {
    type Output = O::Direct;
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const RESULT_KIND: ResultKind = ResultKind::File;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.op.belongs_to(ring)
    }

    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        self.op.refusal()
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

    fn last_is_item(result: i32) -> bool {
        O::last_is_item(result)
    }
}

/// A completion without a resource, so that an operation can return what it was given.
fn nothing() -> Done {
    let (result, resource) = (-libc::ECANCELED, Resource::Nothing);
    Done::new(result, CqeFlags::empty(), None, resource)
}

impl<D: Dir, P: AsRef<CStr>> OpenAt<D, P> {
    /// Opens the file in the ring's file table instead. Since Linux 5.19.
    #[doc(alias("io_uring_prep_openat_direct", "io_uring_prep_open_direct"))]
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
    /// Opens the file in the ring's file table instead. Since Linux 5.19.
    #[doc(alias = "io_uring_prep_openat2_direct")]
    pub fn direct(self, table: &FileTable) -> Direct<Self> {
        Direct::new(self.lasting(), table)
    }
}

impl<D: Dir, P: AsRef<CStr>> Opens for OpenAt2<D, P> {
    type Direct = Outcome<FixedFile, D, P>;

    fn lasting(sqe: Sqe) -> Sqe {
        sqe // The flag is in `open_how`, and was removed there.
    }

    fn land(self, mut done: Done) -> Self::Direct {
        let Outcome { fd, buf, .. } = self.finish(nothing());
        Outcome { result: done.file(), fd, buf }
    }
}

impl Socket {
    /// Creates the socket in the ring's file table instead. Since Linux 5.19.
    #[doc(alias("io_uring_prep_socket_direct", "io_uring_prep_socket_direct_alloc"))]
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
    /// Puts the connection into the ring's file table instead. Since Linux 5.19.
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
    /// Puts each connection into the ring's file table instead. Since Linux 5.19.
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

    fn item(completion: Completion) -> Self::Item {
        match completion.resource {
            Resource::File(file) => Ok(file),
            _ => Err(completion.refusal()),
        }
    }
}

/// Adds the file of a descriptor to the ring's file table. It stays open there when the descriptor
/// is closed. Since Linux 5.19.
///
/// Descriptor and place are one open file: its position and its `O_NONBLOCK` are shared, as after
/// `dup(2)`. Closing the descriptor ends nothing for the ring; a connection ends only when the
/// [`FixedFile`] is dropped, too.
///
/// # Completion
///
/// Once, with the file.
///
/// # Cancellation
///
/// Not possible: it does not wait.
///
/// # Errors
///
/// `ENFILE` when the table is full, as for [`Direct`]; its text speaks of a different table.
/// `EBADF` for the descriptor of an `io_uring`.
#[doc(alias("IORING_OP_FILES_UPDATE", "io_uring_prep_files_update"))]
#[derive(Debug)]
pub struct InsertFile<F> {
    fd: F,
    table: Rc<Table>,
    /// The descriptor; after completion, the index of the file's slot.
    number: i32,
}

impl<F: AsFd> InsertFile<F> {
    /// Adds `fd` to `table`.
    pub fn new(fd: F, table: &FileTable) -> Self {
        Self { fd, table: Rc::clone(&table.0), number: -1 }
    }
}

// SAFETY: OP1: the address is of `number`, which the kernel may write, and the descriptor is of
// `fd`; the table is of the ring that `belongs_to` compares. It completes once; only `finish`
// adopts the slot that the kernel names (OP3).
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
            file.ok_or_else(|| io::Error::other("the kernel named a slot that is not free"))
        });
        Outcome { result, fd: self.fd, buf: () }
    }
}
