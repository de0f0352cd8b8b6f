//! E0506: forgetting a ticket ends nothing: the kernel still writes the buffer.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = [0; 16];
    ring.scope(|s| {
        let read = s.submit(Read::new(&reader, &mut buf[..])).unwrap();
        std::mem::forget(read);
        buf[0] = 1; // misuse
    });
}
