//! E0451: what an operation ended with is for the kernel to say.

use annulus::op::Done;

fn done(told: Done) -> Done {
    Done { result: 4096, ..told } // misuse, instead: `told`
}

fn main() {
    let _ = done;
}
