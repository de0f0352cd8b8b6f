//! Operations about the ring itself: nops, cancels, messages between rings, credentials.
//!
//! | module | |
//! |---|---|
//! | [`nop`] | do nothing |
//! | [`cancel`] | cancel other operations |
//! | [`msg`], [`pass`] | send a message or a file to another ring |
//! | [`priority`] | with which priority and credentials an operation runs |
//!
//! Leaves to others: calls that register resources (`raw::register`).

pub mod cancel;
pub mod msg;
pub mod nop;
pub mod pass;
pub mod priority;
