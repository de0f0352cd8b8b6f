//! E0133: rings that share threads share their fate, even one whose request is made by hand.

use annulus::sys::kernel::Kernel;
use annulus::sys::rings::{self, Request, Rings};
use std::os::fd::AsFd;

fn main() {
    let (file, _writer) = std::io::pipe().unwrap();
    let fd = file.as_fd();
    let attach = Some(rings::Attached::to(fd)); // misuse, instead: `let attach = None;`
    Rings::setup(&Kernel::LINUX, &Request { attach, ..Request::new(8) }).unwrap();
}
