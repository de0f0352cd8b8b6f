//! Sockets: connect, accept, send and receive.
//!
//! | module | |
//! |---|---|
//! | [`kind`] | what a new socket is for |
//! | [`net`], [`accept`] | create, bind, listen, connect, shut down; accept |
//! | [`stream`], [`gather`], [`mod@flags`] | send and receive |
//! | [`multishot`] | accept and receive many times |
//! | [`mod@bundle`], [`send_bundle`] | several buffers with one completion |
//! | [`zerocopy`], [`zc_fixed`] | send without a copy |
//! | [`hint`] | whether more data or connections wait |
//! | [`command`], [`option`](mod@option) | options, addresses, byte counts |
//!
//! Leaves to others: messages with addresses and control data (`messages`).

pub mod accept;
pub mod bundle;
pub mod command;
pub mod flags;
pub mod gather;
pub mod hint;
pub mod kind;
pub mod multishot;
pub mod net;
pub mod option;
pub mod send_bundle;
pub mod stream;
pub mod zc_fixed;
pub mod zerocopy;
