//! E0080: an operation is stored in a slot, and all slots have one size; a larger one goes into a
//! box.
//! Says: the operation is larger than a slot (256 bytes): put its buffers into a Box

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let buf = [0; 4096]; // misuse, instead: `let buf = Box::new([0; 4096]);`
    let read = ring.submit(Read::new(reader, buf)).unwrap();
    ring.detach(read);
}
