//! E0382: a lease in flight belongs to the ring, so its buffer cannot be leased again.

use annulus::Setup;
use annulus::op::WriteFixed;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let pool = ring.fixed_pool(1, 4096).unwrap();
    let lease = pool.get().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    let write = ring.submit(WriteFixed::new(writer, lease)).unwrap();
    drop(lease); // misuse
    ring.detach(write);
}
