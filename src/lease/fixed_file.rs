//! Registered files: open in the ring's own table, not in the process's.
//!
//! ```text
//!   table │ file │ ─ │ file │ ─ │      the kernel chooses a free place
//!             ▲          │
//!    insert,  │          └──── last FixedFile dropped: closed, and the place free again
//!    accept ──┘
//! ```
//!
//! The kernel finds such a file without touching the process's table, which many threads share; and
//! a direct operation ([`Direct`](crate::op::Direct)) opens one without
//! ever making a descriptor.
//!
//! Which places are free is the kernel's to know: it takes one when it completes an operation, and
//! we hear of it later. So we choose none ourselves; we count which are held, and what a completion
//! names is ours once only (OP3). An operation holds its file, so no place is reused while an entry
//! names it.
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::{Read, Write};
//!
//! let mut ring = Setup::new(8).build()?;
//! let Ok(table) = ring.file_table(4) else { return Ok(()) }; // Linux 5.19
//! let (reader, writer) = std::io::pipe()?;
//! let (from, to) = (table.insert(&mut ring, reader)?, table.insert(&mut ring, writer)?);
//! let write = ring.submit(Write::new(to, "hello"))?;
//! let read = ring.submit(Read::new(from.clone(), Vec::with_capacity(16)))?;
//! assert_eq!(ring.wait(write)?.result?, 5);
//! assert_eq!(ring.wait(read)?.ok()?.1, b"hello");
//! assert_eq!(table.held(), 1); // The writer went with its operation.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "hands the kernel addresses of arguments")]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use annulus_sys::abi_register::{FilesUpdate, RsrcRegister};
use annulus_sys::errno::Errno;
use annulus_sys::flags_register::RsrcRegisterFlags;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::process::Process;
use annulus_sys::rings::Base;

use super::buf_ring::Idle;
use super::error::RegisterError;

use super::passed::{Door, Inbox};
use crate::op::{InsertFile, RingId};
use crate::ring::Ring;
use crate::sender::SendError;

/// The longest table that any kernel takes.
const LONGEST: u32 = 1 << 20;

/// In place of a descriptor: the place becomes empty, and its file is closed.
const CLOSE: i32 = -1;

/// A table of files that are registered with a ring. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileTable(pub(crate) Rc<Table>);

/// A file in the ring's table. Clones are of one place; when the last is dropped, the file is
/// closed. When the ring is gone, so is the file.
///
/// Its place is free at once. The file itself is closed at once since Linux 6.13; before, about a
/// second later, and not before all has completed that is in flight then on registered files,
/// whichever they are. So do not wait for the peer of a connection to see its end while such an
/// operation waits for something else.
#[derive(Debug, Clone)]
pub struct FixedFile(Rc<Held>);

/// A place that is ours until this is dropped.
struct Held {
    table: Rc<Table>,
    index: i32,
}

/// Whose a place is, as far as we have heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The kernel's, to fill whenever it likes.
    Kernel,
    /// A [`FixedFile`]'s.
    Held,
    /// Nobody's: closing it failed.
    Lost,
}

/// The places, and the ring that the table is registered with.
#[derive(Debug)]
pub(crate) struct Table {
    ring: RingId,
    /// `None` once the ring is gone.
    base: RefCell<Option<Arc<Base>>>,
    places: Box<[Cell<Place>]>,
    process: Process,
    door: Door,
}

impl<U: Default> Ring<U> {
    /// Makes a table of `count` files, all of its places empty. Since Linux 5.19.
    ///
    /// A ring has one table at a time. When the table, its files and the operations that fill it
    /// are dropped, another can be made. Before Linux 6.13 that waits for every operation in flight
    /// that uses a registered buffer: there files and buffers are let go of together.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] while there is another, and [`RegisterError::TooManyFiles`] when it
    /// would be longer than this process may have files open.
    #[doc(alias = "IORING_REGISTER_FILES2")]
    #[doc(alias = "io_uring_register_files_sparse")]
    pub fn file_table(&mut self, count: u32) -> Result<FileTable, RegisterError> {
        let unused = |old: &mut Rc<Table>| Rc::strong_count(old) == 1 && old.door.shut();
        if let Some(old) = self.fixed.files.take_if(unused) {
            old.retire(Idle::Yes); // An operation in flight would have a file or the table.
        }
        if self.fixed.files.is_some() {
            return Err(RegisterError::Taken { what: "table of registered files" });
        }
        let table = Table::register(self.raw.base(), self.id, count, self.process)?;
        self.fixed.files = Some(Rc::clone(&table));
        Ok(FileTable(table))
    }
}

impl Table {
    fn register(
        base: &Arc<Base>,
        ring: RingId,
        count: u32,
        process: Process,
    ) -> Result<Rc<Self>, RegisterError> {
        if count == 0 || count > LONGEST {
            let reason = "a table has 1 to 1048576 places";
            return Err(RegisterError::Invalid { reason });
        }
        let flags = RsrcRegisterFlags::SPARSE;
        let mut arg = RsrcRegister { nr: count, flags, ..RsrcRegister::default() };
        let size = u32::try_from(size_of::<RsrcRegister>()).expect("32 bytes");
        // SAFETY: a live `struct io_uring_rsrc_register`, which names no memory; the kernel copies
        // it, since it says so.
        unsafe { base.register(RegisterOp::FILES2, (&raw mut arg).cast(), size) }.map_err(
            |errno| match errno.raw() {
                libc::EMFILE => RegisterError::too_many_files(count),
                // Registered by other means.
                libc::EBUSY => RegisterError::Taken { what: "table of registered files" },
                libc::EINVAL => {
                    RegisterError::Unsupported { what: "an empty table of files", since: "5.19" }
                }
                _ => RegisterError::other(errno),
            },
        )?;
        let places = (0..count).map(|_| Cell::new(Place::Kernel)).collect();
        let base = RefCell::new(Some(Arc::clone(base)));
        Ok(Rc::new(Self { ring, base, places, process, door: Door::default() }))
    }

    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    /// The file that a completion names, if that can be: nothing that is held already, and nothing
    /// beyond the table.
    pub(crate) fn adopt(table: &Rc<Self>, index: i32) -> Option<FixedFile> {
        let place = table.places.get(usize::try_from(index).ok()?)?;
        if place.get() != Place::Kernel {
            return None;
        }
        place.set(Place::Held);
        Some(FixedFile(Rc::new(Held { table: Rc::clone(table), index })))
    }

    /// The ring goes, or nobody has a file any more. `idle`: nothing in flight uses the table.
    pub(crate) fn retire(&self, idle: Idle) {
        let Some(base) = self.base.take() else { return };
        if let Some(inbox) = self.door.get() {
            inbox.close();
        }
        // Otherwise it ends with the ring, when the kernel is done with what is in flight: until
        // Linux 6.12 this call would wait for that.
        if idle == Idle::Yes {
            // SAFETY: takes no argument, because `io_uring_register(2)` says so.
            let _ = unsafe { base.register(RegisterOp::UNREGISTER_FILES, ptr::null_mut(), 0) };
        }
    }

    /// Closes the file at `index`, which nobody uses any more.
    fn close(&self, index: i32) {
        if !self.process.is_this() {
            return; // The parent's.
        }
        let Some(place) = usize::try_from(index).ok().and_then(|at| self.places.get(at)) else {
            return; // No index that was adopted.
        };
        let closed = match self.base.borrow().as_ref() {
            Some(base) => empty(base, index.cast_unsigned()),
            None => Ok(1), // With its ring.
        };
        place.set(if closed == Ok(1) { Place::Kernel } else { Place::Lost });
    }

    /// What others put files into the table with.
    pub(crate) fn inbox(&self) -> io::Result<Arc<Inbox>> {
        let base = self.base.borrow();
        let base = base.as_ref().filter(|_| self.process.is_this());
        let base = base.ok_or_else(|| io::Error::other(SendError::Closed))?;
        self.door.open(base)
    }

    /// The same, if anybody ever did and the ring is there.
    pub(crate) fn open_inbox(&self) -> Option<&Arc<Inbox>> {
        let open = self.base.borrow().is_some() && self.process.is_this();
        self.door.get().filter(|_| open)
    }

    /// Closes what others have put into the table, and nobody wants. Where it is, a completion has
    /// said: so each place is adopted first, as any other that a completion names (OP3).
    pub(crate) fn sweep(table: &Rc<Self>) {
        let Some(inbox) = table.open_inbox() else { return };
        for index in inbox.unwanted() {
            drop(Self::adopt(table, index));
        }
    }

    fn count(&self, what: Place) -> usize {
        self.places.iter().filter(|place| place.get() == what).count()
    }
}

/// Empties a place, and returns how many were.
fn empty(base: &Base, offset: u32) -> Result<u32, Errno> {
    let mut fds = [CLOSE];
    let address = (&raw mut fds).expose_provenance() as u64;
    let mut update = FilesUpdate { offset, resv: 0, fds: address };
    // SAFETY: one live `struct io_uring_files_update` over one live descriptor, which the kernel
    // reads and does not keep, since it says so.
    unsafe { base.register(RegisterOp::FILES_UPDATE, (&raw mut update).cast(), 1) }
}

impl FileTable {
    /// Opens `fd` in the table too, and waits for it: the file stays open there when `fd` is
    /// closed. To do it beside other things, submit an [`InsertFile`].
    ///
    /// # Errors
    ///
    /// The kernel's: `ENFILE` when the table is full; its text, "Too many open files in system",
    /// means the ring's table here. [`Rejected`](crate::Rejected), if the
    /// operation could not be submitted.
    ///
    /// # Panics
    ///
    /// When the table is of another ring.
    pub fn insert<U: Default>(&self, ring: &mut Ring<U>, fd: impl AsFd) -> io::Result<FixedFile> {
        assert!(self.0.ring == ring.id, "a table of {} on {}", self.0.ring, ring.id);
        Table::sweep(&self.0);
        ring.scope(|scope| {
            let insert = scope.submit(InsertFile::new(fd.as_fd(), self))?;
            scope.wait(insert)?.result
        })
    }

    /// How many places it has.
    pub fn count(&self) -> usize {
        self.0.places.len()
    }

    /// How many of them are held by a [`FixedFile`]. The kernel may have filled others, for
    /// completions that were not taken yet.
    pub fn held(&self) -> usize {
        self.0.count(Place::Held)
    }

    /// How many cannot be used any more, because closing a file failed.
    pub fn lost(&self) -> usize {
        self.0.count(Place::Lost)
    }
}

impl FixedFile {
    /// The ring whose table it is in.
    #[inline]
    pub(crate) fn ring(&self) -> RingId {
        self.0.table.ring
    }

    /// Its place in the table.
    #[inline]
    pub(crate) fn index(&self) -> i32 {
        self.0.index
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.close(self.index);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.table.ring)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    /// A table whose ring is gone, so that nothing is asked of the kernel.
    fn table(count: usize) -> Rc<Table> {
        let process = Process::this();
        let places = vec![Cell::new(Place::Kernel); count].into();
        Rc::new(Table {
            ring: RingId(NonZero::<u32>::MIN),
            base: RefCell::new(None),
            places,
            process,
            door: Door::default(),
        })
    }

    #[test]
    fn op3_a_place_that_cannot_be_is_not_adopted() {
        let table = table(4);
        for index in [-1, i32::MIN, 4, i32::MAX] {
            assert!(Table::adopt(&table, index).is_none(), "{index}");
        }
        let file = Table::adopt(&table, 3).expect("the last place");
        assert_eq!((file.index(), file.ring()), (3, RingId(NonZero::<u32>::MIN)));
    }

    #[test]
    fn op3_a_place_is_adopted_once_until_it_is_closed() {
        let table = table(2);
        let file = Table::adopt(&table, 0).expect("a place");
        let clone = file.clone();
        assert!(Table::adopt(&table, 0).is_none());
        drop(file);
        assert!(Table::adopt(&table, 0).is_none(), "the clone has it");
        drop(clone);
        assert!(Table::adopt(&table, 0).is_some());
    }
}
