//! E0597: the scope waits after its closure has returned, when the closure's buffers are freed.

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
