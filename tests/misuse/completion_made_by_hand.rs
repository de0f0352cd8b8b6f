//! E0616: what an operation ended with is for the kernel to say.

use annulus::op::Done;

fn done(mut told: Done) -> Done {
    told.result = 4096; // misuse, instead: ` `
    told
}

fn main() {
    let _ = done;
}
