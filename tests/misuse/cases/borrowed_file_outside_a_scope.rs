//! E0597: a borrowed file could be closed while the kernel has its number, which may then be
//! another file's.

use annulus::Setup;
use annulus::op::Read;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let reader = &reader; // misuse
    let read = ring.submit(Read::new(reader, vec![0; 16])).unwrap();
    std::mem::forget(read);
}
