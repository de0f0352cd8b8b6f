//! What a message has besides its bytes: nothing, an internet address, or a whole header.
//!
//! | parts | size | made by |
//! |---|---|---|
//! | [`Bare`] | in the slot | `new` |
//! | [`Addressed`] | in the slot | `to`, `with_address` |
//! | `Box<MsgHeader>` | in a box of the caller's | `with` |
//!
//! Keeps OP1: the header and the address lie here. Leaves to others: the operations (`message`).

use std::io;

use super::header::Header;
use super::received::Received;
use crate::buf::IoVec;
use crate::buf::address::{MAX_INET, Storage};

pub(super) mod sealed {
    /// Only the types in this module are parts of a message.
    pub trait Sealed {}
}

/// The parts of a message other than its bytes: [`Bare`], [`Addressed`], or a boxed
/// [`MsgHeader`](crate::op::MsgHeader).
pub trait MsgParts: sealed::Sealed {
    /// What comes back: the buffers alone, or the buffers and the message header.
    type With<B>;

    /// Writes the header of an outgoing message in place, and returns its address.
    #[doc(hidden)]
    fn outgoing(&mut self, table: &[IoVec]) -> u64;

    /// Writes the header of an incoming message in place, and returns its address.
    #[doc(hidden)]
    fn incoming(&mut self, table: &[IoVec]) -> u64;

    /// A message has arrived: takes its descriptors before any of the caller's code runs.
    #[doc(hidden)]
    fn arrived(&mut self) {}

    /// The kernel no longer uses an outgoing message.
    #[doc(hidden)]
    fn sent<B>(self, bufs: B, result: &io::Result<usize>) -> Self::With<B>;

    /// The kernel no longer uses an incoming message, of this many bytes; or it failed.
    #[doc(hidden)]
    fn received<B>(
        self,
        bufs: B,
        result: io::Result<usize>,
    ) -> (Self::With<B>, io::Result<Received>);
}

/// A message that consists of bytes only.
#[derive(Debug)]
pub struct Bare(Header);

impl Bare {
    /// For a message that is still to be written, or to come.
    pub(super) const NEW: Self = Self(Header::EMPTY);
}

/// A message with an internet address.
#[derive(Debug)]
pub struct Addressed {
    header: Header,
    address: Storage<MAX_INET>,
}

impl Addressed {
    /// For a message to this address; from any, if it is empty.
    pub(super) fn of(address: Storage<MAX_INET>) -> Self {
        Self { header: Header::EMPTY, address }
    }
}

impl sealed::Sealed for Bare {}

impl MsgParts for Bare {
    type With<B> = B;

    #[inline]
    fn outgoing(&mut self, table: &[IoVec]) -> u64 {
        Header::of(table).put(&mut self.0)
    }

    #[inline]
    fn incoming(&mut self, table: &[IoVec]) -> u64 {
        Header::of(table).put(&mut self.0)
    }

    #[inline]
    fn sent<B>(self, bufs: B, _: &io::Result<usize>) -> B {
        bufs
    }

    #[inline]
    fn received<B>(self, bufs: B, result: io::Result<usize>) -> (B, io::Result<Received>) {
        (bufs, result.map(|bytes| Received::of(bytes, None, &self.0)))
    }
}

impl sealed::Sealed for Addressed {}

impl MsgParts for Addressed {
    type With<B> = B;

    #[inline]
    fn outgoing(&mut self, table: &[IoVec]) -> u64 {
        let (name, name_len) = self.address.place();
        Header { name, name_len, ..Header::of(table) }.put(&mut self.header)
    }

    #[inline]
    fn incoming(&mut self, table: &[IoVec]) -> u64 {
        let (name, _) = self.address.room();
        let name_len = self.address.capacity();
        Header { name, name_len, ..Header::of(table) }.put(&mut self.header)
    }

    #[inline]
    fn sent<B>(self, bufs: B, _: &io::Result<usize>) -> B {
        bufs
    }

    #[inline]
    fn received<B>(mut self, bufs: B, result: io::Result<usize>) -> (B, io::Result<Received>) {
        self.address.set_len(self.header.name_len);
        let from = self.address.address();
        (bufs, result.map(|bytes| Received::of(bytes, from, &self.header)))
    }
}
