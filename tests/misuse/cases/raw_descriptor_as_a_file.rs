//! E0277: a number keeps no file open, and when the kernel looks it up it may be another file's.

use annulus::op::{Op, Read};
use std::os::fd::AsRawFd;

fn accepts(_: impl Op) {}

fn main() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let number = reader.as_raw_fd();
    accepts(Read::new(number, [0; 16])); // misuse
    accepts(Read::new(reader, [0; 16]));
}
