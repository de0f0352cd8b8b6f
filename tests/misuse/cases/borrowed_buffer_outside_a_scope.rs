//! E0597: outside of a scope nothing waits for the kernel before a borrow ends, since a ticket can
//! be forgotten.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = [0; 16];
    let buf = &mut buf[..]; // misuse
    let read = ring.submit(Read::new(reader, buf)).unwrap();
    std::mem::forget(read);
}
