//! E0521: a scope empties the slots of its chains, so their tickets end with it.

use annulus::Setup;
use annulus::op::Nop;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut kept = None;
    ring.scope(|s| {
        let chain = s.submit_chain([Nop, Nop]).unwrap();
        kept = Some(chain); // misuse, instead: `kept = s.wait_chain(chain).ok();`
    });
    drop(kept);
}
