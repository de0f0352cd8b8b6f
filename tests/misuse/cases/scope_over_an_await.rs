//! E0728: a future may be forgotten between two polls, and the borrows of its frame end then.

use annulus::op::Nop;
use annulus::{Ring, Setup};

async fn borrows(ring: &mut Ring) {
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        std::future::ready(()).await; // misuse
        s.wait(nop).unwrap();
    });
}

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    drop(borrows(&mut ring));
}
