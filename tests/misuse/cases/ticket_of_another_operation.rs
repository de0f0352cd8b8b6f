//! E0308: a slot's operation is read as the type that its ticket names.

use annulus::op::{Nop, Read};
use annulus::{Setup, Ticket};
use std::io::PipeReader;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let nop = ring.submit(Nop).unwrap();
    let _: &Ticket<Read<PipeReader, Vec<u8>>> = &nop; // misuse
    ring.detach(nop);
}
