//! E0599: nothing can be submitted to a ring before it is enabled, on the thread that will use it.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut disabled = Setup::new(8).build_disabled().unwrap();
    disabled.submit(Nop).unwrap(); // misuse
    disabled.enable().unwrap().submit(Nop).unwrap();
}
