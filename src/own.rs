//! The ring's own requests: cancels, and the poll on the eventfd that wakes it.
//!
//! ```text
//!   user_data   kind 1 │ 0  a cancel: nobody waits for what it reports
//!                      │ 1  the poll on the mailbox's eventfd
//! ```
//!
//! Their completions are not the caller's, so a wait that counts completions must know whether any
//! is to come.
//!
//! Leaves to others: pushing the entries (`ring`), and who sends (`sender`).

use std::sync::Arc;

use annulus_sys::abi::Sqe;

use crate::inflight::kind;
use crate::sender::Mailbox;

/// The word of a cancel.
const CANCEL: u64 = 0;
/// The word of the poll on the mailbox.
const MAIL: u64 = 1;

/// What the ring has to do for itself.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Cancels that have not completed.
    cancels: u32,
    mailbox: Option<Arc<Mailbox>>,
    poll: Poll,
    /// The mailbox may hold messages.
    mail: bool,
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
    /// `sqe` as a cancel of the ring's own.
    pub(crate) fn tagged(sqe: Sqe) -> Sqe {
        Sqe { user_data: kind::OWN | CANCEL, ..sqe }
    }

    /// A cancel was pushed.
    pub(crate) fn pushed(&mut self) {
        self.cancels += 1;
    }

    /// One of these requests has completed.
    pub(crate) fn completed(&mut self, word: u64) {
        match word {
            MAIL if self.poll == Poll::Armed => {
                self.poll = Poll::Due;
                self.mail = true;
            }
            // One more than was pushed is not ours.
            _ => self.cancels = self.cancels.saturating_sub(1),
        }
    }

    /// Whether no completion is to come that is not the caller's.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.cancels == 0
    }

    /// Whether there is something to push.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.poll == Poll::Due
    }

    /// The entry that watches the mailbox.
    pub(crate) fn watch(&self) -> Option<Sqe> {
        let mailbox = self.mailbox.as_ref()?;
        Some(Sqe { user_data: kind::OWN | MAIL, ..mailbox.poll() })
    }

    /// The entry was pushed.
    pub(crate) fn watching(&mut self) {
        self.poll = Poll::Armed;
    }

    /// The word that a cancel of the watch names.
    pub(crate) fn watch_word(&self) -> Option<u64> {
        (self.poll == Poll::Armed).then_some(kind::OWN | MAIL)
    }

    pub(crate) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    /// Takes a mailbox, which is to be watched from now on.
    pub(crate) fn open(&mut self, mailbox: Arc<Mailbox>) {
        self.mailbox = Some(mailbox);
        self.poll = Poll::Due;
    }

    /// No more messages.
    pub(crate) fn close(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.close();
        }
        self.poll = match self.poll {
            Poll::Armed => Poll::Armed,
            Poll::Never | Poll::Due => Poll::Never,
        };
    }

    /// Whether messages may have come.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.mail
    }

    /// The oldest message.
    pub(crate) fn next_mail(&mut self) -> Option<u64> {
        if !self.mail {
            return None;
        }
        let message = self.mailbox.as_ref().and_then(|mailbox| mailbox.take());
        self.mail = message.is_some();
        message
    }
}
