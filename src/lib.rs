//! A safe binding to Linux io_uring by raw syscalls, without liburing.
//!
//! ```text
//!   you ──►  Ring: submit, wait, reap                 owns what the kernel has: no unsafe
//!            ──────────────────────────────────
//!            RawRing: push, submit, wait, pop         when to enter the kernel, and why
//!            ──────────────────────────────────
//!            annulus-sys: SubmissionRing,             the protocol and the ABI
//!            CompletionRing, three syscalls
//!   ───────────────────────────────────────────
//!            the kernel
//! ```
//!
//! An operation is a value that owns its buffer and its file. The ring takes it, keeps it where it
//! is until the kernel is done, and gives everything back. Nothing that safe code does in between
//! (drop, forget, panic, cancel, leave the thread) lets the kernel touch memory that somebody else
//! has; nor does what a [forked child](#fork) does with what it inherited.
//!
//! | to | see |
//! |---|---|
//! | make a ring | [`Setup`] |
//! | use it | [`Ring`] |
//! | choose what to do | [`op`]: the operations |
//! | give the kernel a buffer | [`buf`]: which types, and one's own |
//! | lend it one | [`Ring::scope`] |
//! | do things in order, or in time | [`link`] |
//! | register buffers and files, let the kernel pick | [`lease`] |
//! | wake a ring from another thread | [`RingSender`] |
//! | know what this kernel can do | [`Capabilities`] |
//! | own the memory oneself, at the price of `unsafe` | [`RawRing`], [`prep`] |
//! | read the ring code | [`sys`], from its top |
//!
//! # Fork
//!
//! A ring, and what is registered with it, are of the process that made them. A child that is
//! forked may make rings of its own, as any process may; and may call whatever is safe on what it
//! inherited, but nothing comes of it:
//!
//! | in a forked child | |
//! |---|---|
//! | submit, wait, reap, cancel | fails: [`Rejection::OtherProcess`], [`EnterCause::OtherProcess`] |
//! | register anything | fails: [`NotHere`](lease::RegisterError::NotHere), or `ECHILD` |
//! | send to a ring, pass a file | fails: [`SendError::Closed`] |
//! | look at a ring (`pop`, `ready`, `room`) | it is full, and nothing is in it |
//! | redeem what had completed before | gives the child's copy, as fork makes it of everything |
//! | read or write the bytes of a lease ([`lease`]) | memory of its own, all of it zeroes |
//! | come out of `reap`, where it was forked | what was not shown yet is the parent's |
//! | come out of a [`scope`](Ring::scope) | it ends at once; what is in flight is the parent's |
//! | drop any of it | gives nothing back, waits for nothing, and leaks |
//!
//! The parent does not notice. In the raw face too, safe calls are so; to push, which is unsafe,
//! is not allowed. It costs a load and a compare for each operation, and for each call.
//!
//! A child that shares its parent's memory (`vfork(2)`, `clone(2)` with `CLONE_VM`) is no such
//! child: to a ring it is one more thread of the same process, and what is not `Send` is not to be
//! used there. What it submits ends with it, as with any thread.
//!
//! # Example
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::{Read, Write};
//! use std::rc::Rc;
//!
//! let mut ring = Setup::new(8).build()?;
//! let (reader, writer) = std::io::pipe()?;
//!
//! let write = ring.submit(Write::new(writer, b"hello"))?;
//! let read = ring.submit(Read::new(Rc::new(reader), Vec::with_capacity(16)))?;
//!
//! assert_eq!(ring.wait(write)?.result?, 5);
//! let (count, buf) = ring.wait(read)?.ok()?;
//! assert_eq!((count, &buf[..]), (5, &b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(unreachable_pub)]
#[doc(no_inline)]
pub use annulus_sys as sys;

mod backlog;
pub mod buf;
pub mod capabilities;
pub mod chain;
pub mod denied;
mod disabled;
mod end;
mod enter;
pub mod error;
pub mod event;
mod forecast;
mod forward;
mod inflight;
pub mod inspect;
pub mod lease;
pub mod link;
mod notify;
pub mod op;
mod own;
pub mod patience;
pub mod prep;
pub mod raw;
mod reap;
pub mod register;
mod rest;
pub mod ring;
pub mod scope;
pub mod sender;
pub mod setup;
pub mod split;
pub mod ticket;
mod wait;

pub use capabilities::Capabilities;
pub use denied::SetupError;
pub use disabled::DisabledRing;
pub use end::Undrained;
pub use error::{EnterCause, EnterError, Woken};
pub use event::Event;
pub use inspect::Stats;
pub use link::{ChainEnd, ChainOutcome, ChainTicket, Step, StepExt, Timed, TimedTicket};
pub use patience::{Patience, SignalMask};
pub use raw::RawRing;
pub use ring::{Next, Redeem, Ring};
pub use scope::{Scope, ScopedChain, ScopedTicket};
pub use sender::{RingSender, SendError};
pub use setup::Setup;
pub use ticket::{Rejected, Rejection, Ticket, Unfinished};

/// The README's example, so that it is compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
