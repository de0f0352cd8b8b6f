//! E0133: rings that share threads share their fate, so code that attaches one vouches for the
//! other.

use annulus::Setup;
use std::os::fd::AsFd;

fn main() {
    let (file, _writer) = std::io::pipe().unwrap();
    let setup = Setup::new(8);
    let setup = setup.attach(file.as_fd()); // misuse
    setup.build().unwrap();
    drop(file);
}
