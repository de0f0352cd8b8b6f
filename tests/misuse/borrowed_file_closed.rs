//! E0277: who closes a descriptor must own it, or the owner would close another's.

use annulus::op::Close;

fn main() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let _ = Close::new(&reader); // misuse
    let _ = Close::new(reader);
}
