//! E0499: after two reads into one buffer, no one could tell which read wrote which bytes.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = [0; 16];
    ring.scope(|s| {
        let first = s.submit(Read::new(&reader, &mut buf[..])).unwrap();
        let buf = &mut buf[..]; // misuse, instead: `let buf = s.wait(first).unwrap().buf;`
        let second = s.submit(Read::new(&reader, buf)).unwrap();
        s.wait(second).unwrap();
    });
}
