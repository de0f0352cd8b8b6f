//! The io_uring ABI, its three syscalls and its rings, by hand.
//!
//! ```text
//!                 push ▼                                        ▲ pop
//!        ┌──────────────────────┐                    ┌──────────────────────┐
//!        │ SQ  tail ours        │                    │ CQ  head ours        │
//!   us   │ ▒▒▒▓▓▓▓▓▓▓▓░░░░░░░░░ │                    │ ░░░▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒ │
//!  ──────┤                      ├──────── enter ─────┤                      ├──────
//!  kernel│     head theirs      │  ►  work to do  ►  │     tail theirs      │
//!        └──────────────────────┘                    └──────────────────────┘
//! ```
//!
//! We write entries into the submission ring, the kernel writes their outcomes into the completion
//! ring. Each index word has one writer. All else follows:
//!
//! | | |
//! |---|---|
//! | SQ1 | only we store `sq.tail`; only the kernel stores `sq.head` |
//! | SQ2 | `tail - head` is in `0..=entries`, in wrapping u32 arithmetic |
//! | SQ3 | a slot is written, all 64 (or 128) bytes, before the Release store of the `tail` that covers it |
//! | SQ4 | a slot is rewritten only after an Acquire load of a `head` that has passed it; free space comes from the shared head, never a private count |
//! | SQ5 | between storing `tail` and loading `NEED_WAKEUP` stands a SeqCst fence |
//! | CQ1 | only we store `cq.head`; only the kernel stores `cq.tail` |
//! | CQ2 | `tail - head` is in `0..=entries`, wrapping |
//! | CQ3 | a slot is read only after an Acquire load of a `tail` that covers it |
//! | CQ4 | `head` passes a slot, by a Release store, only after the slot was copied out |
//! | CQ5 | completions that the kernel holds back (overflow, deferred task work) are asked for, never presumed absent |
//! | BR1 | a buffer id is in exactly one of {kernel, lease, unredeemed completion} |
//! | BR2 | a buffer-ring entry is written before the Release store of the u16 `tail` that covers it; the tail overlays `resv` of entry 0, so entries are written field by field |
//! | OP1 | memory that a request points to lives, and is not touched, until the request's last completion |
//! | OP2 | a `user_data` word names at most one request in flight |
//! | OP3 | a resource that a completion carries (fd, buffer id) is owned by someone from the moment the completion is consumed |
//! | RG1 | memory that belongs to us and that the kernel may still use is leaked rather than freed when it cannot be proved idle |
//!
//! # The floors, which are also the reading order
//!
//! | floor | files | idea |
//! |---|---|---|
//! | F0 | [`index`] [`errno`] [`abi`] (and `abi_*`) [`flags`] (and `flags_*`) [`opcode`] `shape` | values only, no unsafe |
//! | F1 | [`syscall`] [`map`] [`process`] [`kernel`] | three syscalls, mappings, and the four doors over them |
//! | F2 | [`shared`] | every memory ordering and every dereference of ring memory |
//! | F3 | [`sq`] [`reservation`] [`cq`] [`buf_ring`] [`refill`] | the protocol: no ordering, no pointer, no index arithmetic |
//! | F3+ | `layout` [`rings`] [`groups`] | a request becomes mapped, checked rings |
//!
//! # Example
//!
//! One request that does nothing, by hand:
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
compile_error!("annulus is written for 64-bit little-endian Linux (x86_64 and aarch64)");

pub mod abi;
pub mod abi_bpf;
pub mod abi_mock;
pub mod abi_query;
pub mod abi_register;
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
pub mod process;
pub mod refill;
pub mod reservation;
pub mod rings;
pub mod shape;
pub mod shared;
pub mod sq;
pub mod syscall;
