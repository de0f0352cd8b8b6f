//! E0277: lists of buffers are arrays and tuples, whose tables are made here from borrows.

use annulus::buf::{IoBuf, IoBufs, Region};

fn gathers(_: impl IoBufs) {}

/// Could return one table when first asked, and another later.
struct List(Vec<Vec<u8>>);

impl IoBuf for List {
    fn region(&self) -> Region<'_> {
        self.0[0].as_slice().into()
    }
}

fn main() {
    gathers(List(vec![vec![0; 16]])); // misuse
    gathers([List(vec![vec![0; 16]])]);
}
