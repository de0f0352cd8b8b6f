//! Lists whose length is known only at run time: a `Vec` or a boxed slice of buffers.
//!
//! | list | table |
//! |---|---|
//! | `[B; N]`, tuples | in the operation, of the same length |
//! | `Vec<B>`, `Box<[B]>` | allocated for each operation |
//!
//! Leaves to others: lists whose length is part of their type (`vectored`).
#![allow(unsafe_code, reason = "says which bytes of which buffer the kernel has written")]

use super::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec, Left, Region, sealed};

/// The most buffers that the kernel accepts in one operation (`UIO_MAXIOV`). A longer list sees a
/// short transfer.
pub(super) const MAX_BUFS: usize = 1024;

impl<B> sealed::Sealed for Vec<B> {}
impl<B> sealed::Sealed for Box<[B]> {}

fn table<B: IoBuf>(bufs: &[B]) -> Vec<IoVec> {
    let mut left = Left::WHOLE;
    bufs.iter().take(MAX_BUFS).map(|buf| left.read(buf.region())).collect()
}

fn table_mut<B: IoBufMut>(bufs: &mut [B]) -> Vec<IoVec> {
    let mut left = Left::WHOLE;
    bufs.iter_mut().take(MAX_BUFS).map(|buf| left.write(buf.region_mut())).collect()
}

/// Tells each buffer its share.
///
/// # Safety
///
/// As for [`IoBufsMut::set_filled`].
unsafe fn set_filled<B: IoBufMut>(bufs: &mut [B], table: &[IoVec], count: u64) {
    let mut written = Left { bytes: count };
    let lens = table.iter().map(|entry| entry.len).chain(std::iter::repeat(0));
    for (buf, len) in bufs.iter_mut().zip(lens) {
        let share = written.take(len);
        let share = usize::try_from(share).expect("entries have at most MAX_TRANSFER bytes");
        // SAFETY: the earlier entries are full, so `share` bytes of this one were written, as
        // promised to `set_filled`.
        unsafe { buf.set_filled(share) };
    }
}

/// The table is allocated for each operation. One operation transfers at most the first 1024
/// buffers.
impl<B: IoBuf> IoBufs for Vec<B> {
    type Table = Vec<IoVec>;
    const EMPTY: Self::Table = Vec::new();

    fn table(&self) -> Vec<IoVec> {
        table(self)
    }

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        self.iter().for_each(|buf| each(buf.region()));
    }
}

/// The table is allocated for each operation. One operation transfers at most the first 1024
/// buffers.
impl<B: IoBufMut> IoBufsMut for Vec<B> {
    type Table = Vec<IoVec>;
    const EMPTY: Self::Table = Vec::new();

    fn table_mut(&mut self) -> Vec<IoVec> {
        table_mut(self)
    }

    fn count(&self) -> usize {
        self.len()
    }

    unsafe fn set_filled(&mut self, table: &Vec<IoVec>, count: u64) {
        // SAFETY: as promised to `IoBufsMut::set_filled`.
        unsafe { set_filled(self, table, count) };
    }
}

/// The table is allocated for each operation. One operation transfers at most the first 1024
/// buffers.
impl<B: IoBuf> IoBufs for Box<[B]> {
    type Table = Vec<IoVec>;
    const EMPTY: Self::Table = Vec::new();

    fn table(&self) -> Vec<IoVec> {
        table(self)
    }

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        self.iter().for_each(|buf| each(buf.region()));
    }
}

/// The table is allocated for each operation. One operation transfers at most the first 1024
/// buffers.
impl<B: IoBufMut> IoBufsMut for Box<[B]> {
    type Table = Vec<IoVec>;
    const EMPTY: Self::Table = Vec::new();

    fn table_mut(&mut self) -> Vec<IoVec> {
        table_mut(self)
    }

    fn count(&self) -> usize {
        self.len()
    }

    unsafe fn set_filled(&mut self, table: &Vec<IoVec>, count: u64) {
        // SAFETY: as promised to `IoBufsMut::set_filled`.
        unsafe { set_filled(self, table, count) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_is_cut_where_the_kernel_cuts_it() {
        let mut bufs: Vec<[u8; 2]> = vec![[0; 2]; 1030];
        assert_eq!(IoBufs::table(&bufs).len(), MAX_BUFS);
        assert_eq!(bufs.table_mut().len(), MAX_BUFS);
        assert_eq!(IoBufs::table(&Vec::<String>::new()).len(), 0);
        let boxed: Box<[[u8; 2]]> = bufs.into();
        assert_eq!(IoBufs::table(&boxed).len(), MAX_BUFS);
    }

    #[test]
    fn each_buffer_of_a_list_shows_its_share_also_those_beyond_the_table() {
        let mut bufs: Vec<Vec<u8>> = (0..1026).map(|_| b"ab".to_vec()).collect();
        bufs.iter_mut().for_each(|buf| buf.shrink_to_fit());
        let table = bufs.table_mut();
        // SAFETY: every byte of the regions is initialised, since the vectors are full.
        unsafe { bufs.set_filled(&table, 3) };
        let lens: Vec<usize> = bufs.iter().map(Vec::len).collect();
        assert_eq!((lens[0], lens[1], lens[2], lens[1025]), (2, 1, 0, 0));
    }
}
