//! E0382: a buffer in flight belongs to the ring, which gives it back with the result.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let buf = vec![0; 16];
    let read = ring.submit(Read::new(reader, buf)).unwrap();
    println!("{}", buf.len()); // misuse
    ring.detach(read);
}
