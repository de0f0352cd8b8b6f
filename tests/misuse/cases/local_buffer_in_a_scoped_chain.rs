//! E0597: the scope waits for its chains, too, only when the closure's buffers are freed.

use annulus::Setup;
use annulus::op::{Nop, Read};

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    ring.scope(|s| {
        let mut buf = [0; 16];
        let buf = &mut buf[..]; // misuse
        let chain = s.submit_chain((Nop, Read::new(&reader, buf))).unwrap();
        std::mem::forget(chain);
    });
}
