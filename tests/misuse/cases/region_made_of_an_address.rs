//! E0277: a region is made of a borrow, which lasts until the kernel is done; an address is no
//! borrow.

use annulus::buf::Region;

fn main() {
    let bytes = [0_u8; 16];
    let _region: Region = (bytes.as_ptr(), bytes.len()).into(); // misuse
    let _region: Region = bytes.as_slice().into();
}
