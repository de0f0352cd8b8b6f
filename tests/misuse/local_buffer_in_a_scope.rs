//! E0597: the scope waits behind its closure, when that one's own buffers are gone already.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    ring.scope(|s| {
        let mut buf = [0; 16];
        let buf = &mut buf[..]; // misuse
        let read = s.submit(Read::new(&reader, buf)).unwrap();
        std::mem::forget(read);
    });
}
