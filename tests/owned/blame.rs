//! Whose panic may end a call, and what a user value does that nobody has set.
//!
//! | call | may be ended by a panic of |
//! |---|---|
//! | `try_take`, `wait` | what the operation of that ticket owns, but not by its user value |
//! | `next` | nothing: no operation leaves its slot |
//! | `reap`, taking outputs | what is shown, not what was given up |
//! | submitting | the operation, or the user value that was in its slot |

use std::cell::Cell;
use std::panic::panic_any;

use super::Profile;
use super::ledger::{Claim, Of, OpId};
use super::program::Program;
use super::world::{OnPurpose, World};

/// The value that has panicked last.
#[derive(Debug, Clone, Copy)]
pub struct Tripped {
    pub op: OpId,
    pub of: Of,
}

thread_local! {
    /// After how many more values without an operation one panics when it is dropped.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A user value is dropped that nobody has set.
pub fn drop_unset() {
    if std::thread::panicking() {
        return;
    }
    let left = LEFT.get();
    LEFT.set(left.and_then(|left| left.checked_sub(1)));
    if left == Some(0) {
        panic_any(OnPurpose);
    }
}

impl World {
    /// The call that redeems or awaits these was ended by a panic.
    pub fn blame_one_of(&self, ids: &[OpId]) {
        if let Some(Tripped { op, of }) = self.tripped()
            && !(ids.contains(&op) && of == Of::Kernel)
        {
            self.fault(format!("OP1: {of:?}'s value of {op} has ended a call about {ids:?}"));
        }
    }

    /// The call that shows events was ended by a panic.
    pub fn blame_what_is_shown(&self) {
        if let Some(Tripped { op, .. }) = self.tripped()
            && self.claim_of(op) == Claim::Detached
        {
            self.fault(format!("OP1: {op} was given up, and has ended a call that shows others"));
        }
    }
}

impl Program {
    /// Lets the user value panic that is in a slot, after so many others. Returns whether it will.
    pub fn arm_unset(&mut self, after: u32) -> bool {
        let arms = self.profile == Profile::Panicking && self.chance.one_in(6);
        LEFT.set(arms.then_some(after));
        arms
    }
}

/// No such value panics any more. Whether one has, if one was to.
pub fn disarm_unset(was_armed: bool) -> bool {
    was_armed && LEFT.take().is_none()
}
