//! Which steps are drained, or wait for a notification: combinations that must not meet in a chain.
//!
//! | in one chain | what the kernel does | here |
//! |---|---|---|
//! | `drained`, then others | the whole chain waits for earlier operations | accepted |
//! | a later step `drained` | the whole chain waits, and so does the next entry after it | refused |
//! | `drained`, and a zero-copy send | it waits for the send's notification, forever | refused |
//!
//! All of this follows from types, so it is decided at compile time.

use crate::op::{Completions, Op};

/// What the steps of a chain wait for.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// The first step is drained: it waits for everything submitted before it.
    first: bool,
    /// A later step is drained.
    later: bool,
    /// A step ends with a notification.
    notified: bool,
}

impl Waits {
    pub(super) const fn of<O: Op>() -> Self {
        Self {
            first: O::DRAINS,
            later: false,
            notified: matches!(O::COMPLETIONS, Completions::WithNotification),
        }
    }

    /// Of a sequence: `next` after these steps.
    pub(super) const fn then(self, next: Self) -> Self {
        Self {
            first: self.first,
            later: self.later || next.first || next.later,
            notified: self.notified || next.notified,
        }
    }

    /// Whether any step is drained.
    pub(crate) const fn drains(self) -> bool {
        self.first || self.later
    }

    pub(super) const fn notifies(self) -> bool {
        self.notified
    }

    /// Fails to compile if the chain has a refused combination.
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

/// Such a step would do all that its entry says, and the chain would go on without the rest.
pub(super) const TOO_LARGE: &str = "a step of this chain is larger than one operation: \
                                    2147479552 bytes, in 1024 buffers; split it into several \
                                    steps";

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
