//! E0515: the lock would be released, and the bytes freed, while the kernel reads them.

use annulus::buf::{IoBuf, Region};
use std::cell::RefCell;
use std::rc::Rc;

struct Shared {
    changing: Rc<RefCell<Vec<u8>>>,
    fixed: Rc<Vec<u8>>,
}

impl IoBuf for Shared {
    fn region(&self) -> Region<'_> {
        let _ = (&self.changing, &self.fixed);
        self.changing.borrow().as_slice().into() // misuse, instead: `self.fixed.region()`
    }
}

fn main() {}
