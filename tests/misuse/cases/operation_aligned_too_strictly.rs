//! E0080: a slot begins at a multiple of 64 bytes, so a type that needs more goes into a box.
//! Says: the operation is aligned too strictly

use annulus::Setup;
use annulus::buf::{IoBuf, Region};
use annulus::op::Write;

#[repr(align(128))]
struct Aligned;

impl IoBuf for Aligned {
    fn region(&self) -> Region<'_> {
        b"bytes".as_slice().into()
    }
}

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    let buf = Aligned; // misuse, instead: `let buf = Box::new(Aligned);`
    let write = ring.submit(Write::new(writer, buf)).unwrap();
    ring.detach(write);
}
