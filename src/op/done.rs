//! What completions say: the last one of an operation, and the ones before it.
//!
//! ```text
//!   completion ─┬─ the last ───► Done ─► finish ─► output
//!               └─ an earlier ─► Completion ─► item
//! ```
//!
//! Keeps OP3: a `Done` owns the resource that its completion carries, and drops it if it is not
//! taken. Leaves to others: the resources (`lease`), and what each one means (each operation).
#![allow(unsafe_code, reason = "drops the resource only where there is one")]

use std::io;
use std::mem::ManuallyDrop;

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqeFlags;

use crate::lease::completion::{Completion, result_of};
use crate::lease::{BufLease, Bundle, FixedFile, Resource};

/// What an operation's last completion said.
#[derive(Debug)]
pub struct Done {
    pub(crate) result: i32,
    pub(crate) flags: CqeFlags,
    pub(crate) notified: Option<i32>,
    pub(crate) fate: Fate,
    pub(crate) resource: ManuallyDrop<Resource>,
}

/// What the slot knows about an operation in addition to its last completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fate {
    /// Nothing more.
    #[default]
    Usual,
    /// The kernel never saw the operation: its entry was taken back.
    TakenBack,
    /// It completed this often, including the last time.
    Often(u32),
}

/// Nearly always there is no resource, and where the compiler knows that, it generates no code.
impl Drop for Done {
    #[inline]
    fn drop(&mut self) {
        if !matches!(*self.resource, Resource::Nothing) {
            // SAFETY: dropped only once: `self` is never used again.
            unsafe { ManuallyDrop::drop(&mut self.resource) };
        }
    }
}

impl Done {
    /// What a completion said, and the resource that it carries.
    #[inline]
    pub(crate) fn new(
        result: i32,
        flags: CqeFlags,
        notified: Option<i32>,
        resource: Resource,
    ) -> Self {
        let resource = ManuallyDrop::new(resource);
        Self { result, flags, notified, fate: Fate::Usual, resource }
    }

    /// What an operation is told that the kernel never saw, and will not see.
    pub(crate) fn never_submitted(why: Errno) -> Self {
        let (result, flags) = (why.raw().wrapping_neg(), CqeFlags::empty());
        Self::new(result, flags, None, Resource::Nothing).with(Fate::TakenBack)
    }

    /// Sets the fate of the operation.
    #[inline]
    pub(crate) fn with(mut self, fate: Fate) -> Self {
        self.fate = fate;
        self
    }

    /// The kernel's result: a number, or the error.
    #[inline]
    pub fn result(&self) -> io::Result<u32> {
        result_of(self.result).map_err(io::Error::from)
    }

    /// The kernel's result, unchanged: an error is a negative errno.
    #[inline]
    pub fn raw(&self) -> i32 {
        self.result
    }

    /// How many of the `offered` bytes were moved. A larger result, which no kernel should give, is
    /// cut.
    #[inline]
    pub fn count(&self, offered: u32) -> io::Result<usize> {
        self.result().map(|count| count.min(offered) as usize)
    }

    /// The completion's flags.
    pub fn flags(&self) -> CqeFlags {
        self.flags
    }

    /// The result of a zero-copy send's notification; `None` when there was no notification.
    pub fn notified(&self) -> Option<i32> {
        self.notified
    }

    /// Takes the resource that the completion carries. The caller owns it from now on.
    pub fn take_resource(&mut self) -> Resource {
        std::mem::take(&mut *self.resource)
    }

    /// Takes the descriptor that the completion carries.
    pub fn fd(&mut self) -> io::Result<std::os::fd::OwnedFd> {
        match self.take_resource() {
            Resource::Fd(fd) => Ok(fd),
            _ => Err(self.refusal()),
        }
    }

    /// Takes the slot of a file table that the completion carries.
    pub fn file(&mut self) -> io::Result<FixedFile> {
        match self.take_resource() {
            Resource::File(file) => Ok(file),
            _ => Err(self.refusal()),
        }
    }

    /// Takes the buffer that the completion carries, if there is one.
    pub fn lease(&mut self) -> Option<BufLease> {
        match self.take_resource() {
            Resource::Buffer(lease) => Some(lease),
            _ => None,
        }
    }

    /// Takes the bundle of buffers that the completion carries, if there is one.
    pub fn bundle(&mut self) -> Option<Bundle> {
        match self.take_resource() {
            Resource::Bundle(bundle) => Some(bundle),
            _ => None,
        }
    }

    /// The selected buffers, if they hold bytes; `None` at the end of the data that the peer sends.
    pub(crate) fn provided<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Option<T>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> io::Result<Option<T>> {
        match (self.result()?, take(self)) {
            (0, _) => Ok(None),
            (_, Some(picked)) if bytes(&picked) > 0 => Ok(Some(picked)),
            // The kernel received bytes, but into no buffer of ours: that is not the end of the
            // data.
            _ => Err(self.refusal()),
        }
    }

    /// Takes the completions before the last one that were not delivered, oldest first. For
    /// multishot operations.
    pub fn remaining(&mut self) -> Vec<Completion> {
        match self.take_resource() {
            Resource::Remaining(completions) => completions,
            _ => Vec::new(),
        }
    }

    /// The error for a completion that carries no resource.
    fn refusal(&self) -> io::Error {
        let text = "the kernel reported success, and named nothing that is ours";
        self.result().err().unwrap_or_else(|| io::Error::other(text))
    }
}
