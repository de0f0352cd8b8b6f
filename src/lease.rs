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

use crate::op::{Brings, RingId, Shot};

/// Where the buffers or files that completions name come from.
#[derive(Debug, Clone)]
pub struct Source(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Buffers(Rc<buf_ring::Pool>),
    Messages(Rc<buf_ring::Pool>, datagram::Layout),
    Files(Rc<fixed_file::Table>),
}

impl Source {
    pub(crate) fn buffers(pool: Rc<buf_ring::Pool>) -> Self {
        Self(Kind::Buffers(pool))
    }

    pub(crate) fn messages(pool: Rc<buf_ring::Pool>, layout: datagram::Layout) -> Self {
        Self(Kind::Messages(pool, layout))
    }

    pub(crate) fn files(table: Rc<fixed_file::Table>) -> Self {
        Self(Kind::Files(table))
    }

    /// The ring that it is registered with.
    pub(crate) fn ring(&self) -> RingId {
        match &self.0 {
            Kind::Buffers(pool) | Kind::Messages(pool, _) => pool.ring(),
            Kind::Files(table) => table.ring(),
        }
    }

    /// What `cqe` names, which is of the kind that `brings` says (OP3).
    pub(crate) fn bring(&self, brings: Brings, cqe: Cqe) -> Brought {
        match (&self.0, brings) {
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
