//! E0277: a pointer neither owns nor borrows the memory that the kernel would write.

use annulus::op::{Op, Read};

fn accepts(_: impl Op) {}

fn main() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = vec![0_u8; 16];
    accepts(Read::new(&reader, buf.as_mut_ptr())); // misuse
    accepts(Read::new(&reader, buf));
}
