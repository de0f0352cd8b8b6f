//! E0499: a region is an exclusive borrow of its owner.

use annulus::buf::IoBufMut;

fn main() {
    let mut buf = Vec::with_capacity(16);
    let region = buf.region_mut();
    buf.push(1); // misuse
    println!("{:?}", region.len());
}
