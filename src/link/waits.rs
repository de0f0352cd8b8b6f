//! Which steps wait for all before them, or for a notification: what must not meet in a chain.
//!
//! | in one chain | what the kernel makes of it | here |
//! |---|---|---|
//! | `drained`, then others | all of the chain waits for what came before | as it is |
//! | a later step `drained` | so it does, and the next entry after the chain waits too | refused |
//! | `drained`, and a zero-copy send | it waits for that one's notification, for ever | refused |
//!
//! All of it is known of types, and so decided when the program is compiled.

use crate::op::{Op, Shots};

/// What the steps of a chain wait for.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// The first step waits for all that was submitted before it.
    first: bool,
    /// A later one does.
    later: bool,
    /// A step ends with a notification.
    notified: bool,
}

impl Waits {
    pub(super) const fn of<O: Op>() -> Self {
        Self { first: O::DRAINS, later: false, notified: matches!(O::SHOTS, Shots::Notified) }
    }

    /// Of steps in a row, `next` behind these.
    pub(super) const fn then(self, next: Self) -> Self {
        Self {
            first: self.first,
            later: self.later || next.first || next.later,
            notified: self.notified || next.notified,
        }
    }

    /// Whether any step waits for all before it.
    pub(crate) const fn drains(self) -> bool {
        self.first || self.later
    }

    pub(super) const fn notifies(self) -> bool {
        self.notified
    }

    /// Does not compile where steps must not meet.
    pub(super) const fn check(self) {
        assert!(
            !(self.drains() && self.notified),
            "a chain with a zero-copy send is not drained: it would wait for its own notification"
        );
        assert!(
            !self.later,
            "only the first step of a chain can be drained: all the chain waits then"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Forced, Hinted, Nop};

    #[test]
    fn whatever_is_around_it_a_drained_operation_is_known() {
        let _ = (Nop.drained().forced(), Hinted::new(Nop.drained()));
        assert!(!Waits::of::<Nop>().drains());
        assert!(Waits::of::<Forced<crate::op::Drained<Nop>>>().drains());
        assert!(Waits::of::<Hinted<crate::op::Drained<Nop>>>().drains());
        assert!(Waits::of::<crate::op::ActingAs<crate::op::Drained<Nop>>>().drains());
    }
}
