//! What a slot holds for its completions: first their source, then the resource that they carried.
//!
//! ```text
//!   in flight: Source ── completion consumed ──► Resource ── redeemed, or given up ──► the caller
//! ```
//!
//! Keeps OP3: a resource is owned as soon as its completion is consumed. Leaves to others: which
//! resource a completion names (`lease`).
#![allow(unsafe_code, reason = "passes on completions that the kernel has posted")]

use std::mem;

use annulus_sys::abi::Cqe;

use crate::lease::{Claimed, Resource};
use crate::op::ResultKind;

/// The source or the resource of the slot's operation.
#[derive(Debug, Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    /// In flight: where its resources come from.
    Source(Claimed),
    /// Ended: the resource that its last completion carried (OP3).
    Resource(Resource),
}

impl Held {
    /// The last completion of a single-shot operation was consumed.
    ///
    /// # Safety
    ///
    /// As for [`bring`](Self::bring).
    pub(super) unsafe fn bind(&mut self, result_kind: ResultKind, cqe: Cqe) {
        // SAFETY: as promised to `bind`.
        let resource = unsafe { self.bring(result_kind, cqe) };
        self.end(cqe.res);
        *self = Self::Resource(resource);
    }

    /// The resource that a completion names, now owned (OP3).
    ///
    /// # Safety
    ///
    /// The kernel must have posted `cqe` for the slot's operation, whose results are of this kind.
    /// Each completion must be used once, in the order in which they came.
    pub(super) unsafe fn bring(&self, result_kind: ResultKind, cqe: Cqe) -> Resource {
        match (result_kind, self) {
            (ResultKind::Number, _) => Resource::Nothing,
            // SAFETY: the kernel made the descriptor for this operation, as promised to `bring`.
            (ResultKind::Fd, _) => unsafe { Resource::fd(cqe.res) },
            // SAFETY: the source is the operation's, so as promised to `bring`.
            (_, Self::Source(source)) => unsafe { source.bring(result_kind, cqe) },
            (_, _) => Resource::Nothing,
        }
    }

    /// No more completions come.
    pub(super) fn end(&mut self, result: i32) {
        if let Self::Source(source) = mem::take(self) {
            source.end(result);
        }
    }

    /// The resource, which belongs to the caller from now on.
    pub(super) fn take(&mut self) -> Resource {
        match mem::take(self) {
            Self::Resource(resource) => resource,
            Self::Nothing | Self::Source(_) => Resource::Nothing,
        }
    }
}
