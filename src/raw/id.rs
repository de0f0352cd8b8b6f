//! Ring numbers: they say which ring something is registered with, or claimed from.
//!
//! Leaves to others: assigning the numbers (`ring`).

use std::fmt;
use std::num::NonZero;

/// Names a ring within this process. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingId(pub(crate) NonZero<u32>);

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring {}", self.0)
    }
}
