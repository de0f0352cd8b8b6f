//! What a round consists of: acts that go on side by side, on the rings of a hall.
//!
//! ```text
//!   hall: desks (rings) ◄── step ── flow │ door │ record │ clocks │ post
//!           └─ turn: submit, wait, take ──► the handlers of what has ended
//! ```

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::chance::Chance;
use super::desk::Desk;
use super::tally::Tally;
use super::trouble::Check;

/// The rings of a round.
pub struct Hall {
    pub desks: Vec<Desk>,
    pub chance: Chance,
    pub tally: Tally,
    /// Nothing is closed by an operation, which a forgotten ring might have, or not.
    pub closes_plainly: bool,
    /// Files that operations may still have when the rings go.
    pub outliving: Vec<Rc<OwnedFd>>,
}

/// Something that uses the rings until it is over.
pub trait Act {
    /// Submits what it can.
    fn step(&mut self, hall: &mut Hall) -> Check;
    /// Whether it needs no further step.
    fn is_over(&self) -> bool;
    /// Accounts for everything: all of it, if the act came to its end `tidily`.
    fn end(self: Box<Self>, hall: &mut Hall, tidily: bool) -> Check;
    /// What it is.
    fn name(&self) -> &'static str;
}

impl Hall {
    /// A file that must be closed when the rings are gone.
    pub fn outlive(&mut self, file: Rc<OwnedFd>) {
        self.outliving.push(file);
    }
}
