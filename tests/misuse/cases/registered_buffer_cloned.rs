//! E0599: two leases of one buffer would be two exclusive borrows of its bytes.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let pool = ring.fixed_pool(1, 4096).unwrap();
    let lease = pool.get().unwrap();
    drop(lease.clone()); // misuse
}
