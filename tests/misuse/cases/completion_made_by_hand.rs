//! E0616: only the kernel decides how an operation ended.

use annulus::op::Done;

fn done(mut told: Done) -> Done {
    told.result = 4096; // misuse, instead: ` `
    told
}

fn main() {
    let _ = done;
}
