//! Whole transfers of several buffers.
//!
//! ```text
//!   │ head │ body       │ tail │      READV, WRITEV: three entries
//!             ▲ a short count
//!             │ of body │ tail │      the rest: two entries
//! ```
//!
//! Leaves to others: when to go on (`read_exact`), and the table of the rest (`buf`).

use std::ops::Range;

use super::{Way, Whole, move_all};
use crate::buf::{InitBufs, IoBufs};
use crate::op::bytes::vectored::{GatherRest, ScatterRest};
use crate::op::{Offset, Outcome, ReadV, Target, WriteV};
use crate::ring::Ring;
use crate::ring::scope::Scope;
use crate::setup::enter_error::EnterError;

impl<U: Default> Ring<U> {
    /// As [`read_exact`](Self::read_exact), into several buffers: fills one after the other until
    /// all are full. There may be more of them, and more bytes, than one operation takes.
    ///
    /// A buffer is what shows its bytes, so a vector must have its length (`vec![0; 4096]`), not
    /// only that capacity.
    ///
    /// # Errors
    ///
    /// As [`read_exact`](Self::read_exact).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::Offset;
    ///
    /// let mut ring = Setup::new(4).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// ring.write_all_vectored(writer, ("head", vec![b'b'; 6]), Offset::Current)?.result?;
    /// let read = ring.read_exact_vectored(reader, ([0; 4], vec![0; 6]), Offset::Current)?;
    /// read.result?;
    /// assert_eq!(read.buf, (*b"head", b"bbbbbb".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_exact_vectored<F, L>(
        &mut self,
        fd: F,
        mut bufs: L,
        offset: Offset,
    ) -> Result<Outcome<(), F, L>, EnterError>
    where
        F: Target + 'static,
        L: InitBufs + 'static,
    {
        let whole = Whole { len: room(&mut bufs), offset, way: Way::In };
        move_all(self, fd, bufs, whole, read, same)
    }

    /// As [`write_all`](Self::write_all), of several buffers, one after the other. There may be
    /// more of them, and more bytes, than one operation takes.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Self::write_all).
    pub fn write_all_vectored<F, L>(
        &mut self,
        fd: F,
        bufs: L,
        offset: Offset,
    ) -> Result<Outcome<(), F, L>, EnterError>
    where
        F: Target + 'static,
        L: IoBufs + 'static,
    {
        let whole = Whole { len: length(&bufs), offset, way: Way::Out };
        move_all(self, fd, bufs, whole, write, same)
    }
}

impl<'scope, U: Default> Scope<'scope, '_, U> {
    /// As [`Ring::read_exact_vectored`], with buffers that may be borrowed.
    ///
    /// # Errors
    ///
    /// As [`Ring::read_exact`]. After an error, the borrows last until the end of the scope.
    pub fn read_exact_vectored<F, L>(
        &mut self,
        fd: F,
        mut bufs: L,
        offset: Offset,
    ) -> Result<Outcome<(), F, L>, EnterError>
    where
        F: Target + 'scope,
        L: InitBufs + 'scope,
    {
        let whole = Whole { len: room(&mut bufs), offset, way: Way::In };
        move_all(self, fd, bufs, whole, read, same)
    }

    /// As [`Ring::write_all_vectored`], with buffers that may be borrowed.
    ///
    /// # Errors
    ///
    /// As [`Ring::write_all`]. After an error, the borrows last until the end of the scope.
    pub fn write_all_vectored<F, L>(
        &mut self,
        fd: F,
        bufs: L,
        offset: Offset,
    ) -> Result<Outcome<(), F, L>, EnterError>
    where
        F: Target + 'scope,
        L: IoBufs + 'scope,
    {
        let whole = Whole { len: length(&bufs), offset, way: Way::Out };
        move_all(self, fd, bufs, whole, write, same)
    }
}

/// How many bytes the buffers show.
fn room(bufs: &mut impl InitBufs) -> usize {
    let mut len = 0_usize;
    bufs.each_mut(&mut |bytes| len = len.saturating_add(bytes.len()));
    len
}

/// How many bytes there are to write.
fn length(bufs: &impl IoBufs) -> usize {
    let mut len = 0_usize;
    bufs.regions(&mut |region| len = len.saturating_add(region.len()));
    len
}

fn same<L>(bufs: L) -> L {
    bufs
}

fn read<F, L: InitBufs>(
    fd: F,
    bufs: L,
    range: Range<usize>,
    offset: Offset,
) -> ReadV<F, ScatterRest<L>> {
    ReadV::rest(fd, bufs, range.start).offset(offset)
}

fn write<F, L: IoBufs>(
    fd: F,
    bufs: L,
    range: Range<usize>,
    offset: Offset,
) -> WriteV<F, GatherRest<L>> {
    WriteV::rest(fd, bufs, range.start).offset(offset)
}
