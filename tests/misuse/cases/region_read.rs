//! E0599: memory that the kernel may write cannot be read meanwhile, and may be uninitialised.

use annulus::buf::IoBufMut;

fn main() {
    let mut buf = Vec::with_capacity(16);
    let region = buf.region_mut();
    println!("{:?}", region.as_slice()); // misuse
    println!("{:?}", region.len());
}
