//! How an operation that completes many times came to its end.
//!
//! | ending | because | to go on |
//! |---|---|---|
//! | [`Eof`](Ending::Eof) | the other side will send no more | there is nothing to go on with |
//! | [`NoBuffers`](Ending::NoBuffers) | every buffer of the ring is leased | drop leases, submit it anew |
//! | [`Cancelled`](Ending::Cancelled) | it was cancelled | submit it anew, if you want it again |
//! | [`Stopped`](Ending::Stopped) | the kernel would not queue more completions | submit it anew |
//! | [`Failed`](Ending::Failed) | the error that comes with it | as the error says |
//!
//! Whatever came before the end came as a shot, and so does what the last completion brings. Shots
//! that nobody took before the ticket was redeemed come with the end, in [`Ended::left`]: so a
//! cancel, and a wait for the end, lose nothing.
//!
//! Leaves to others: the shots.

use std::io;

use super::{Done, Shot};

/// How an operation that completes many times came to its end, and so what to do next.
#[derive(Debug)]
#[must_use = "most endings want the operation submitted anew"]
#[non_exhaustive]
pub enum Ending {
    /// The end of the file, or of what the peer sends. Do not submit it anew: it would end at once.
    /// But a datagram without bytes looks the same, and is no end; nor is it for a socket of those.
    Eof,
    /// There is no buffer to put data into: all of the ring's are in leases (`ENOBUFS`). Data that
    /// has come waits. Drop leases, then submit the operation anew; if that happens often, make the
    /// ring of buffers larger.
    NoBuffers,
    /// It was cancelled. What had come before is in shots, or in [`Ended::left`]; the rest waits.
    /// Submit it anew if you want it to go on.
    Cancelled,
    /// The kernel made an end of it, with success: the completion ring was full, and completions
    /// beyond it are only queued for operations that complete once. What had come is in shots, or
    /// in [`Ended::left`]. Take completions, and submit the operation anew.
    Stopped,
    /// Something went wrong.
    Failed(io::Error),
}

/// What an operation that completes many times ends with.
///
/// # Completion
///
/// The last one, which says how it ended. What it brings beside that was a shot.
///
/// Not every shot need have been taken when the ticket is redeemed: a [`cancel`] and a wait do not
/// look for them. Those are in `left`, where they cannot be overlooked. None is there once
/// [`next`] has said `None`, nor after [`reap`] has shown the end.
///
/// [`cancel`]: crate::Ring::cancel
/// [`next`]: crate::Ring::next
/// [`reap`]: crate::Ring::reap
///
/// # Cancellation
///
/// Ends with [`Ending::Cancelled`], unless it was about to end some other way.
#[derive(Debug)]
#[must_use = "most endings want the operation submitted anew"]
pub struct Ended<F, T> {
    /// How.
    pub how: Ending,
    /// The file that it was about.
    pub fd: F,
    /// What it had brought, and nobody took, oldest first.
    pub left: Vec<T>,
}

impl<F, T> Ended<F, T> {
    /// `how` it ended, and what is left of what it brought, as items.
    pub(super) fn new(how: Ending, fd: F, mut done: Done, item: fn(Shot) -> T) -> Self {
        Self { how, fd, left: done.left().into_iter().map(item).collect() }
    }
}

impl Ending {
    /// Of an operation that moves bytes: a result of 0 is the end of them.
    pub(crate) fn of(done: &Done) -> Self {
        match done.raw() {
            0 => Self::Eof,
            result => Self::of_number(result),
        }
    }

    /// Of an operation that brings things (descriptors, places in a table): 0 names one of them.
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

    /// Whether submitting the operation anew, at once, goes on where it ended.
    pub fn wants_more(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl Shot {
    /// Why it brought nothing.
    pub(super) fn refusal(&self) -> io::Error {
        let text = "the kernel reported success, and named nothing that is ours";
        self.result().map_or_else(io::Error::from, |_| io::Error::other(text))
    }
}

#[cfg(test)]
mod tests {
    use annulus_sys::flags::CqeFlags;

    use super::*;
    use crate::lease::Brought;

    fn done(result: i32) -> Done {
        let (flags, brought) = (CqeFlags::empty(), Brought::Nothing);
        Done::new(result, flags, None, brought)
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
