//! Files on their way from one ring's table to another's.
//!
//! ```text
//!   thread A, with a ring          │ thread B, with a ring and a table
//!                                  │ table.sender() ─► FileSender
//!   PassFile::new(file, &sender) ◄─┼────────────────────┘
//!       └─► PassedFile ────────────┼─► by a channel ─► table.receive(passed) ─► FixedFile
//!                                  │
//!           dropped ───────────────┼─► told to the table, which closes it
//! ```
//!
//! The kernel puts the file into a free place of the other table, and tells the ring that sent it
//! which. From then on the place belongs to whoever has the [`PassedFile`]; only the thread of the
//! table can close it, so one that is dropped elsewhere waits for the table to be used again (OP3).
//!
//! Leaves to others: the operation (`op::pass`), and getting a [`PassedFile`] to the other thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::syscall::RingFd;

use super::fixed_file::{FileTable, FixedFile, Table};
use crate::sender::SendError;

/// Leads files into a table, from any ring and thread. Cheap to clone; keeps neither the table nor
/// its ring.
#[derive(Debug, Clone)]
pub struct FileSender(Weak<Inbox>);

/// A file that was put into another ring's table: to be [received](FileTable::receive) there.
/// Dropped, it is closed, when its table is next used. Forgotten (`mem::forget`), it stays where it
/// is, and under way for ever: the ring makes no other table then, since the place cannot be given
/// to anything else.
#[derive(Debug)]
#[must_use = "dropped, the file is closed: send it to the thread of its table"]
pub struct PassedFile {
    inbox: Weak<Inbox>,
    index: i32,
}

/// What a table shares with those who put files into it.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    process: Process,
}

#[derive(Debug)]
struct State {
    /// `None` once the table is gone.
    base: Option<Arc<Base>>,
    /// Operations that may put a file into the table, and files that nobody has received.
    under_way: usize,
    /// Places whose file nobody wants.
    unwanted: Vec<i32>,
}

impl Inbox {
    /// # Errors
    ///
    /// When the ring has no descriptor that another could name, or there is no memory.
    pub(crate) fn new(base: &Arc<Base>) -> io::Result<Arc<Self>> {
        let RingFd::Owned(_) = base.fd() else {
            return Err(io::Error::other(SendError::Nameless));
        };
        let (base, process) = (Some(Arc::clone(base)), Process::this());
        let state = Mutex::new(State { base, under_way: 0, unwanted: Vec::new() });
        Ok(Arc::new(Self { state, process }))
    }

    /// `None` in a forked child: it is the parent's, and who held the lock is gone.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        let locked = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.process.is_this().then(locked)
    }

    /// Shuts it, if nothing is under way.
    pub(crate) fn shut(&self) -> bool {
        let Some(mut state) = self.state() else { return true };
        if state.under_way > 0 {
            return false;
        }
        state.base = None;
        true
    }

    /// The ring goes, whatever is under way.
    pub(crate) fn close(&self) {
        if let Some(mut state) = self.state() {
            state.base = None;
        }
    }

    /// The places whose file nobody wants.
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

    /// The kernel has put a file into the place `index`.
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
        // A forked child has a copy of what is its parent's.
        if let Some(inbox) = self.inbox.upgrade()
            && let Some(mut state) = inbox.state()
        {
            state.under_way -= 1;
            state.unwanted.push(self.index);
        }
    }
}

impl FileTable {
    /// What others put files into this table with. Since Linux 6.3.
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
    /// Gives it back if it is in another table, or this one's ring is gone.
    pub fn receive(&self, mut file: PassedFile) -> Result<FixedFile, PassedFile> {
        Table::sweep(&self.0);
        let ours =
            self.0.open_inbox().filter(|ours| Weak::ptr_eq(&file.inbox, &Arc::downgrade(ours)));
        let Some(inbox) = ours else { return Err(file) };
        let Some(fixed) = Table::adopt(&self.0, file.index) else { return Err(file) };
        if let Some(mut state) = inbox.state() {
            state.under_way -= 1;
        }
        file.inbox = Weak::new(); // What it stood for is the lease's now.
        Ok(fixed)
    }
}

/// The inbox of a table, made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Door(std::cell::OnceCell<Arc<Inbox>>);

impl Door {
    /// The inbox, if anybody ever asked for it.
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

    /// Whether nothing is under way to the table, nor ever will be.
    pub(crate) fn shut(&self) -> bool {
        self.get().is_none_or(|inbox| inbox.shut())
    }
}
