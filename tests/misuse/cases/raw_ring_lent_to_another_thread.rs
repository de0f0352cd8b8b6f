//! E0277: what a ring that can be sent lends is a ring of the thread that has it.

use annulus::Setup;

fn main() {
    let mut ring = Setup::plain(8).build_raw().unwrap().into_send().unwrap();
    std::thread::scope(|threads| {
        let lent: &mut annulus::RawRing = &mut ring;
        threads.spawn(|| lent.submit().is_ok()); // misuse
    });
    std::thread::spawn(move || ring.submit().is_ok());
}
