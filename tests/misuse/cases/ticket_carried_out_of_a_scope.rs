//! E0521: a scope empties its slots, so its tickets end with it.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut kept = None;
    ring.scope(|s| {
        let nop = s.submit(Nop).unwrap();
        kept = Some(nop); // misuse, instead: `kept = s.wait(nop).ok();`
    });
    drop(kept);
}
