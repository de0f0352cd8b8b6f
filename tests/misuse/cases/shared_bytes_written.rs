//! E0277: bytes that other threads may read at any time are for the kernel to read, not to write.

use annulus::op::{Op, Read, Write};
use std::rc::Rc;

fn accepts(_: impl Op) {}

fn main() {
    let (reader, writer) = std::io::pipe().unwrap();
    let shared: Rc<[u8]> = Rc::from(*b"shared");
    accepts(Read::new(reader, shared.clone())); // misuse
    accepts(Write::new(writer, shared));
}
