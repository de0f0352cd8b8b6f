//! E0521: what is submitted to a scope ends with it, so there is no scope to submit to afterwards.

use annulus::Setup;

fn main() {
    let mut ring = Setup::new(8).build().unwrap();
    let mut kept = None;
    ring.scope(|s| {
        kept = Some(s); // misuse, instead: `kept = s.submit_all().ok();`
    });
    drop(kept);
}
