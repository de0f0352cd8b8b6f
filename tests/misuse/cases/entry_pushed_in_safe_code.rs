//! E0133: code that pushes an entry vouches for the memory that it points to.

use annulus::Setup;
use annulus::prep;

fn main() {
    let mut ring = Setup::new(8).build_raw().unwrap();
    ring.push(prep::nop()).unwrap(); // misuse
    ring.submit().unwrap();
}
