//! The rest of a list of buffers, as one turn of a whole transfer moves it.
//!
//! ```text
//!   READV  ──► ScatterRest { bufs, done: 50, table } ──► the entries behind the first 50 bytes
//!   WRITEV ──► GatherRest  { bufs, done: 50, table }
//! ```
//!
//! Keeps OP1: buffers and table lie in the operation. Leaves to others: the turns
//! (`ring::read_exact`).
#![allow(unsafe_code, reason = "implements `set_filled`, whose callers must keep its contract")]

use super::{Gathered, ReadV, Scattered, Table, WriteV};
use crate::buf::{InitBufs, IoBufs, IoVec, rest_of, rest_of_mut};

/// Initialised buffers, of which the first `done` bytes are not written again.
#[derive(Debug)]
pub(crate) struct ScatterRest<L> {
    bufs: L,
    done: u64,
    table: Vec<IoVec>,
}

/// Buffers, of which the first `done` bytes are not read again.
#[derive(Debug)]
pub(crate) struct GatherRest<L> {
    bufs: L,
    done: u64,
    table: Vec<IoVec>,
}

impl<F, L: InitBufs> ReadV<F, ScatterRest<L>> {
    /// Reads into what lies behind the first `done` bytes.
    pub(crate) fn rest(fd: F, bufs: L, done: usize) -> Self {
        Self::made(fd, ScatterRest { bufs, done: done as u64, table: Vec::new() })
    }
}

impl<F, L: IoBufs> WriteV<F, GatherRest<L>> {
    /// Writes what lies behind the first `done` bytes.
    pub(crate) fn rest(fd: F, bufs: L, done: usize) -> Self {
        Self::made(fd, GatherRest { bufs, done: done as u64, table: Vec::new() })
    }
}

impl<L: InitBufs> Scattered for ScatterRest<L> {
    type Back = L;

    fn table(&mut self) -> Table {
        self.table = rest_of_mut(&mut self.bufs, self.done);
        Table::at(&self.table)
    }

    unsafe fn set_filled(&mut self, _: usize) {} // Every byte was initialised before.

    fn back(self) -> L {
        self.bufs
    }
}

impl<L: IoBufs> Gathered for GatherRest<L> {
    type Back = L;

    fn table(&mut self) -> Table {
        self.table = rest_of(&self.bufs, self.done);
        Table::at(&self.table)
    }

    fn back(self) -> L {
        self.bufs
    }
}
