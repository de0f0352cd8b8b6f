//! E0277: code that closes a descriptor must own it, or the owner would later close another file.

use annulus::op::Close;

fn main() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let _ = Close::new(&reader); // misuse
    let _ = Close::new(reader);
}
