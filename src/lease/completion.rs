//! Completions: how often an operation completes, and what each completion carries.
//!
//! ```text
//!   Single             submit ──────────────────────► last
//!   Multishot          submit ──► Completion ──► Completion ──► … last
//!   WithNotification   submit ──► result ───────────► last: the memory is free
//! ```
//!
//! Keeps OP3: the resource that a completion carries belongs to the holder of the [`Completion`].
//! Leaves to others: which operation a completion belongs to (`ring`), and what its result means
//! (each operation).

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqeFlags;

use super::Resource;

/// How often an operation completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completions {
    /// Once.
    Single,
    /// Any number of times; the last completion lacks `F_MORE`.
    Multishot,
    /// Twice: with its result, and later with the notification that its memory is free (zero-copy
    /// send).
    WithNotification,
}

/// What kind of resource the result of an operation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// Nothing: it is a number.
    Number,
    /// A descriptor of this process.
    Fd,
    /// A buffer of the group that is its [`Source`](super::Source); the completion's flags carry
    /// its id. The kernel must have given up any buffer that a completion names, even a failed one.
    /// A `READ` with `BUFFER_SELECT` does not guarantee that (Linux 6.16, 6.17).
    Buffer,
    /// Buffers of the group that is its [`Source`](super::Source), all full except the last. The
    /// flags carry the id of the first. The others are those provided after it, as many as hold the
    /// result's bytes.
    Bundle,
    /// A place in the file table that is its [`Source`](super::Source).
    File,
    /// Nothing. But the operation selects the buffers that it sends from the group that is its
    /// [`Source`](super::Source).
    Sends,
}

/// One completion of a multishot operation. The resource that it carries belongs to its holder: if
/// it is dropped unread, a buffer is recycled and a descriptor is closed (OP3).
#[derive(Debug)]
pub struct Completion {
    pub(crate) result: i32,
    pub(crate) flags: CqeFlags,
    /// The resource that it carries.
    pub resource: Resource,
}

impl Completion {
    /// The kernel's result: a number, or an error.
    pub fn result(&self) -> Result<u32, Errno> {
        result_of(self.result)
    }

    /// The kernel's result, unconverted.
    pub fn raw(&self) -> i32 {
        self.result
    }

    /// The completion's flags.
    pub fn flags(&self) -> CqeFlags {
        self.flags
    }
}

/// A number, or the error that a system call would have returned. When a signal ends a wait inside
/// the kernel, io_uring passes on the kernel-internal errno that asks to restart the call
/// (`ERESTARTSYS`, 512, and its variants up to 516). A system call would report `EINTR`, and so do
/// we. Seen on Linux 6.18 from an open that was cancelled.
#[inline]
pub(crate) fn result_of(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| match result.wrapping_neg() {
        512..=516 => Errno::new(libc::EINTR),
        errno => Errno::new(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_to_be_made_again_was_interrupted() {
        for restart in 512..=516 {
            assert_eq!(result_of(-restart), Err(Errno::new(libc::EINTR)));
        }
        assert_eq!(result_of(-517), Err(Errno::new(517)));
        assert_eq!(result_of(-libc::ENOENT), Err(Errno::new(libc::ENOENT)));
        assert_eq!(result_of(i32::MAX), Ok(i32::MAX.unsigned_abs()));
    }
}
