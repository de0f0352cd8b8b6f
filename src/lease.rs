//! Leases: what the kernel knows by number, as values that go back when they are dropped.
//!
//! | lease | of | dropped, it | since |
//! |---|---|---|---|
//! | [`FixedBuf`] | a [`FixedPool`] of registered buffers | returns to the pool | Linux 5.1 |
//! | [`BufLease`] | a [`BufRing`] that the kernel picks from | is offered again | Linux 5.19 |
//! | [`SendBuf`] | a [`SendRing`] whose bytes the kernel sends in order | is free again | Linux 6.10 |
//! | [`FixedFile`] | a [`FileTable`] of registered files | is closed | Linux 5.19 |
//! | [`PassedFile`] | another ring's [`FileTable`] | is closed there | Linux 6.3 |
//!
//! A lease in an operation lies in its slot, so it cannot go back while the kernel uses it. A lease
//! that comes with a completion is owned from the moment the completion is consumed, also when
//! nobody takes it (OP3).
//!
//! All of them belong to the ring that they are registered with, and outlive it: then they hold
//! memory, and nothing else.
#![allow(unsafe_code, reason = "takes a number for a descriptor")]

pub(crate) mod buf_ring;
pub(crate) mod datagram;
mod error;
pub(crate) mod fixed_buf;
pub(crate) mod fixed_file;

pub(crate) mod passed;
pub(crate) mod send_ring;

use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use annulus_sys::abi::Cqe;

pub use buf_ring::{BufLease, BufRing, Bundle};
pub use datagram::Datagram;
pub use error::RegisterError;
pub use fixed_buf::{FixedBuf, FixedPool};
pub(crate) use fixed_file::Table;
pub use fixed_file::{FileTable, FixedFile};
pub use passed::{FileSender, PassedFile};
pub use send_ring::{SendBuf, SendQueue, SendRing};

use crate::op::{Brings, Op, RingId, Shot, Shots};
use crate::ticket::Rejection;
use buf_ring::{Doubt, Share};

/// Where the buffers or files that completions name come from.
#[derive(Debug, Clone)]
pub struct Source {
    kind: Kind,
    runs: Runs,
}

#[derive(Debug, Clone)]
enum Kind {
    Buffers(Rc<buf_ring::Pool>),
    Messages(Rc<buf_ring::Pool>, datagram::Layout),
    /// Buffers that are sent, each in its turn.
    Sends(Rc<buf_ring::Pool>),
    Files(Rc<fixed_file::Table>),
}

/// Who may run an operation, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// The kernel, when it is submitted or when there is data.
    Inline,
    /// A worker thread, since that is asked for.
    Forced,
    /// Whoever ran the operation before it in a chain; or a worker thread, if it is drained and has
    /// to wait.
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

    /// The same, for an operation that a worker thread is to run.
    pub(crate) fn forced(self) -> Self {
        Self { runs: Runs::Forced, ..self }
    }

    /// The same, for an operation that begins when the one before it in its chain has ended, or all
    /// that came before it.
    pub(crate) fn behind(self) -> Self {
        Self { runs: Runs::Behind, ..self }
    }

    /// The ring that it is registered with.
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

    /// Whether what the operation picks is told by the order in which it picks.
    pub(crate) fn is_in_order<O: Op>(&self) -> bool {
        let in_parts = self.pool().is_some_and(|pool| pool.is_used_in_parts());
        let sends = matches!(self.kind, Kind::Sends(_));
        in_parts || sends || O::BRINGS == Brings::Bundle
    }

    /// For an operation of `ring`, which counts as in flight from now on.
    pub(crate) fn claim<O: Op>(self, ring: RingId) -> Result<Claimed, Rejection> {
        if self.ring() != ring {
            return Err(Rejection::OtherRing);
        }
        let Some(pool) = self.pool() else { return Ok(Claimed(self)) };
        let in_parts = pool.is_used_in_parts();
        if in_parts && matches!(self.kind, Kind::Messages(..)) {
            let reason = "a message needs a buffer of its own: use buffers that are used whole";
            return Err(Rejection::Invalid { reason });
        }
        let in_order = self.is_in_order::<O>();
        if in_order && self.runs != Runs::Inline {
            let reason = "what it picks is known only where the kernel runs it in its turn: \
                          neither force it nor put it behind another operation, nor drain it";
            return Err(Rejection::Invalid { reason });
        }
        let alone = in_order && !(in_parts && O::SHOTS == Shots::Many);
        let share = if alone { Share::Alone } else { Share::WithOthers };
        let doubt = if self.runs == Runs::Inline && !in_order { Doubt::No } else { Doubt::Yes };
        if pool.claim(share, doubt) { Ok(Claimed(self)) } else { Err(Rejection::Picking) }
    }
}

/// A source, while an operation is in flight that picks from it.
#[derive(Debug)]
pub(crate) struct Claimed(Source);

impl Claimed {
    /// What `cqe` names, which is of the kind that `brings` says (OP3).
    pub(crate) fn bring(&self, brings: Brings, cqe: Cqe) -> Brought {
        match (&self.0.kind, brings) {
            (Kind::Sends(_), _) => Brought::Nothing,
            (Kind::Buffers(pool), Brings::Bundle) => {
                buf_ring::Pool::bundle(pool, cqe).map_or(Brought::Nothing, Brought::Bundle)
            }
            (Kind::Buffers(pool), _) => {
                buf_ring::Pool::lease(pool, cqe).map_or(Brought::Nothing, Brought::Buffer)
            }
            (Kind::Messages(pool, layout), _) => {
                let lease = buf_ring::Pool::lease(pool, cqe);
                let message = lease.and_then(|lease| Datagram::of(lease, *layout));
                message.map_or(Brought::Nothing, Brought::Message)
            }
            (Kind::Files(table), _) => {
                fixed_file::Table::adopt(table, cqe.res).map_or(Brought::Nothing, Brought::File)
            }
        }
    }

    /// The operation has ended, with `result`: its last completion was consumed, and what that
    /// brought is bound.
    pub(crate) fn end(self, result: i32) {
        let pool = match &self.0.kind {
            Kind::Buffers(pool) | Kind::Messages(pool, _) => Some(Rc::clone(pool)),
            // A ring of buffers to send is looked through when it comes out of its operation.
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

/// What is registered with a ring as one table each.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// How many rings of buffers there ever were.
    pub(crate) groups: u32,
    pub(crate) buffers: Option<Rc<fixed_buf::Pool>>,
    pub(crate) files: Option<Rc<fixed_file::Table>>,
}

impl Registered {
    /// The ring goes. `idle`: nothing is in flight that could use either.
    pub(crate) fn retire(&mut self, idle: buf_ring::Idle) {
        if let Some(pool) = self.buffers.take() {
            pool.retire(idle);
        }
        if let Some(table) = self.files.take() {
            table.retire(idle);
        }
    }
}

/// What a completion brought, beside its result.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Brought {
    /// Nothing.
    #[default]
    Nothing,
    /// A buffer that the kernel picked and filled.
    Buffer(BufLease),
    /// Buffers that the kernel picked and filled, one after the other.
    Bundle(Bundle),
    /// A message in a buffer that the kernel picked.
    Message(Datagram),
    /// A new descriptor.
    Fd(OwnedFd),
    /// A new place in the table of files.
    File(FixedFile),
    /// With the last completion of an operation that completes many times: what those before it
    /// had brought, and nobody took, oldest first. See [`Done::left`](crate::op::Done::left).
    Left(Vec<Shot>),
}

impl Brought {
    /// The descriptor that a completion names, which is ours from now on.
    pub(crate) fn fd(result: i32) -> Self {
        if result < 0 {
            return Self::Nothing;
        }
        // SAFETY: the kernel made it for this request, and told nobody else (OP3).
        Self::Fd(unsafe { OwnedFd::from_raw_fd(result) })
    }
}
