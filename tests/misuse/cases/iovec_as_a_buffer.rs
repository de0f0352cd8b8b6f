//! E0277: an iovec is a pointer in the form of data: it names memory, and neither owns nor borrows
//! it.

use annulus::buf::IoBufsMut;

fn scatters(_: impl IoBufsMut) {}

/// The type that `libc` calls `iovec`.
struct Iovec {
    _base: *mut u8,
    _len: usize,
}

fn main() {
    let mut buf = vec![0_u8; 16];
    let iovec = Iovec { _base: buf.as_mut_ptr(), _len: 16 };
    scatters([iovec]); // misuse
    scatters([buf]);
}
