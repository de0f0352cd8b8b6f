//! The API of the crate `io-uring` 0.7.16, over the rings of this crate.
//!
//! ```text
//!   use annulus::compat as io_uring;      the one line that moves a program
//!
//!   IoUring ─┬─ submission() ─► SubmissionQueue   push ..      its drop publishes the tail
//!            ├─ submitter()  ─► Submitter         submit, register ..
//!            └─ completion() ─► CompletionQueue   an iterator; its drop publishes the head
//! ```
//!
//! The names and signatures are those of `io-uring`, so that programs compile unchanged. The code
//! is ours: entries are [`annulus_sys::abi::Sqe`], queues those of [`annulus_sys`]. Where we differ
//! on purpose, `docs/COMPAT.md` says what and why. A new program is better served by
//! [`Ring`](crate::Ring), or by [`RawRing`](crate::RawRing).
//!
//! Making an entry is safe. [Pushing](SubmissionQueue::push) it is `unsafe`, since the kernel then
//! uses the addresses in it (OP1).
//!
//! # Example
//!
//! ```
//! use annulus::compat as io_uring;
//! use io_uring::{IoUring, opcode, types};
//! use std::os::fd::AsRawFd;
//!
//! let mut ring = IoUring::new(8)?;
//! let file = std::fs::File::open("/proc/self/exe")?;
//! let mut buf = vec![0; 64];
//! let read = opcode::Read::new(types::Fd(file.as_raw_fd()), buf.as_mut_ptr(), 64)
//!     .build()
//!     .user_data(7);
//!
//! // SAFETY: the file and the buffer live until the completion has been taken (OP1).
//! unsafe { ring.submission().push(&read) }.expect("the queue has room");
//! ring.submit_and_wait(1)?;
//!
//! let cqe = ring.completion().next().expect("one completion");
//! assert_eq!((cqe.user_data(), cqe.result()), (7, 64));
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod cqueue;
pub mod opcode;
mod parameters;
pub mod register;
mod ring;
pub mod squeue;
mod submitter;
pub mod types;

pub use cqueue::{CompletionQueue, CompletionStatus};
pub use parameters::Parameters;
pub use register::Probe;
pub use ring::{Builder, IoUring};
pub use squeue::SubmissionQueue;
pub use submitter::{EnterFlags, Submitter};

/// The address that the kernel gets for a pointer.
#[inline]
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}
