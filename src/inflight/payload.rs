//! Payloads: the memory that operations lie in, and what is known of their types.
//!
//! ```text
//!   │ Read { fd, buf, .. } │ Accept { .. } │ (nothing) │ …     192 bytes each, never moved
//! ```
//!
//! Reached by pointer only: between `Berth::prep` and the last completion no reference covers a
//! payload, since the kernel writes to what lies in it (OP1). Keeps RG1: what is not known to be
//! idle is leaked.
#![allow(unsafe_code, reason = "owns memory that the kernel uses")]

use std::alloc::{self, Layout};
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::op::{Brings, Done, Op, Shots};

/// How many bytes an operation may have.
pub(crate) const PAYLOAD: usize = 192;

/// What a slot needs to know of an operation's type.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) shots: Shots,
    pub(super) brings: Brings,
    pub(super) last_is_shot: fn(i32) -> bool,
    /// Makes the output and drops it.
    pub(super) bury: unsafe fn(NonNull<Payload>, Done),
}

impl Kind {
    pub(super) const fn of<O: Op>() -> &'static Self {
        const {
            &Self {
                shots: O::SHOTS,
                brings: O::BRINGS,
                last_is_shot: O::last_is_shot,
                bury: bury::<O>,
            }
        }
    }
}

/// What is in a slot that is not taken.
pub(super) const NOTHING: &Kind = Kind::of::<crate::op::Nop>();

/// Makes the output of the operation at `payload`, and drops it.
///
/// # Safety
///
/// There must be one, of type `O`, and nobody else may use it after.
unsafe fn bury<O: Op>(payload: NonNull<Payload>, done: Done) {
    // SAFETY: as promised to `bury`.
    let op = unsafe { payload.cast::<O>().read() };
    drop(op.finish(done));
}

/// Drops what its owner gave up, while somebody else has a claim, or the kernel a borrow. Should
/// that panic, the panic hook has told so, and it goes no further, as if it were a detached thread.
#[inline]
pub(super) fn contained(drops: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drops))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        mem::forget(again); // There is no end to it otherwise.
    }
}

#[repr(C, align(64))]
pub(super) struct Payload([MaybeUninit<u8>; PAYLOAD]);

/// The memory of all operations.
#[derive(Debug)]
pub(super) struct Payloads {
    start: NonNull<Payload>,
    layout: Layout,
    pub(super) leaked: bool,
}

impl Payloads {
    pub(super) fn new(count: u32) -> Self {
        let layout = Layout::array::<Payload>(count.max(1) as usize).expect("2^20 slots fit");
        // SAFETY: not of size 0, because there is one slot at least.
        let start = unsafe { alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        Self { start: start.cast(), layout, leaked: false }
    }

    #[inline]
    pub(super) fn at(&self, slot: u32) -> NonNull<Payload> {
        debug_assert!((slot as usize) < self.layout.size() / size_of::<Payload>());
        // SAFETY: within the allocation, because callers take the number from the list of slots.
        unsafe { self.start.add(slot as usize) }
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated with this layout, and no request is in flight, or it were leaked
            // (RG1).
            unsafe { alloc::dealloc(self.start.as_ptr().cast(), self.layout) };
        }
    }
}
