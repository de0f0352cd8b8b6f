//! What completions say: the last one of an operation, and one of many.
//!
//! ```text
//!   completion ─┬─ the last ─► Done ─► finish ─► output
//!               └─ another ──► Shot ─► item
//! ```
//!
//! Keeps OP3: what a completion brought belongs to whoever holds this, and goes with it. Leaves to
//! others: what it brought (`lease`), and what it means (each operation).
#![allow(unsafe_code, reason = "drops what was brought, where something was")]

use std::io;
use std::mem::ManuallyDrop;

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqeFlags;

use crate::event::result_of;
use crate::lease::{Brought, BufLease, Bundle, FixedFile};

/// What an operation's last completion said.
#[derive(Debug)]
pub struct Done {
    pub(crate) result: i32,
    pub(crate) flags: CqeFlags,
    pub(crate) notified: Option<i32>,
    pub(crate) fate: Fate,
    pub(crate) brought: ManuallyDrop<Brought>,
}

/// What the slot knows of an operation beside its last completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fate {
    /// Nothing.
    #[default]
    Usual,
    /// The kernel never had it: its entry was taken back.
    TakenBack,
    /// It completed so often, the last time included.
    Often(u32),
}

/// Nearly always nothing was brought, and where that is known there is no code for it.
impl Drop for Done {
    #[inline]
    fn drop(&mut self) {
        if !matches!(*self.brought, Brought::Nothing) {
            // SAFETY: dropped once, because this is the end of it.
            unsafe { ManuallyDrop::drop(&mut self.brought) };
        }
    }
}

impl Done {
    /// What a completion said, and what it brought.
    #[inline]
    pub(crate) fn new(
        result: i32,
        flags: CqeFlags,
        notified: Option<i32>,
        brought: Brought,
    ) -> Self {
        let brought = ManuallyDrop::new(brought);
        Self { result, flags, notified, fate: Fate::Usual, brought }
    }

    /// The same, of an operation with this fate.
    #[inline]
    pub(crate) fn with(mut self, fate: Fate) -> Self {
        self.fate = fate;
        self
    }

    /// The kernel's result: a number, or what went wrong.
    #[inline]
    pub fn result(&self) -> io::Result<u32> {
        result_of(self.result).map_err(io::Error::from)
    }

    /// The kernel's result as it is.
    #[inline]
    pub fn raw(&self) -> i32 {
        self.result
    }

    /// How many bytes of the `offered` were moved. The kernel never says more.
    #[inline]
    pub fn count(&self, offered: u32) -> io::Result<usize> {
        self.result().map(|count| count.min(offered) as usize)
    }

    /// The completion's flags.
    pub fn flags(&self) -> CqeFlags {
        self.flags
    }

    /// What the notification of a zero-copy send said; `None` when there was none.
    pub fn notified(&self) -> Option<i32> {
        self.notified
    }

    /// What the completion brought, which belongs to the caller from now on.
    pub fn take_brought(&mut self) -> Brought {
        std::mem::take(&mut *self.brought)
    }

    /// The descriptor that the completion brought.
    pub fn fd(&mut self) -> io::Result<std::os::fd::OwnedFd> {
        match self.take_brought() {
            Brought::Fd(fd) => Ok(fd),
            _ => Err(self.refusal()),
        }
    }

    /// The place in a table of files that the completion brought.
    pub fn file(&mut self) -> io::Result<FixedFile> {
        match self.take_brought() {
            Brought::File(file) => Ok(file),
            _ => Err(self.refusal()),
        }
    }

    /// The buffer that the completion brought, if it did.
    pub fn lease(&mut self) -> Option<BufLease> {
        match self.take_brought() {
            Brought::Buffer(lease) => Some(lease),
            _ => None,
        }
    }

    /// The buffers that the completion brought, if it did.
    pub fn bundle(&mut self) -> Option<Bundle> {
        match self.take_brought() {
            Brought::Bundle(bundle) => Some(bundle),
            _ => None,
        }
    }

    /// What was picked, and has bytes: `None` at the end of what the peer sends.
    pub(crate) fn picked<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Option<T>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> io::Result<Option<T>> {
        match (self.result()?, take(self)) {
            (0, _) => Ok(None),
            (_, Some(picked)) if bytes(&picked) > 0 => Ok(Some(picked)),
            // Bytes came, and not to us: that is not the end.
            _ => Err(self.refusal()),
        }
    }

    /// What completions before the last had brought, and nobody took, oldest first. For operations
    /// that complete many times.
    pub fn left(&mut self) -> Vec<Shot> {
        match self.take_brought() {
            Brought::Left(shots) => shots,
            _ => Vec::new(),
        }
    }

    /// Why nothing was brought.
    fn refusal(&self) -> io::Error {
        let text = "the kernel reported success, and named nothing that is ours";
        self.result().err().unwrap_or_else(|| io::Error::other(text))
    }
}

/// One completion of an operation that completes many times. What it brought belongs to whoever
/// holds it: dropped unread, a buffer is recycled and a descriptor closed (OP3).
#[derive(Debug)]
pub struct Shot {
    pub(crate) result: i32,
    pub(crate) flags: CqeFlags,
    /// What it brought.
    pub brought: Brought,
}

impl Shot {
    /// The kernel's result: a number, or what went wrong.
    pub fn result(&self) -> Result<u32, Errno> {
        result_of(self.result)
    }

    /// The kernel's result as it is.
    pub fn raw(&self) -> i32 {
        self.result
    }

    /// The completion's flags.
    pub fn flags(&self) -> CqeFlags {
        self.flags
    }
}
