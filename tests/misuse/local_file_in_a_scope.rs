//! E0597: the scope waits behind its closure, when that one's own files are closed already.

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
