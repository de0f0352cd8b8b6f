//! E0597: a message header moves with its operation, so it owns the files attached to it.

use annulus::op::MsgHeader;

fn main() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut header = MsgHeader::new();
    let reader = &reader; // misuse
    header.attach(reader).unwrap();
}
