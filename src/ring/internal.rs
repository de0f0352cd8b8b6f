//! Internal requests of the ring: cancels, and the poll on the eventfd that wakes it.
//!
//! ```text
//!   user_data   kind 1 │ an operation's `user_data`, and a bit   a cancel of it
//!                      │ another bit                             the poll on the mailbox's eventfd
//! ```
//!
//! Their completions are not the caller's, so a wait that counts completions must know whether any
//! of them are to come. A completion of the poll only says that messages may have come, any number
//! of them. Messages are looked for at every reaping, so that a caller who only reaps sees them
//! too.
//!
//! The poll is armed again however it ended, even if the caller cancelled everything.
//!
//! Leaves to others: pushing the entries (`ring`), and sending (`sender`).

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;

use crate::lease::mailbox::{MAIL, Mailbox};
use crate::lease::ticket::Rejection;
use crate::prep;
use crate::ring::slab::{CANCEL, NOBODY, kind, low};

/// Why a ring with an armed poll accepts no drained operation. A drained operation would wait for
/// the poll, and later entries would wait behind it, including the poll when it is armed again. So
/// messages would no longer wake the ring.
pub(crate) const NEVER_BEGINS: Rejection = Rejection::Invalid {
    reason: "a drained operation would not begin here: a poll for messages is always in flight, \
             because the ring has had a sender (before Linux 6.13; later too if the ring has no \
             descriptor): submit it to a ring without a sender, or make a chain instead",
};

/// The internal requests of a ring.
#[derive(Debug, Default)]
pub(crate) struct Internal {
    /// How many cancels have not completed.
    cancels: u32,
    /// The entry flags that a restricted ring requires.
    demanded: SqeFlags,
    /// The only strong reference to the mailbox, until the ring ends.
    mailbox: Option<Arc<Mailbox>>,
    /// The eventfd that wakes the ring for messages that do not come as completions. It stays open
    /// until the ring is gone, because an entry may name it.
    eventfd: Option<Arc<OwnedFd>>,
    poll: Poll,
    /// Whether a cancel of the poll is on its way.
    ending: bool,
    /// Messages that were taken from the mailbox.
    inbox: VecDeque<u64>,
    showing: Showing,
    /// Whether the raw ring was ever lent.
    lent: bool,
    /// Whether the last entry that was to end the effect of a drain was refused.
    refused: bool,
    /// How often waits have pushed a NOP since the last drain took effect.
    looks: u32,
    /// How many NOPs were named.
    nops: u32,
    /// Whether the kernel counts requests, and not completions, to know when a drained one begins.
    /// Asked when it first matters.
    pub(super) counts_requests: Option<bool>,
    /// Whether the kernel forgets no poll that is updated, once it was asked.
    pub(super) keeps_polls: Option<bool>,
}

/// Whether messages that were taken from the mailbox are being shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Showing {
    #[default]
    No,
    Yes,
}

/// The state of the poll on the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Poll {
    #[default]
    Never,
    /// To be armed, for the first time or again.
    Due,
    Armed,
}

impl Internal {
    /// `sqe`, tagged as the ring's own cancel of the operation with this `user_data`.
    pub(crate) fn tagged(&self, sqe: Sqe, user_data: u64) -> Sqe {
        Sqe {
            user_data: kind::INTERNAL | CANCEL | user_data,
            flags: sqe.flags | self.demanded,
            ..sqe
        }
    }

    /// A name for a NOP, which none in flight has (OP2).
    pub(crate) fn name_nop(&mut self) -> u64 {
        self.nops = self.nops.wrapping_add(1);
        NOBODY | (u64::from(self.nops) << 32 & !kind::MASK)
    }

    /// The restricted ring accepts no entry without these flags.
    pub(crate) fn demand(&mut self, flags: SqeFlags) {
        // Other flags would change what a cancel does.
        self.demanded = flags & (SqeFlags::ASYNC | SqeFlags::FIXED_FILE);
    }

    /// A cancel of `user_data` was pushed.
    pub(crate) fn pushed(&mut self, user_data: u64) {
        self.cancels += 1;
        self.ending |= user_data == kind::INTERNAL | MAIL;
    }

    /// An internal request has completed.
    pub(crate) fn completed(&mut self, user_data: u64, res: i32) {
        match user_data {
            // A restricted ring may not poll: messages are seen at the next reaping.
            MAIL if res == -libc::EACCES => self.poll = Poll::Never,
            MAIL if self.poll == Poll::Armed => {
                self.poll = if self.mailbox.is_some() { Poll::Due } else { Poll::Never };
            }
            MAIL => {}
            _ => {
                if user_data == CANCEL | MAIL {
                    self.ending = false;
                }
                if u64::from(low(user_data)) == CANCEL | NOBODY {
                    self.refused = res < 0;
                }
                // Saturating, because a forged completion may be one too many.
                self.cancels = self.cancels.saturating_sub(1);
            }
        }
    }

    /// Whether the last entry that was to end the effect of a drain was refused, as one that is no
    /// request at all.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused
    }

    /// How long a wait lasts before it makes the kernel look at what it holds back: `first`, and
    /// that much longer each time, up to `most`.
    pub(crate) fn look(&self, first: Duration, most: Duration) -> Duration {
        first.saturating_mul(self.looks + 1).min(most)
    }

    /// A wait made the kernel look.
    pub(crate) fn looked(&mut self) {
        self.looks = self.looks.saturating_add(1).min(1 << 10);
    }

    /// Nothing is held back any more.
    pub(crate) fn looks_no_more(&mut self) {
        self.looks = 0;
    }

    /// The raw ring was lent: entries of the caller's may be in flight, which no slot knows.
    pub(crate) fn lend(&mut self) {
        self.lent = true;
    }

    /// Whether the raw ring was ever lent.
    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Whether every completion to come is the caller's, and every message comes as a completion.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.cancels == 0 && self.eventfd.is_none()
    }

    /// Whether internal requests other than the poll are in flight.
    pub(crate) fn has_cancels(&self) -> bool {
        self.cancels > 0
    }

    /// How many internal requests are in flight.
    pub(crate) fn count(&self) -> u32 {
        self.cancels + u32::from(self.poll == Poll::Armed)
    }

    /// Whether an entry is due to be pushed.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.poll == Poll::Due
    }

    /// The entry that polls the mailbox.
    pub(crate) fn watch(&self) -> Option<Sqe> {
        let fd = self.eventfd.as_ref()?.as_raw_fd();
        let sqe = prep::poll_add(fd, libc::POLLIN.cast_unsigned().into());
        let flags = sqe.flags | self.demanded & SqeFlags::ASYNC;
        Some(Sqe { user_data: kind::INTERNAL | MAIL, flags, ..sqe })
    }

    /// The poll's entry was pushed.
    pub(crate) fn watching(&mut self) {
        self.poll = Poll::Armed;
    }

    /// The `user_data` of the poll, for a cancel.
    pub(crate) fn watch_user_data(&self) -> Option<u64> {
        (self.poll == Poll::Armed).then_some(kind::INTERNAL | MAIL)
    }

    /// Whether this is the poll's `user_data`, and a cancel of it is on its way.
    pub(crate) fn is_ending(&self, user_data: u64) -> bool {
        self.ending && user_data == kind::INTERNAL | MAIL
    }

    pub(crate) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    /// Whether a sender exists, or a message is on its way. If not, every message that was ever
    /// sent is visible from here on.
    pub(crate) fn has_senders(&self) -> bool {
        let Some(mailbox) = &self.mailbox else { return false };
        let some = Arc::weak_count(mailbox) > 0;
        if !some {
            // Counting orders no memory accesses; `downgrade` does, after the last sender's drop.
            drop(Arc::downgrade(mailbox));
        }
        some
    }

    /// Whether a poll is in flight now, or will be soon: from then on it practically always is.
    pub(crate) fn keeps_watch(&self) -> bool {
        self.poll != Poll::Never
    }

    /// Takes a mailbox, and polls it from now on if its messages do not come as completions.
    pub(crate) fn open(&mut self, mailbox: Arc<Mailbox>) {
        self.eventfd = mailbox.eventfd().cloned();
        self.poll = if self.eventfd.is_some() { Poll::Due } else { Poll::Never };
        self.mailbox = Some(mailbox);
    }

    /// Closes the mailbox: no more messages come.
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

    /// The oldest message that is not a completion. One round serves only the messages that were
    /// there when it began, and ends with `None`. So senders that never pause cannot keep a round
    /// going forever.
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
        let mut own = Internal::default();
        assert_eq!(own.tagged(prep::cancel_user_data(1), 1).flags, SqeFlags::empty());
        own.demand(SqeFlags::all());
        let cancel = own.tagged(prep::cancel_user_data(1), 1);
        // With the other flags it would wait for its own target, or hold up later entries.
        assert_eq!(cancel.flags, SqeFlags::ASYNC | SqeFlags::FIXED_FILE);
        assert_eq!((cancel.addr, cancel.user_data), (1, kind::INTERNAL | CANCEL | 1));
    }

    #[test]
    fn a_watch_that_is_refused_is_not_armed_again() {
        let mut own = Internal::default();
        own.open(Arc::new(Mailbox::queued()));
        own.demand(SqeFlags::all());
        assert_eq!(own.watch().map(|sqe| sqe.flags), Some(SqeFlags::ASYNC));
        for (res, arms_again) in [(1, true), (-libc::ECANCELED, true), (-libc::EACCES, false)] {
            own.watching();
            own.completed(MAIL, res);
            assert_eq!(own.has_work(), arms_again, "{res}");
        }
    }

    #[test]
    fn a_nop_has_a_name_of_its_own_and_its_kind_stays_clear() {
        let mut own = Internal::default();
        let names = [own.name_nop(), own.name_nop()];
        assert_eq!(names, [NOBODY | 1 << 32, NOBODY | 2 << 32]);
        own.nops = 1 << 30;
        assert_eq!(own.name_nop() & kind::MASK, 0, "the number is longer than its place");
    }

    #[test]
    fn only_the_end_of_its_own_cancel_ends_the_ending_of_the_poll() {
        let (mut own, poll) = (Internal::default(), kind::INTERNAL | MAIL);
        own.pushed(5);
        assert!(own.has_cancels() && !own.is_ending(5) && !own.is_ending(poll));
        own.pushed(poll);
        own.pushed(6);
        assert!(own.is_ending(poll) && !own.is_ending(5));
        own.completed(CANCEL | 5, 0);
        assert!(own.is_ending(poll), "another cancel");
        own.completed(CANCEL | MAIL, 0);
        assert!(!own.is_ending(poll) && own.has_cancels());
        own.completed(CANCEL | 6, 0);
        assert!(!own.has_cancels());
    }

    #[test]
    fn only_a_nop_of_ours_says_whether_the_last_was_refused() {
        let mut own = Internal::default();
        for (res, refused) in [(-libc::EACCES, true), (0, false), (-libc::EACCES, true)] {
            let nop = own.name_nop();
            own.pushed(nop);
            own.completed(CANCEL | nop, res);
            assert_eq!(own.was_refused(), refused, "{res}");
        }
        own.pushed(5);
        own.completed(CANCEL | 5, 0);
        assert!(own.was_refused(), "that was a cancel of an operation");
    }

    /// A message to a ring without a poll comes as a wake-up with the poll's name.
    #[test]
    fn a_wake_up_is_the_end_of_no_cancel_and_arms_no_poll() {
        let mut own = Internal::default();
        own.open(Arc::new(Mailbox::queued()));
        own.watching();
        own.completed(MAIL, -libc::EACCES); // From here on there is no poll.
        own.pushed(5);
        own.completed(MAIL, 0);
        assert!(own.has_cancels() && !own.has_work() && !own.keeps_watch());
    }

    /// ```text
    ///   open ──► due ──► armed ──► (closed: stays armed) ──► ends, and is not armed again
    ///             └──► (closed) never armed
    /// ```
    #[test]
    fn a_closed_mailbox_is_polled_until_its_poll_ends_and_not_again() {
        let mut own = Internal::default();
        own.open(Arc::new(Mailbox::queued()));
        assert_eq!(own.watch().map(|sqe| sqe.user_data), Some(kind::INTERNAL | MAIL));
        assert!(own.keeps_watch() && !own.is_watched() && own.watch_user_data().is_none());
        own.watching();
        assert_eq!(own.watch_user_data(), Some(kind::INTERNAL | MAIL));
        assert!(own.is_watched());
        own.close();
        assert!(own.is_watched(), "its entry is with the kernel");
        own.completed(MAIL, -libc::ECANCELED);
        assert!(!own.has_work() && !own.is_watched() && own.mailbox().is_none());
        own.open(Arc::new(Mailbox::queued()));
        own.close();
        assert!(!own.has_work() && !own.keeps_watch(), "it was never pushed");
    }

    #[test]
    fn an_eventfd_is_leaked_only_while_the_poll_on_it_is_armed() {
        for armed in [false, true] {
            let mut own = Internal::default();
            own.open(Arc::new(Mailbox::queued()));
            let eventfd = Arc::clone(own.eventfd.as_ref().expect("it is woken by one"));
            if armed {
                own.watching();
            }
            own.leave_watched();
            own.close();
            drop(own);
            assert_eq!(Arc::strong_count(&eventfd), 1 + usize::from(armed));
        }
    }

    #[test]
    fn each_look_comes_later_than_the_one_before_until_nothing_is_held_back() {
        let (mut own, ms) = (Internal::default(), Duration::from_millis);
        assert_eq!(own.look(ms(100), ms(1000)), ms(100));
        own.looked();
        own.looked();
        assert_eq!(own.look(ms(100), ms(1000)), ms(300));
        assert_eq!(own.look(ms(100), ms(200)), ms(200), "it has a limit");
        own.looks_no_more();
        assert_eq!(own.look(ms(100), ms(1000)), ms(100));
    }

    #[test]
    fn what_the_ring_was_lent_for_is_remembered() {
        let mut own = Internal::default();
        assert!(!own.is_lent());
        own.lend();
        assert!(own.is_lent());
    }
}
