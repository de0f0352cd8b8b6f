//! E0521: operations of a scope end with it, so nothing can be submitted to it afterwards.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut kept = None;
    ring.scope(|s| {
        kept = Some(s); // misuse, instead: `kept = s.submit_all().ok();`
    });
    drop(kept);
}
