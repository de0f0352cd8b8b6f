//! E0597: a buffer that a chain borrows would be freed before its steps end, unless a scope waits.

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
