//! E0277: a raw ring may have an index of its thread as its name; without, it is another type.

use annulus::Setup;

fn main() {
    let ring = Setup::plain(8).build_raw().unwrap();
    let free = Setup::plain(8).build_raw().unwrap().into_send().unwrap();
    std::thread::spawn(|| drop(ring)); // misuse
    std::thread::spawn(|| drop(free));
}
