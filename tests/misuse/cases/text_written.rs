//! E0277: a `String` holds UTF-8, which the kernel does not promise to write.

use annulus::op::{Op, Read, Write};

fn accepts(_: impl Op) {}

fn main() {
    let (reader, writer) = std::io::pipe().unwrap();
    accepts(Read::new(reader, String::from("text"))); // misuse
    accepts(Write::new(writer, String::from("text")));
}
