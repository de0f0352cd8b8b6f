//! Lists of two to four buffers of different types: tuples.
//!
//! Leaves to others: arrays and boxes (`vectored`), lists of any length (`lists`).
#![allow(unsafe_code, reason = "says which bytes of which buffer the kernel has written")]

use super::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec, Left, Region, share_out};

impl<A: IoBuf, B: IoBuf> IoBufs for (A, B) {
    type Table = [IoVec; 2];
    const EMPTY: Self::Table = [IoVec::EMPTY; 2];

    #[inline]
    fn table(&self) -> Self::Table {
        let (mut left, (a, b)) = (Left::WHOLE, self);
        [left.read(a.region()), left.read(b.region())]
    }

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        let (a, b) = self;
        each(a.region());
        each(b.region());
    }
}

impl<A: IoBufMut, B: IoBufMut> IoBufsMut for (A, B) {
    type Table = [IoVec; 2];
    const EMPTY: Self::Table = [IoVec::EMPTY; 2];

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let (mut left, (a, b)) = (Left::WHOLE, self);
        [left.write(a.region_mut()), left.write(b.region_mut())]
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let (a, b) = self;
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out([a, b], table, count) };
    }
}

impl<A: IoBuf, B: IoBuf, C: IoBuf> IoBufs for (A, B, C) {
    type Table = [IoVec; 3];
    const EMPTY: Self::Table = [IoVec::EMPTY; 3];

    #[inline]
    fn table(&self) -> Self::Table {
        let (mut left, (a, b, c)) = (Left::WHOLE, self);
        [left.read(a.region()), left.read(b.region()), left.read(c.region())]
    }

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        let (a, b, c) = self;
        each(a.region());
        each(b.region());
        each(c.region());
    }
}

impl<A: IoBufMut, B: IoBufMut, C: IoBufMut> IoBufsMut for (A, B, C) {
    type Table = [IoVec; 3];
    const EMPTY: Self::Table = [IoVec::EMPTY; 3];

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let (mut left, (a, b, c)) = (Left::WHOLE, self);
        [left.write(a.region_mut()), left.write(b.region_mut()), left.write(c.region_mut())]
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let (a, b, c) = self;
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out([a, b, c], table, count) };
    }
}

impl<A: IoBuf, B: IoBuf, C: IoBuf, D: IoBuf> IoBufs for (A, B, C, D) {
    type Table = [IoVec; 4];
    const EMPTY: Self::Table = [IoVec::EMPTY; 4];

    #[inline]
    fn table(&self) -> Self::Table {
        let (mut left, (a, b, c, d)) = (Left::WHOLE, self);
        let (a, b) = (left.read(a.region()), left.read(b.region()));
        [a, b, left.read(c.region()), left.read(d.region())]
    }

    fn regions(&self, each: &mut dyn FnMut(Region<'_>)) {
        let (a, b, c, d) = self;
        each(a.region());
        each(b.region());
        each(c.region());
        each(d.region());
    }
}

impl<A: IoBufMut, B: IoBufMut, C: IoBufMut, D: IoBufMut> IoBufsMut for (A, B, C, D) {
    type Table = [IoVec; 4];
    const EMPTY: Self::Table = [IoVec::EMPTY; 4];

    #[inline]
    fn table_mut(&mut self) -> Self::Table {
        let (mut left, (a, b, c, d)) = (Left::WHOLE, self);
        let (a, b) = (left.write(a.region_mut()), left.write(b.region_mut()));
        [a, b, left.write(c.region_mut()), left.write(d.region_mut())]
    }

    #[inline]
    unsafe fn set_filled(&mut self, table: &Self::Table, count: u64) {
        let (a, b, c, d) = self;
        // SAFETY: as promised to `set_filled`.
        unsafe { share_out([a, b, c, d], table, count) };
    }
}
