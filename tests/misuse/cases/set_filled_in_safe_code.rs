//! E0133: code that declares bytes as written vouches for it.

use annulus::buf::IoBufMut;

fn main() {
    let mut buf: Vec<u8> = Vec::with_capacity(16);
    buf.region_mut();
    buf.set_filled(16); // misuse
}
