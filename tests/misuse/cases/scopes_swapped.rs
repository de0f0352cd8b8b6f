//! E0521: each scope would wait for the operations of the other.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut other = Setup::new(8).build().unwrap();
    ring.scope(|a| {
        other.scope(|b| {
            std::mem::swap(a, b); // misuse
            b.submit_all().unwrap();
        });
        a.submit_all().unwrap();
    });
}
