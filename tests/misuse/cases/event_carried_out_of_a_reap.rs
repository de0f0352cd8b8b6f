//! E0521: an event borrows its slot, which is later used by another operation.

use annulus::{Event, Setup};

fn main() {
    let mut ring = Setup::new(8).build_for::<u64>().unwrap();
    let mut kept = None;
    ring.reap(|event| {
        if let Event::Ended { user, .. } = event {
            kept = Some(user); // misuse, instead: `kept = Some(*user);`
        }
    })
    .unwrap();
    drop(kept);
}
