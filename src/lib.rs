//! A safe binding to Linux io_uring by raw syscalls, without liburing.
//!
//! ```text
//!   you ──►  Ring: push, submit, wait, pop            this crate: owns the ring's life
//!            ──────────────────────────────────
//!            SubmissionRing, CompletionRing           annulus-sys: the protocol
//!            shared words, three syscalls                          and the ABI
//!   ───────────────────────────────────────────
//!            the kernel
//! ```
//!
//! | to | see |
//! |---|---|
//! | make a ring | [`Setup`] |
//! | use it | [`Ring`] |
//! | know what this kernel can do | [`Capabilities`] |
//! | submit on one thread and reap on another | [`Setup::plain`], then [`Ring::split`] |
//! | read the ring code | [`sys`], from its top |
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::sys::abi::Sqe;
//! use annulus::sys::opcode::Opcode;
//!
//! let mut ring = Setup::new(8).build_raw()?;
//! for user_data in [1, 2, 3] {
//!     let nop = Sqe { opcode: Opcode::NOP, user_data, ..Sqe::ZERO };
//!     // SAFETY: a NOP points to nothing (OP1).
//!     unsafe { ring.push(nop)? };
//! }
//! ring.submit_and_wait(3)?;
//! let mut seen = Vec::new();
//! ring.drain(|cqe| seen.push(cqe.user_data))?;
//! assert_eq!(seen, [1, 2, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(unreachable_pub)]
#![allow(
    clippy::unnecessary_safety_comment,
    reason = "clippy takes the one in the example for the first item's"
)]

#[doc(no_inline)]
pub use annulus_sys as sys;

pub mod capabilities;
pub mod chain;
pub mod denied;
mod disabled;
mod enter;
pub mod error;
mod forecast;
pub mod inspect;
mod notify;
mod reap;
mod register;
mod backlog;
pub mod buf;
mod end;
pub mod event;
mod inflight;
pub mod lease;
pub mod op;
mod own;
pub mod prep;
pub mod raw;
pub mod ring;
pub mod scope;
pub mod sender;
pub mod ticket;
pub mod setup;
pub mod split;
mod wait;

pub use capabilities::Capabilities;
pub use denied::SetupError;
pub use disabled::DisabledRing;
pub use error::{EnterCause, EnterError, Woken};
pub use inspect::Stats;
pub use end::Undrained;
pub use event::Event;
pub use raw::RawRing;
pub use ring::{Next, Ring};
pub use scope::{Scope, ScopedTicket};
pub use sender::{RingSender, SendError};
pub use ticket::{Rejected, Rejection, Ticket, Unfinished};
pub use setup::Setup;

/// The README's example, so that it is compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
