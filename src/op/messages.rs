//! Messages with addresses and control data.
//!
//! | module | |
//! |---|---|
//! | [`message`] | send or receive one message |
//! | [`recv_multi`] | receive many messages with one operation |
//!
//! Leaves to others: addresses and control data themselves (`buf`).

pub(in crate::op) mod length;
pub mod message;
pub mod recv_multi;
