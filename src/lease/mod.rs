//! Leases: buffers and files that the kernel knows by number, as values that go back when dropped.
//!
//! | lease | from | when dropped, it | since |
//! |---|---|---|---|
//! | [`FixedBuf`] | a [`FixedPool`] of registered buffers | is free again | Linux 5.1 |
//! | [`BufLease`] | a [`BufRing`] that the kernel selects from | is provided again | Linux 5.19 |
//! | [`SendBuf`] | a [`SendRing`] that the kernel sends in order | is free again | Linux 6.10 |
//! | [`FixedFile`] | a [`FileTable`] of registered files | is closed | Linux 5.19 |
//! | [`PassedFile`] | another ring's [`FileTable`] | is closed there | Linux 6.3 |
//!
//! A lease that is used by an operation lies in the operation's slot, so it cannot go back while
//! the kernel uses it. A lease that a completion carries is owned from the moment the completion is
//! consumed, even if no code ever takes it (OP3).
//!
//! Every lease belongs to the ring that it is registered with, and may outlive that ring. Then it
//! only holds memory.
#![allow(unsafe_code, reason = "turns a number into a descriptor")]

pub(crate) mod buf_ring;
pub(crate) mod completion;
pub(crate) mod datagram;
pub(crate) mod fixed_buf;
pub(crate) mod fixed_file;
pub(crate) mod mailbox;
pub(crate) mod send_ring;
pub(crate) mod ticket;
pub(crate) mod user_data;

use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use annulus_sys::abi::Cqe;

pub use crate::raw::register::RegisterError;
pub use buf_ring::{BufLease, BufRing, Bundle};
pub use datagram::Datagram;
pub use fixed_buf::{FixedBuf, FixedPool};
pub(crate) use fixed_file::Table;
pub use fixed_file::{FileSender, PassedFile};
pub use fixed_file::{FileTable, FixedFile};
pub use send_ring::{SendBuf, SendQueue, SendRing};

use crate::raw::RingId;
use buf_ring::{MayLose, Share};
use completion::{Completion, Completions, ResultKind};
use ticket::Rejection;

/// The buffers or files that the completions of an operation name.
#[derive(Debug, Clone)]
pub struct Source {
    kind: Kind,
    runs: Runs,
}

#[derive(Debug, Clone)]
enum Kind {
    Buffers(Rc<buf_ring::Pool>),
    Messages(Rc<buf_ring::Pool>, datagram::Layout),
    /// Buffers that are sent in order.
    Sends(Rc<buf_ring::Pool>),
    Files(Rc<fixed_file::Table>),
}

/// Where the kernel may run an operation, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// Not on a worker thread: at submission, or once there is data.
    Inline,
    /// On a worker thread (io-wq), because `IOSQE_ASYNC` asks for one.
    Forced,
    /// Where the previous operation of the chain ran. On a worker thread, if the operation is
    /// drained and has to wait.
    Behind,
}

impl Source {
    fn new(kind: Kind) -> Self {
        Self { kind, runs: Runs::Inline }
    }

    pub(crate) fn buffers(pool: Rc<buf_ring::Pool>) -> Self {
        Self::new(Kind::Buffers(pool))
    }

    pub(crate) fn messages(pool: Rc<buf_ring::Pool>, layout: datagram::Layout) -> Self {
        Self::new(Kind::Messages(pool, layout))
    }

    pub(crate) fn sends(pool: Rc<buf_ring::Pool>) -> Self {
        Self::new(Kind::Sends(pool))
    }

    pub(crate) fn files(table: Rc<fixed_file::Table>) -> Self {
        Self::new(Kind::Files(table))
    }

    /// This source, for an operation that a worker thread is to run.
    pub(crate) fn forced(self) -> Self {
        Self { runs: Runs::Forced, ..self }
    }

    /// This source, for an operation that begins only after the previous one of its chain, or after
    /// all earlier operations.
    pub(crate) fn behind(self) -> Self {
        Self { runs: Runs::Behind, ..self }
    }

    /// The ring that this source is registered with.
    fn ring(&self) -> RingId {
        match &self.kind {
            Kind::Buffers(pool) | Kind::Messages(pool, _) | Kind::Sends(pool) => pool.ring(),
            Kind::Files(table) => table.ring(),
        }
    }

    fn pool(&self) -> Option<&Rc<buf_ring::Pool>> {
        match &self.kind {
            Kind::Buffers(pool) | Kind::Messages(pool, _) | Kind::Sends(pool) => Some(pool),
            Kind::Files(_) => None,
        }
    }

    /// Whether the buffers of a completion are known only from the order in which the kernel
    /// selects them.
    pub(crate) fn is_in_order(&self, result_kind: ResultKind) -> bool {
        let in_parts = self.pool().is_some_and(|pool| pool.is_used_in_parts());
        let sends = matches!(self.kind, Kind::Sends(_));
        in_parts || sends || result_kind == ResultKind::Bundle
    }

    /// Claims the source for an operation of `ring`, which counts as in flight from now on.
    /// `result_kind` and `completions` describe the operation's completions.
    pub(crate) fn claim(
        self,
        ring: RingId,
        result_kind: ResultKind,
        completions: Completions,
    ) -> Result<Claimed, Rejection> {
        if self.ring() != ring {
            return Err(Rejection::OtherRing);
        }
        let Some(pool) = self.pool() else { return Ok(Claimed(self)) };
        let in_parts = pool.is_used_in_parts();
        if in_parts && matches!(self.kind, Kind::Messages(..)) {
            let reason = "a message needs a whole buffer: do not use incremental consumption";
            return Err(Rejection::Invalid { reason });
        }
        let in_order = self.is_in_order(result_kind);
        if in_order && self.runs != Runs::Inline {
            let reason = "its buffers are known only if the kernel runs it in order: \
                          neither force it nor put it behind another operation, nor drain it";
            return Err(Rejection::Invalid { reason });
        }
        let alone = in_order && !(in_parts && completions == Completions::Multishot);
        let share = if alone { Share::Alone } else { Share::WithOthers };
        let may_lose =
            if self.runs == Runs::Inline && !in_order { MayLose::No } else { MayLose::Yes };
        if pool.claim(share, may_lose) { Ok(Claimed(self)) } else { Err(Rejection::BufRingBusy) }
    }
}

/// A source that an operation in flight selects from.
#[derive(Debug)]
pub(crate) struct Claimed(Source);

impl Claimed {
    /// The resource that `cqe` names. `result_kind` says what kind it is (OP3).
    ///
    /// # Safety
    ///
    /// The kernel must have posted `cqe` for the operation that made this claim. Each completion
    /// must be used once, in the order in which they came.
    pub(crate) unsafe fn bring(&self, result_kind: ResultKind, cqe: Cqe) -> Resource {
        match (&self.0.kind, result_kind) {
            (Kind::Sends(_), _) => Resource::Nothing,
            (Kind::Buffers(pool), ResultKind::Bundle) => {
                // SAFETY: as promised to `bring`; the operation selects from this pool.
                let bundle = unsafe { buf_ring::Pool::bundle(pool, cqe) };
                bundle.map_or(Resource::Nothing, Resource::Bundle)
            }
            (Kind::Buffers(pool), _) => {
                // SAFETY: as promised to `bring`; the operation selects from this pool.
                let lease = unsafe { buf_ring::Pool::lease(pool, cqe) };
                lease.map_or(Resource::Nothing, Resource::Buffer)
            }
            (Kind::Messages(pool, layout), _) => {
                // SAFETY: as promised to `bring`; the operation selects from this pool.
                let lease = unsafe { buf_ring::Pool::lease(pool, cqe) };
                let message = lease.and_then(|lease| Datagram::of(lease, *layout));
                message.map_or(Resource::Nothing, Resource::Message)
            }
            (Kind::Files(table), _) => {
                fixed_file::Table::adopt(table, cqe.res).map_or(Resource::Nothing, Resource::File)
            }
        }
    }

    /// The operation has ended with `result`: its last completion was consumed, and the resource
    /// that it carries is owned.
    pub(crate) fn end(self, result: i32) {
        let pool = match &self.0.kind {
            Kind::Buffers(pool) | Kind::Messages(pool, _) => Some(Rc::clone(pool)),
            // A send ring is reconciled when it comes out of its operation (`SendRing::record`).
            Kind::Sends(_) | Kind::Files(_) => None,
        };
        drop(self);
        if let Some(pool) = pool {
            pool.recover(result);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(pool) = self.0.pool() {
            pool.unclaim();
        }
    }
}

/// Everything that is registered with a ring.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    pub(crate) pools: buf_ring::Pools,
    pub(crate) buffers: Option<Rc<fixed_buf::RegisteredBufs>>,
    pub(crate) files: Option<Rc<fixed_file::Table>>,
}

impl Registered {
    /// The ring ends. `idle` says whether anything in flight could still use a registration.
    ///
    /// # Safety
    ///
    /// If `idle` is [`Idle::Yes`](buf_ring::Idle::Yes), nothing may be in flight.
    pub(crate) unsafe fn retire(&mut self, idle: buf_ring::Idle) {
        // SAFETY: as promised to `retire`.
        unsafe { self.pools.retire(idle) };
        if let Some(pool) = self.buffers.take() {
            // SAFETY: as promised to `retire`.
            unsafe { pool.retire(idle) };
        }
        if let Some(table) = self.files.take() {
            table.retire(idle);
        }
    }
}

/// The resource that a completion carries, in addition to its result.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Resource {
    /// Nothing.
    #[default]
    Nothing,
    /// A buffer that the kernel selected and filled.
    Buffer(BufLease),
    /// Buffers that the kernel selected and filled, one after the other.
    Bundle(Bundle),
    /// A message in a buffer that the kernel selected.
    Message(Datagram),
    /// A new descriptor.
    Fd(OwnedFd),
    /// A file in the ring's file table.
    File(FixedFile),
    /// Comes with the last completion of a multishot operation: its earlier completions that no
    /// code has taken, oldest first. See [`Done::remaining`](crate::op::Done::remaining).
    Remaining(Vec<Completion>),
}

impl Resource {
    /// The descriptor that a completion names. The caller owns it from now on.
    ///
    /// # Safety
    ///
    /// If `result` is not negative, the kernel must have made a descriptor of that number for the
    /// caller, and no code may have taken it yet (OP3).
    pub(crate) unsafe fn fd(result: i32) -> Self {
        if result < 0 {
            return Self::Nothing;
        }
        // SAFETY: as promised to `fd` (OP3).
        Self::Fd(unsafe { OwnedFd::from_raw_fd(result) })
    }
}
