//! E0277: a ring belongs to the thread that made it, and the kernel takes entries from no other.

use annulus::Setup;

fn main() {
    let ring = Setup::new(8).build().unwrap();
    let disabled = Setup::new(8).build_disabled().unwrap();
    std::thread::spawn(|| drop(ring)); // misuse
    std::thread::spawn(|| disabled.enable().is_ok());
}
