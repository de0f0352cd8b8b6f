//! E0597: an envelope goes where its operation goes, so it owns what is attached to it.

use annulus::op::Envelope;

fn main() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut envelope = Envelope::new();
    let reader = &reader; // misuse
    envelope.attach(reader).unwrap();
}
