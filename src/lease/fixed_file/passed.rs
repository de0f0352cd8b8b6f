//! Passed files: on their way from one ring to another ring's file table.
//!
//! ```text
//!   thread A, with a ring          │ thread B, with a ring and a table
//!                                  │ table.sender() ─► FileSender
//!   PassFile::new(file, &sender) ◄─┼────────────────────┘
//!       └─► PassedFile ────────────┼─► by a channel ─► table.receive(passed) ─► FixedFile
//!                                  │
//!           dropped ───────────────┼─► noted for the table, which closes it
//! ```
//!
//! The kernel puts the file into a free place of the other table, and reports the place to the ring
//! that sent the file. From then on the place belongs to the holder of the [`PassedFile`]. Only the
//! table's thread can close it, so a file that is dropped elsewhere stays open until the table is
//! used again (OP3).
//!
//! Leaves to others: the operation (`op::PassFile`), and sending a [`PassedFile`] to its thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::syscall::RingFd;

use super::{FileTable, FixedFile, Table};
use crate::lease::mailbox::SendError;

/// Lets any ring, on any thread, put files into a table. Cheap to clone; keeps neither the table
/// nor its ring alive.
#[derive(Debug, Clone)]
pub struct FileSender(Weak<Inbox>);

/// A file that was put into another ring's table; [receive](FileTable::receive) it there. Dropping
/// it closes the file when the table is next used. If it is forgotten (`mem::forget`), the file
/// stays in its place, and counts as under way forever. Then the ring cannot make another table,
/// because the place cannot be given to another file.
#[derive(Debug)]
#[must_use = "dropped, the file is closed: send it to the thread of its table"]
pub struct PassedFile {
    inbox: Weak<Inbox>,
    index: i32,
}

/// The part of a table that its senders share.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    process: Process,
}

#[derive(Debug)]
struct State {
    /// `None` once the table is gone.
    base: Option<Arc<Base>>,
    /// How many operations may still put a file into the table, plus files that were not received
    /// yet.
    under_way: usize,
    /// Places whose file was dropped before it was received.
    unwanted: Vec<i32>,
}

impl Inbox {
    /// # Errors
    ///
    /// When the ring has no descriptor that another could name, or there is no memory.
    pub(crate) fn new(base: &Arc<Base>) -> io::Result<Arc<Self>> {
        let RingFd::Owned(_) = base.fd() else {
            return Err(io::Error::other(SendError::NoDescriptor));
        };
        let (base, process) = (Some(Arc::clone(base)), Process::this());
        let state = Mutex::new(State { base, under_way: 0, unwanted: Vec::new() });
        Ok(Arc::new(Self { state, process }))
    }

    /// `None` in a forked child: the inbox belongs to the parent, and the thread that held the lock
    /// is gone.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        let locked = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.process.is_this().then(locked)
    }

    /// Closes the inbox if nothing is under way, and returns whether it is closed.
    pub(crate) fn shut(&self) -> bool {
        let Some(mut state) = self.state() else { return true };
        if state.under_way > 0 {
            return false;
        }
        state.base = None;
        true
    }

    /// Closes the inbox because the ring ends, even if something is under way.
    pub(crate) fn close(&self) {
        if let Some(mut state) = self.state() {
            state.base = None;
        }
    }

    /// Takes the places whose file was dropped before it was received.
    pub(crate) fn unwanted(&self) -> Vec<i32> {
        self.state().map(|mut state| std::mem::take(&mut state.unwanted)).unwrap_or_default()
    }
}

/// The right to put one file into a table.
#[derive(Debug)]
pub(crate) struct Passage {
    inbox: Weak<Inbox>,
    base: Arc<Base>,
}

impl Passage {
    /// The ring of the table.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// The kernel has put a file into the place `index`: from now on the [`PassedFile`] owns it.
    pub(crate) fn arrived(self, index: i32) -> PassedFile {
        if let Some(inbox) = self.inbox.upgrade()
            && let Some(mut state) = inbox.state()
        {
            state.under_way += 1;
        }
        PassedFile { inbox: Weak::clone(&self.inbox), index }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(inbox) = self.inbox.upgrade()
            && let Some(mut state) = inbox.state()
        {
            state.under_way -= 1;
        }
    }
}

impl FileSender {
    /// The right to put one file into the table.
    pub(crate) fn passage(&self) -> Result<Passage, SendError> {
        let inbox = self.0.upgrade().ok_or(SendError::Closed)?;
        let mut state = inbox.state().ok_or(SendError::Closed)?;
        let base = state.base.clone().ok_or(SendError::Closed)?;
        state.under_way += 1;
        Ok(Passage { inbox: Weak::clone(&self.0), base })
    }
}

impl Drop for PassedFile {
    fn drop(&mut self) {
        // In a forked child this is a copy, and the file belongs to the parent.
        if let Some(inbox) = self.inbox.upgrade()
            && let Some(mut state) = inbox.state()
        {
            state.under_way -= 1;
            state.unwanted.push(self.index);
        }
    }
}

impl FileTable {
    /// A sender with which other rings put files into this table. Since Linux 6.3.
    ///
    /// # Errors
    ///
    /// When the ring is gone, or has no descriptor that another could name
    /// (`REGISTERED_FD_ONLY`).
    pub fn sender(&self) -> io::Result<FileSender> {
        Table::sweep(&self.0);
        Ok(FileSender(Arc::downgrade(&self.0.inbox()?)))
    }

    /// Takes a file that another ring has put into this table.
    ///
    /// # Errors
    ///
    /// Gives the file back if it is in another table, or if this table's ring is gone.
    pub fn receive(&self, mut file: PassedFile) -> Result<FixedFile, PassedFile> {
        Table::sweep(&self.0);
        let ours =
            self.0.open_inbox().filter(|ours| Weak::ptr_eq(&file.inbox, &Arc::downgrade(ours)));
        let Some(inbox) = ours else { return Err(file) };
        let Some(fixed) = Table::adopt(&self.0, file.index) else { return Err(file) };
        if let Some(mut state) = inbox.state() {
            state.under_way -= 1;
        }
        file.inbox = Weak::new(); // The lease owns the place now.
        Ok(fixed)
    }
}

/// The inbox of a table, made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct InboxCell(std::cell::OnceCell<Arc<Inbox>>);

impl InboxCell {
    /// The inbox, if it was ever asked for.
    pub(crate) fn get(&self) -> Option<&Arc<Inbox>> {
        self.0.get()
    }

    /// The inbox of the table of `base`.
    pub(crate) fn open(&self, base: &Arc<Base>) -> io::Result<Arc<Inbox>> {
        if self.0.get().is_none() {
            let _ = self.0.set(Inbox::new(base)?);
        }
        Ok(Arc::clone(self.0.get().expect("it was just made")))
    }

    /// Whether nothing is under way to the table, now or ever.
    pub(crate) fn shut(&self) -> bool {
        self.get().is_none_or(|inbox| inbox.shut())
    }
}
