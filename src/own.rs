//! The ring's own requests: cancels, and the poll on the eventfd that wakes it.
//!
//! ```text
//!   user_data   kind 1 │ an operation's word, and a bit   a cancel of it
//!                      │ another bit                      the poll on the mailbox's eventfd
//! ```
//!
//! Their completions are not the caller's, so a wait that counts completions must know whether any
//! is to come. One of the poll says only that messages may have come, any number of them: those are
//! looked for at every reaping, so that a caller who only reaps sees them too.
//!
//! However the poll ended, also when somebody cancelled everything, it is armed again.
//!
//! Leaves to others: pushing the entries (`ring`), and who sends (`sender`).

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;

use crate::inflight::{CANCEL, kind};
use crate::prep;
use crate::sender::Mailbox;
use crate::ticket::Rejection;

/// The word of the poll on the mailbox: no slot's.
const MAIL: u64 = 1 << 30;

/// Why nothing is drained on a ring that keeps watch: it would wait for the poll, and what comes
/// behind it too, the poll itself among it, so that messages woke nobody.
pub(crate) const NEVER_BEGINS: Rejection = Rejection::Invalid {
    reason: "what is drained would not begin here: a poll for messages is always in flight, since \
             the ring has had a sender (before Linux 6.13; later too where the ring has no \
             descriptor): submit it to a ring without a sender, or make a chain instead",
};

/// What the ring has to do for itself.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Cancels that have not completed.
    cancels: u32,
    /// What they must carry, on a ring that is restricted so.
    demanded: SqeFlags,
    /// The only owner of the mailbox, until the ring ends.
    mailbox: Option<Arc<Mailbox>>,
    /// What wakes the ring for messages that do not come as completions. Open until the ring is
    /// gone, since an entry may name it.
    eventfd: Option<Arc<OwnedFd>>,
    poll: Poll,
    /// Whether a cancel of it has not completed.
    ending: bool,
    /// Messages that were taken from the mailbox, all that there were.
    inbox: VecDeque<u64>,
    showing: Showing,
}

/// Whether messages are being shown that were taken from the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Showing {
    #[default]
    No,
    Yes,
}

/// Whether the mailbox is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Poll {
    #[default]
    Never,
    /// To be armed, for the first time or again.
    Due,
    Armed,
}

impl Own {
    /// `sqe` as the ring's own cancel of what is called `word`.
    pub(crate) fn tagged(&self, sqe: Sqe, word: u64) -> Sqe {
        Sqe { user_data: kind::OWN | CANCEL | word, flags: sqe.flags | self.demanded, ..sqe }
    }

    /// The ring takes no entry without these flags.
    pub(crate) fn demand(&mut self, flags: SqeFlags) {
        // The others would change what a cancel does.
        self.demanded = flags & (SqeFlags::ASYNC | SqeFlags::FIXED_FILE);
    }

    /// A cancel of `word` was pushed.
    pub(crate) fn pushed(&mut self, word: u64) {
        self.cancels += 1;
        self.ending |= word == kind::OWN | MAIL;
    }

    /// One of these requests has completed.
    pub(crate) fn completed(&mut self, word: u64, res: i32) {
        match word {
            // A restricted ring may not watch: messages are seen at the next reaping.
            MAIL if res == -libc::EACCES => self.poll = Poll::Never,
            MAIL if self.poll == Poll::Armed => {
                self.poll = if self.mailbox.is_some() { Poll::Due } else { Poll::Never };
            }
            MAIL => {}
            _ => {
                if word == CANCEL | MAIL {
                    self.ending = false;
                }
                // One more than was pushed is not ours.
                self.cancels = self.cancels.saturating_sub(1);
            }
        }
    }

    /// Whether every completion to come is the caller's, and every event comes as one.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.cancels == 0 && self.eventfd.is_none()
    }

    /// How many of these requests are in flight.
    pub(crate) fn count(&self) -> u32 {
        self.cancels + u32::from(self.poll == Poll::Armed)
    }

    /// Whether there is something to push.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.poll == Poll::Due
    }

    /// The entry that watches the mailbox.
    pub(crate) fn watch(&self) -> Option<Sqe> {
        let fd = self.eventfd.as_ref()?.as_raw_fd();
        let sqe = prep::poll_add(fd, libc::POLLIN.cast_unsigned().into());
        let flags = sqe.flags | self.demanded & SqeFlags::ASYNC;
        Some(Sqe { user_data: kind::OWN | MAIL, flags, ..sqe })
    }

    /// The entry was pushed.
    pub(crate) fn watching(&mut self) {
        self.poll = Poll::Armed;
    }

    /// The word that a cancel of the watch names.
    pub(crate) fn watch_word(&self) -> Option<u64> {
        (self.poll == Poll::Armed).then_some(kind::OWN | MAIL)
    }

    /// Whether this is the watch's word, and a cancel of it is on its way.
    pub(crate) fn is_ending(&self, word: u64) -> bool {
        self.ending && word == kind::OWN | MAIL
    }

    pub(crate) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    /// Whether somebody can still send, or a message is under way. Where not, all that was sent is
    /// seen from here on.
    pub(crate) fn has_senders(&self) -> bool {
        let Some(mailbox) = &self.mailbox else { return false };
        let some = Arc::weak_count(mailbox) > 0;
        if !some {
            // To count orders nothing. To make one more waits for what the last one did.
            drop(Arc::downgrade(mailbox));
        }
        some
    }

    /// Whether a poll of ours is in flight, now or soon: as good as always.
    pub(crate) fn keeps_watch(&self) -> bool {
        self.poll != Poll::Never
    }

    /// Takes a mailbox, and watches it from now on if it is to be watched.
    pub(crate) fn open(&mut self, mailbox: Arc<Mailbox>) {
        self.eventfd = mailbox.eventfd().cloned();
        self.poll = if self.eventfd.is_some() { Poll::Due } else { Poll::Never };
        self.mailbox = Some(mailbox);
    }

    /// No more messages.
    pub(crate) fn close(&mut self) {
        self.mailbox = None;
        if self.poll == Poll::Due {
            self.poll = Poll::Never;
        }
    }

    /// Whether the poll on the eventfd is in flight, after the mailbox was closed.
    pub(crate) fn is_watched(&self) -> bool {
        self.poll == Poll::Armed
    }

    /// Leaks the eventfd if the poll on it did not end: its number must not become another file's
    /// while an entry may name it.
    pub(crate) fn leave_watched(&mut self) {
        if self.poll == Poll::Armed {
            std::mem::forget(self.eventfd.take());
        }
    }

    /// Whether messages may have come that are not completions.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.eventfd.is_some()
    }

    /// The oldest message that is not a completion, of those that were there when this was called
    /// first, or first after it said `None`: so that senders who never pause are not served for
    /// ever.
    pub(crate) fn next_mail(&mut self) -> Option<u64> {
        if !self.has_mail() {
            return None;
        }
        if self.showing == Showing::No
            && let Some(mailbox) = &self.mailbox
        {
            mailbox.empty_into(&mut self.inbox);
        }
        let message = self.inbox.pop_front();
        self.showing = if message.is_some() { Showing::Yes } else { Showing::No };
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_carries_what_is_demanded_of_it_and_does_no_harm() {
        let mut own = Own::default();
        assert_eq!(own.tagged(prep::cancel_word(1), 1).flags, SqeFlags::empty());
        own.demand(SqeFlags::all());
        let cancel = own.tagged(prep::cancel_word(1), 1);
        // With the others it would wait for what it is to end, or hold up what comes after it.
        assert_eq!(cancel.flags, SqeFlags::ASYNC | SqeFlags::FIXED_FILE);
        assert_eq!((cancel.addr, cancel.user_data), (1, kind::OWN | CANCEL | 1));
    }

    #[test]
    fn a_watch_that_is_refused_is_not_armed_again() {
        let mut own = Own::default();
        own.open(Arc::new(Mailbox::queued()));
        own.demand(SqeFlags::all());
        assert_eq!(own.watch().map(|sqe| sqe.flags), Some(SqeFlags::ASYNC));
        for (res, arms_again) in [(1, true), (-libc::ECANCELED, true), (-libc::EACCES, false)] {
            own.watching();
            own.completed(MAIL, res);
            assert_eq!(own.has_work(), arms_again, "{res}");
        }
    }
}
