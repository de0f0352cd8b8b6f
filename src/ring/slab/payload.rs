//! Payloads: the memory that operations lie in, and what is known of their types.
//!
//! ```text
//!   │ Read { fd, buf, .. } │ Accept { .. } │ (nothing) │ …     256 bytes each, never moved
//! ```
//!
//! Payloads are reached only by pointer: between `Reserved::prep` and the last completion no
//! reference covers a payload, because the kernel writes into it (OP1). Keeps RG1: a payload that
//! the kernel may still use is leaked.
#![allow(unsafe_code, reason = "owns memory that the kernel uses")]

use std::alloc::{self, Layout};
use std::any::{Any, TypeId};
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use crate::op::{Completions, Done, Op, PAYLOAD, ResultKind};

/// What a slot needs to know about an operation's type.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) completions: Completions,
    pub(super) result_kind: ResultKind,
    pub(super) last_is_item: fn(i32) -> bool,
    /// Makes the output and drops it.
    pub(super) drop_output: unsafe fn(NonNull<Payload>, Done),
    /// Tells the type of an operation without a ticket, whose output is taken by type.
    of: Option<fn() -> TypeId>,
}

impl Kind {
    pub(super) const fn of<O: Op>() -> &'static Self {
        const {
            &Self {
                completions: O::COMPLETIONS,
                result_kind: O::RESULT_KIND,
                last_is_item: O::last_is_item,
                drop_output: drop_output::<O>,
                of: None,
            }
        }
    }

    /// The kind of an operation without a ticket.
    #[inline]
    pub(super) const fn unticketed<O: Op + 'static>() -> &'static Self {
        const { &Self { of: Some(TypeId::of::<O>), ..*Self::of::<O>() } }
    }

    /// Whether a completion of an `O` needs no closer look: it completes once, without a resource.
    #[inline]
    pub(super) const fn is_plain<O: Op>() -> bool {
        matches!((O::COMPLETIONS, O::RESULT_KIND), (Completions::Single, ResultKind::Number))
            && !O::HAS_SOURCE
    }

    /// Whether this is the kind of an operation without a ticket.
    pub(super) fn is_without_ticket(&self) -> bool {
        self.of.is_some()
    }

    /// Whether this is the kind of an `O` without a ticket. One type's kind may exist more than
    /// once; then their types are compared.
    #[inline]
    pub(super) fn is_unticketed<O: Op + 'static>(&self) -> bool {
        std::ptr::eq(self, Self::unticketed::<O>())
            || self.of.is_some_and(|of| of() == TypeId::of::<O>())
    }
}

/// The kind of a free slot.
pub(super) const NOTHING: &Kind = Kind::of::<crate::op::Nop>();

/// Makes the output of the operation at `payload`, and drops it.
///
/// # Safety
///
/// There must be an operation of type `O`, and no other code may use it afterwards.
unsafe fn drop_output<O: Op>(payload: NonNull<Payload>, done: Done) {
    // SAFETY: as promised to `drop_output`.
    let op = unsafe { payload.cast::<O>().read() };
    drop(op.finish(done));
}

/// Runs a drop of something that its owner gave up, at a moment when another caller has a ticket,
/// or the kernel a borrow. If it panics, the panic hook reports it and the panic goes no further,
/// as in a detached thread.
#[inline]
pub(crate) fn contained(drops: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drops))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        mem::forget(again); // Otherwise this might never end.
    }
}

/// What a panic threw.
pub(crate) type Thrown = Box<dyn Any + Send>;

/// Keeps the first of several panics. The others go no further, and neither does what they throw.
pub(crate) fn keep_first(first: &mut Option<Thrown>, next: Thrown) {
    match first {
        Some(_) => contained(|| drop(next)),
        None => *first = Some(next),
    }
}

/// Goes on with a panic that was kept, unless another is on its way already: two would abort.
pub(crate) fn go_on_panicking(thrown: Option<Thrown>) {
    let Some(thrown) = thrown else { return };
    if std::thread::panicking() {
        return contained(|| drop(thrown));
    }
    resume_unwind(thrown);
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
        // SAFETY: not of size 0, because there is at least one slot.
        let start = unsafe { alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        Self { start: start.cast(), layout, leaked: false }
    }

    /// The payload of a slot.
    ///
    /// # Safety
    ///
    /// There must be a slot of that number.
    #[inline]
    pub(super) unsafe fn at(&self, slot: u32) -> NonNull<Payload> {
        debug_assert!((slot as usize) < self.layout.size() / size_of::<Payload>());
        // SAFETY: within the allocation, as promised to `at`.
        unsafe { self.start.add(slot as usize) }
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated with this layout, and no request is in flight; otherwise it would
            // be leaked (RG1).
            unsafe { alloc::dealloc(self.start.as_ptr().cast(), self.layout) };
        }
    }
}
