//! E0133: some addresses name descriptors, so code that makes one of any bytes vouches for them.

use annulus::Setup;
use annulus::op::{Address, Bind, Domain, Socket, SocketKind};

fn main() {
    let mut ring = Setup::new(4).build().unwrap();
    let socket = ring.submit(Socket::new(Domain(44), SocketKind::RAW)).unwrap();
    let socket = ring.wait(socket).unwrap().unwrap();
    let xdp = [&[44, 0, 1, 0][..], &[0; 8], &777_i32.to_ne_bytes()].concat();
    let to = Address::from_raw(&xdp); // misuse, instead: `let to = Address::from_bytes(&xdp);`
    ring.submit(Bind::new(socket, to.unwrap())).unwrap();
}
