//! Registered files: open in the ring's own file table, not in the process's.
//!
//! ```text
//!   table │ file │ ─ │ file │ ─ │      the kernel chooses a free place
//!             ▲          │
//!    insert,  │          └──── last FixedFile dropped: closed, and the place free again
//!    accept ──┘
//! ```
//!
//! The kernel finds such a file without touching the process's file table, which many threads
//! share. A direct operation ([`Direct`](crate::op::Direct)) opens such a file without ever making
//! a descriptor.
//!
//! The kernel decides which places are free: it takes one when it completes an operation, and we
//! learn of it later. So we never choose a place. We track which places are held, and a place that
//! a completion names becomes ours only once (OP3). An operation holds its file, so no place is
//! reused while an entry names it.
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
//! assert_eq!(table.held(), 1); // The writer was dropped with its operation.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "hands the kernel addresses of arguments")]

pub(crate) mod passed;
mod placeholder;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use annulus_sys::abi_register::{FilesUpdate, RsrcRegister};
use annulus_sys::errno::Errno;
use annulus_sys::flags_register::RsrcRegisterFlags;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::process::Process;
use annulus_sys::rings::Base;

use super::Registered;
use super::buf_ring::Idle;
use crate::lease::mailbox::SendError;
use crate::raw::RingId;
use crate::raw::register::RegisterError;
pub use passed::{FileSender, PassedFile};
use passed::{Inbox, InboxCell};
use placeholder::Placeholder;

/// The longest table that any kernel takes.
const LONGEST: u32 = 1 << 20;

/// Instead of a descriptor: empties the place, and closes its file.
const CLOSE: i32 = -1;

/// A table of files that are registered with a ring. Cheap to clone.
///
/// Made by [`Ring::file_table`](crate::Ring::file_table), which has an example.
#[derive(Debug, Clone)]
pub struct FileTable(pub(crate) Rc<Table>);

/// A file in the ring's table. All clones name one place; dropping the last one closes the file.
/// When the ring ends, the file is closed with it.
///
/// Dropping the last clone frees the place at once. The file itself is closed at once since Linux
/// 6.13. Older kernels close it about a second later, and not before every operation on any
/// registered file that is in flight at that time has completed. So do not wait for a socket's peer
/// to see the close while such an operation waits for something else.
#[derive(Debug, Clone)]
pub struct FixedFile(Rc<Held>);

/// A place that is ours until this is dropped.
struct Held {
    table: Rc<Table>,
    index: i32,
}

/// The owner of a place, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The kernel, which may fill it at any time.
    Kernel,
    /// A [`FixedFile`].
    Held,
    /// None: closing the file failed.
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
    inbox: InboxCell,
    placeholder: Placeholder,
}

impl Registered {
    /// Makes a table, unless the ring has one that is still used.
    pub(crate) fn file_table(
        &mut self,
        base: &Arc<Base>,
        ring: RingId,
        count: u32,
    ) -> Result<FileTable, RegisterError> {
        let unused = |old: &mut Rc<Table>| Rc::strong_count(old) == 1 && old.inbox.shut();
        if let Some(old) = self.files.take_if(unused) {
            old.retire(Idle::Yes); // An operation in flight would have a file or the table.
        }
        if self.files.is_some() {
            return Err(RegisterError::InUse { what: "table of registered files" });
        }
        let table = Table::register(base, ring, count, Process::this())?;
        self.files = Some(Rc::clone(&table));
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
        // SAFETY: a live `struct io_uring_rsrc_register`, which names no memory. The kernel copies
        // it, according to its documentation.
        unsafe { base.register(RegisterOp::FILES2, (&raw mut arg).cast(), size) }.map_err(
            |errno| match errno.raw() {
                libc::EMFILE => RegisterError::too_many_files(count),
                // A table was registered through the raw API.
                libc::EBUSY => RegisterError::InUse { what: "table of registered files" },
                libc::EINVAL => {
                    RegisterError::Unsupported { what: "an empty table of files", since: "5.19" }
                }
                _ => RegisterError::other(errno),
            },
        )?;
        let places = (0..count).map(|_| Cell::new(Place::Kernel)).collect();
        let base = RefCell::new(Some(Arc::clone(base)));
        let (inbox, placeholder) = Default::default();
        Ok(Rc::new(Self { ring, base, places, process, inbox, placeholder }))
    }

    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    /// The file that a completion names. `None` if the place is already held, or beyond the table.
    pub(crate) fn adopt(table: &Rc<Self>, index: i32) -> Option<FixedFile> {
        let place = table.places.get(usize::try_from(index).ok()?)?;
        if place.get() != Place::Kernel {
            return None;
        }
        place.set(Place::Held);
        Some(FixedFile(Rc::new(Held { table: Rc::clone(table), index })))
    }

    /// The ring ends, or no file is held any more. `idle` says whether anything in flight uses the
    /// table.
    pub(crate) fn retire(&self, idle: Idle) {
        let Some(base) = self.base.take() else { return };
        if let Some(inbox) = self.inbox.get() {
            inbox.close();
        }
        // Otherwise the table ends with the ring, when the kernel is done with everything in
        // flight: until Linux 6.12, this call would wait for that.
        if idle == Idle::Yes {
            // SAFETY: takes no argument, according to `io_uring_register(2)`.
            let _ = unsafe { base.register(RegisterOp::UNREGISTER_FILES, ptr::null_mut(), 0) };
        }
    }

    /// Closes the file at `index`, which is no longer used.
    fn close(&self, index: i32) {
        if !self.process.is_this() {
            return; // The table is the parent's.
        }
        let Some(place) = usize::try_from(index).ok().and_then(|at| self.places.get(at)) else {
            return; // This index was never adopted.
        };
        let closed = match self.base.borrow().as_ref() {
            Some(base) => empty(base, index.cast_unsigned()),
            None => Ok(1), // Closed with its ring.
        };
        place.set(if closed == Ok(1) { Place::Kernel } else { Place::Lost });
    }

    /// What lies in a place that is held and has no file.
    pub(crate) fn placeholder(&self) -> io::Result<Rc<OwnedFd>> {
        self.placeholder.get()
    }

    /// The inbox through which other rings put files into the table.
    pub(crate) fn inbox(&self) -> io::Result<Arc<Inbox>> {
        let base = self.base.borrow();
        let base = base.as_ref().filter(|_| self.process.is_this());
        let base = base.ok_or_else(|| io::Error::other(SendError::Closed))?;
        self.inbox.open(base)
    }

    /// The inbox, if it was ever made and the ring still exists.
    pub(crate) fn open_inbox(&self) -> Option<&Arc<Inbox>> {
        let open = self.base.borrow().is_some() && self.process.is_this();
        self.inbox.get().filter(|_| open)
    }

    /// Closes files that other rings have put into the table and that were dropped there. A
    /// completion has named each place, so each is adopted first, like any other place that a
    /// completion names (OP3).
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

/// Empties a place, and returns how many places were emptied.
fn empty(base: &Base, offset: u32) -> Result<u32, Errno> {
    let mut fds = [CLOSE];
    let address = (&raw mut fds).expose_provenance() as u64;
    let mut update = FilesUpdate { offset, resv: 0, fds: address };
    // SAFETY: one live `struct io_uring_files_update` with one live descriptor number, which the
    // kernel reads and does not keep, according to its documentation.
    unsafe { base.register(RegisterOp::FILES_UPDATE, (&raw mut update).cast(), 1) }
}

impl FileTable {
    /// How many places the table has.
    pub fn count(&self) -> usize {
        self.0.places.len()
    }

    /// How many places are held by a [`FixedFile`]. The kernel may have filled others, for
    /// completions that were not taken yet.
    pub fn held(&self) -> usize {
        self.0.count(Place::Held)
    }

    /// How many places can no longer be used, because closing their file failed.
    pub fn lost(&self) -> usize {
        self.0.count(Place::Lost)
    }
}

impl FixedFile {
    /// The ring whose table holds the file.
    #[inline]
    pub(crate) fn ring(&self) -> RingId {
        self.0.table.ring
    }

    /// What lies in a place that is held and has no file.
    pub(crate) fn placeholder(&self) -> io::Result<Rc<OwnedFd>> {
        self.0.table.placeholder()
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

    /// A table whose ring is gone, so that the kernel is not asked for anything.
    fn table(count: usize) -> Rc<Table> {
        let process = Process::this();
        let places = vec![Cell::new(Place::Kernel); count].into();
        Rc::new(Table {
            ring: RingId(NonZero::<u32>::MIN),
            base: RefCell::new(None),
            places,
            process,
            inbox: InboxCell::default(),
            placeholder: Placeholder::default(),
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
