//! E0451: the fields of a region are private, so that each region comes from a borrow.

use annulus::buf::Region;
use std::marker::PhantomData;
use std::ptr::NonNull;

fn region(start: NonNull<u8>) -> Region<'static> {
    let _start = start;
    Region { start, len: 16, borrow: PhantomData } // misuse, instead: `[].as_slice().into()`
}

fn main() {
    region(NonNull::dangling());
}
