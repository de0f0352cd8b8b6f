//! E0599: what the kernel may write cannot be looked at meanwhile, nor can it be initialised yet.

use annulus::buf::IoBufMut;

fn main() {
    let mut buf = Vec::with_capacity(16);
    let region = buf.region_mut();
    println!("{:?}", region.as_slice()); // misuse
    println!("{:?}", region.len());
}
