//! The io_uring ABI, its three system calls and its rings, written by hand.
//!
//! ```text
//!                 push ▼                                        ▲ pop
//!        ┌──────────────────────┐                    ┌──────────────────────┐
//!        │ SQ  tail ours        │                    │ CQ  head ours        │
//!   us   │ ▒▒▒▓▓▓▓▓▓▓▓░░░░░░░░░ │                    │ ░░░▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒ │
//!  ──────┤                      ├──────── enter ─────┤                      ├──────
//!  kernel│     head kernel's    │  ►  work to do  ►  │     tail kernel's    │
//!        └──────────────────────┘                    └──────────────────────┘
//! ```
//!
//! We write entries (SQEs) into the submission queue (SQ). The kernel consumes them, and writes
//! their results (CQEs) into the completion queue (CQ). Each queue is a ring in memory that both
//! sides share, with a `head` and a `tail` index, and each index has exactly one writer. Everything
//! else follows from these invariants, which comments, assertions and tests cite by name:
//!
//! | | |
//! |---|---|
//! | SQ1 | only we store `sq.tail`; only the kernel stores `sq.head` |
//! | SQ2 | `tail - head` is in `0..=entries`, in wrapping u32 arithmetic |
//! | SQ3 | all 64 (or 128) bytes of a slot are written before the Release store of the `tail` that covers it |
//! | SQ4 | a slot is rewritten only after an Acquire load of a `head` that has passed it; free space is computed from the shared `head`, never from a private count |
//! | SQ5 | a SeqCst fence separates storing `tail` from loading `NEED_WAKEUP` |
//! | CQ1 | only we store `cq.head`; only the kernel stores `cq.tail` |
//! | CQ2 | `tail - head` is in `0..=entries`, wrapping |
//! | CQ3 | a slot is read only after an Acquire load of a `tail` that covers it |
//! | CQ4 | a Release store moves `head` past a slot only after the slot was copied out |
//! | CQ5 | we ask the kernel for completions that it holds back (overflow, deferred task work), and never assume that there are none |
//! | BR1 | each buffer id is in exactly one place: with the kernel, in a lease, or in an unredeemed completion |
//! | BR2 | a buffer-ring entry is written before the Release store of the u16 `tail` that covers it; the tail overlays `resv` of entry 0, so entries are written field by field |
//! | OP1 | memory that a request points to stays alive and untouched until the request's last completion |
//! | OP2 | a `user_data` value names at most one request in flight |
//! | OP3 | a resource that a completion carries (fd, buffer id) has an owner from the moment the completion is consumed |
//! | RG1 | memory of ours that the kernel may still use is leaked, not freed, unless it is proved idle |
//!
//! # The layers, which are also the reading order
//!
//! | layer | files | idea |
//! |---|---|---|
//! | F0 | [`index`] [`errno`] [`abi`] (and `abi_*`) [`flags`] (and `flags_*`) [`opcode`] `shape` | values only, no unsafe |
//! | F1 | [`syscall`] [`map`] [`process`] [`kernel`] | three system calls, mappings, and the four kernel calls made of them |
//! | F2 | [`orderings`] [`slots`] | every memory ordering and every dereference of ring memory |
//! | F3 | [`sq`] [`cq`] [`buf_ring`] [`refill`] | the protocol, without memory orderings, pointers or index arithmetic |
//! | F3+ | `layout` [`rings`] [`groups`] | turn a setup request into mapped and checked rings |
//!
//! # Example
//!
//! Submits one `NOP`, a request that does nothing, and takes its completion:
//!
//! ```
//! use annulus_sys::abi::Sqe;
//! use annulus_sys::flags::EnterFlags;
//! use annulus_sys::kernel::Kernel;
//! use annulus_sys::opcode::Opcode;
//! use annulus_sys::rings::{Request, Rings};
//! use annulus_sys::syscall::{self, EnterArg};
//!
//! let mut rings = Rings::setup(&Kernel::LINUX, &Request::new(4)).expect("a ring");
//! let nop = Sqe { opcode: Opcode::NOP, fd: -1, user_data: 42, ..Sqe::ZERO };
//! // SAFETY: a NOP points to nothing (OP1).
//! unsafe { rings.sq().push(nop) }.expect("room for one");
//! let to_submit = rings.sq().flush();
//! let ring = rings.base().fd().by_ref();
//! // SAFETY: the one request in the ring is the NOP above (OP1).
//! let consumed = unsafe {
//!     syscall::enter(ring, to_submit, 1, EnterFlags::GETEVENTS, EnterArg::None)
//! };
//! assert_eq!(consumed, Ok(1));
//! assert_eq!(rings.cq().pop().map(|cqe| cqe.user_data), Some(42));
//! ```
#![warn(unreachable_pub)]

#[cfg(not(all(target_os = "linux", target_endian = "little", target_pointer_width = "64")))]
compile_error!("annulus supports only 64-bit little-endian Linux (x86_64 and aarch64)");

pub mod abi;
pub mod abi_bpf;
pub mod abi_mock;
pub mod abi_query;
pub mod abi_register;
pub mod abi_with;
pub mod abi_zcrx;
pub mod buf_ring;
pub mod cq;
pub mod errno;
pub mod flags;
pub mod flags_futex;
pub mod flags_register;
pub mod groups;
pub mod index;
pub mod kernel;
mod layout;
pub mod map;
pub mod opcode;
pub mod orderings;
mod page;
pub mod place;
pub mod process;
pub mod refill;
pub mod rings;
pub mod shape;
pub mod slots;
pub mod sq;
pub mod syscall;
