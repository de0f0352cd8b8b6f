//! E0597: the scope waits after its closure has returned, when the closure's files are closed.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut buf = [0; 16];
    ring.scope(|s| {
        let (reader, _writer) = std::io::pipe().unwrap();
        let reader = &reader; // misuse
        let read = s.submit(Read::new(reader, &mut buf[..])).unwrap();
        std::mem::forget(read);
    });
}
