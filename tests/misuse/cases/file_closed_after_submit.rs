//! E0382: a file in flight belongs to the ring, so it cannot be closed while the kernel uses it.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let read = ring.submit(Read::new(reader, [0; 16])).unwrap();
    drop(reader); // misuse
    ring.detach(read);
}
