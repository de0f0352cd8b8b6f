//! E0502: the kernel looks the number up later, when it might be another file's.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut reader = Some(reader);
    let mut buf = [0; 16];
    ring.scope(|s| {
        let read = s.submit(Read::new(reader.as_ref().unwrap(), &mut buf[..])).unwrap();
        drop(reader.take()); // misuse
        s.cancel(&read).unwrap();
    });
    drop(reader.take());
}
