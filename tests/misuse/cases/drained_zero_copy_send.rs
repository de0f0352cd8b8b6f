//! E0080: a zero-copy send that waits for all operations waits for its own notification, too.
//! Says: a zero-copy send cannot be drained: it would wait for its own notification

use annulus::Setup;
use annulus::op::{Op as _, SendZc};
use std::os::unix::net::UnixStream;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    let send = SendZc::new(socket, "bytes");
    let send = send.drained(); // misuse
    let send = ring.submit(send).unwrap();
    ring.detach(send);
}
