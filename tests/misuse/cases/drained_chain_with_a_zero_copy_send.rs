//! E0080: a drained chain waits for every completion, even the notification of its own zero-copy
//! send.
//! Says: a chain with a zero-copy send is not drained: it would wait for its own notification

use annulus::Setup;
use annulus::op::{Nop, Op as _, SendZc};
use std::os::unix::net::UnixStream;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    let first = Nop.drained(); // misuse, instead: `let first = Nop.forced();`
    let chain = ring.submit_chain((first, SendZc::new(socket, "bytes"))).unwrap();
    ring.wait_chain(chain).unwrap();
}
