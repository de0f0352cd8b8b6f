//! E0277: the last owner closes the file in the ring's table, which is not locked.

use annulus::lease::FixedFile;

fn main() {
    let _: fn(FixedFile) = |file| drop(std::thread::spawn(|| drop(file))); // misuse
}
