//! E0277: the kernel would take the number of a registered file for that of a descriptor.

use annulus::lease::FixedFile;
use annulus::op::{EpollCtl, EpollEvent};
use std::os::fd::OwnedFd;

fn main() {
    let _: fn(OwnedFd, FixedFile, EpollEvent) = |epoll, file, event| {
        drop(EpollCtl::add(epoll, file, event)); // misuse
    };
}
