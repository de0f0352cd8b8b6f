//! How a multishot operation ended, and how to go on.
//!
//! | ending | because | to go on |
//! |---|---|---|
//! | [`Eof`](Ending::Eof) | the other side will send no more | nothing is left to receive |
//! | [`NoBuffers`](Ending::NoBuffers) | every buffer of the buffer ring is leased | drop leases, submit it again |
//! | [`Cancelled`](Ending::Cancelled) | it was cancelled | submit it again, if you still want it |
//! | [`Stopped`](Ending::Stopped) | the kernel would not queue more completions | submit it again |
//! | [`Failed`](Ending::Failed) | the error that it carries | as the error says |
//!
//! Every completion before the end is an item, and so is the last completion if it carries
//! something. Items that were not taken before the ticket was redeemed are in [`Ended::remaining`],
//! so neither a cancel nor a wait for the end loses any.
//!
//! Leaves to others: the items.

use std::io;

use super::{Completion, Done};

/// How a multishot operation ended, and so what to do next.
#[derive(Debug)]
#[must_use = "most endings call for submitting the operation again"]
#[non_exhaustive]
pub enum Ending {
    /// The end of the file, or of the data that the peer sends. Do not submit it again: it would
    /// end at once. An empty datagram looks identical, although it is not the end; a datagram
    /// socket has no end.
    Eof,
    /// There is no buffer for the data: all buffers of the buffer ring are leased (`ENOBUFS`). Data
    /// that has arrived stays queued. Drop leases, then submit the operation again. If this happens
    /// often, make the buffer ring larger.
    NoBuffers,
    /// It was cancelled. Earlier data was delivered in items, or is in [`Ended::remaining`]; the
    /// rest stays queued. Submit the operation again if you want it to go on.
    Cancelled,
    /// The kernel ended it, with success: the completion queue was full, and the kernel queues
    /// completions beyond it only for operations that complete once. Earlier data was delivered in
    /// items, or is in [`Ended::remaining`]. Take completions, then submit the operation again.
    Stopped,
    /// The operation failed with this error.
    Failed(io::Error),
}

/// The output of a multishot operation.
///
/// What nobody took is dropped with it: buffers go back to their ring, and connections are closed.
///
/// # Completion
///
/// Made from the last completion, which says how the operation ended. Anything else that this
/// completion carries was delivered as an item.
///
/// A caller need not take every item before it redeems the ticket: a [`cancel`] and a wait do not
/// take them. They are in [`remaining`](Self::remaining), where they cannot be overlooked. It is
/// empty once [`next`] has returned `None`, and after [`reap`] has reported the end.
///
/// [`cancel`]: crate::Ring::cancel
/// [`next`]: crate::Ring::next
/// [`reap`]: crate::Ring::reap
///
/// # Cancellation
///
/// Ends with [`Ending::Cancelled`], unless the operation ended for another reason first.
#[derive(Debug)]
#[must_use = "most endings call for submitting the operation again"]
pub struct Ended<F, T> {
    /// How the operation ended.
    pub how: Ending,
    /// The file that the operation used.
    pub fd: F,
    /// The items that were not taken, oldest first.
    pub remaining: Vec<T>,
}

impl<F, T> Ended<F, T> {
    /// The ending `how`, with the completions that `done` still holds as items.
    pub(super) fn new(how: Ending, fd: F, mut done: Done, item: fn(Completion) -> T) -> Self {
        Self { how, fd, remaining: done.remaining().into_iter().map(item).collect() }
    }
}

impl Ending {
    /// The ending of an operation that moves bytes: a result of 0 is the end of the data.
    pub(crate) fn of(done: &Done) -> Self {
        match done.raw() {
            0 => Self::Eof,
            result => Self::of_number(result),
        }
    }

    /// The ending of an operation whose results are descriptors or file-table slots: 0 is a valid
    /// one.
    pub(crate) fn of_things(done: &Done) -> Self {
        Self::of_number(done.raw())
    }

    fn of_number(result: i32) -> Self {
        match result.wrapping_neg() {
            libc::ENOBUFS => Self::NoBuffers,
            libc::ECANCELED => Self::Cancelled,
            _ if result >= 0 => Self::Stopped,
            errno => Self::Failed(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The ending, unless it is [`Failed`](Self::Failed).
    ///
    /// # Errors
    ///
    /// The error that the operation failed with.
    pub fn ok(self) -> io::Result<Self> {
        match self {
            Self::Failed(error) => Err(error),
            other => Ok(other),
        }
    }

    /// Whether the operation can be submitted again at once to go on where it ended: only after
    /// [`Stopped`](Self::Stopped). A server goes on after more than that: after
    /// [`NoBuffers`](Self::NoBuffers) once a buffer is free, and on a datagram socket after
    /// [`Eof`](Self::Eof), which there is an empty datagram.
    pub fn wants_more(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl Completion {
    /// The error for a completion that carries no resource.
    pub(super) fn refusal(&self) -> io::Error {
        let text = "the kernel reported success, and named nothing that is ours";
        self.result().map_or_else(io::Error::from, |_| io::Error::other(text))
    }
}

#[cfg(test)]
mod tests {
    use annulus_sys::flags::CqeFlags;

    use super::*;
    use crate::lease::Resource;

    fn done(result: i32) -> Done {
        let (flags, resource) = (CqeFlags::empty(), Resource::Nothing);
        Done::new(result, flags, None, resource)
    }

    #[test]
    fn only_a_failure_is_an_error() {
        assert!(matches!(Ending::of(&done(0)).ok(), Ok(Ending::Eof)));
        assert!(matches!(Ending::of(&done(-libc::ECANCELED)).ok(), Ok(Ending::Cancelled)));
        let failed = Ending::of(&done(-libc::EIO)).ok();
        assert!(failed.is_err_and(|error| error.raw_os_error() == Some(libc::EIO)));
    }

    #[test]
    fn zero_ends_bytes_and_names_a_thing() {
        assert!(matches!(Ending::of(&done(0)), Ending::Eof));
        assert!(matches!(Ending::of_things(&done(0)), Ending::Stopped));
        assert!(Ending::of(&done(7)).wants_more());
        assert!(Ending::of_things(&done(7)).wants_more());
    }

    #[test]
    fn what_can_be_mended_is_told_from_what_failed() {
        for of in [Ending::of, Ending::of_things] {
            assert!(matches!(of(&done(-libc::ENOBUFS)), Ending::NoBuffers));
            assert!(matches!(of(&done(-libc::ECANCELED)), Ending::Cancelled));
            let Ending::Failed(error) = of(&done(-libc::EBADF)) else { panic!("not failed") };
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            assert!(matches!(of(&done(i32::MIN)), Ending::Failed(_)));
        }
    }
}
