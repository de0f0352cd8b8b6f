//! E0597: what a chain borrows would be gone before its steps are, unless a scope waits for them.

use annulus::Setup;
use annulus::op::{Nop, Read};

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut buf = [0; 16];
    let buf = &mut buf[..]; // misuse
    let chain = ring.submit_chain((Nop, Read::new(reader, buf))).unwrap();
    std::mem::forget(chain);
}
