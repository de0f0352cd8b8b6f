//! E0506: the kernel writes the buffer until the scope ends, or gives it back.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = [0; 16];
    ring.scope(|s| {
        let read = s.submit(Read::new(&reader, &mut buf[..])).unwrap();
        buf[0] = 1; // misuse
        s.cancel(&read).unwrap();
    });
    buf[0] = 2;
}
