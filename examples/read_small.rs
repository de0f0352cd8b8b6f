//! A file, read through a ring, in ten lines.
//!
//! ```text
//!   Read { file, buf } ─► submit ─► ticket ─► wait ─► Outcome { result, file, buf }
//! ```
//!
//! Look at: what moves. The read takes the file and the buffer, and the outcome gives both back; in
//! between they are the ring's. `strace -c` counts two enters for a file of one page: one for its
//! bytes, and one for its end. Linux 5.6.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use annulus::{Setup, op::Read};

/// Prints a file.
#[derive(clap::Parser)]
struct Arguments {
    /// What to print.
    path: PathBuf,
}

// ANCHOR: main
fn main() -> io::Result<()> {
    let mut file = File::open(<Arguments as clap::Parser>::parse().path)?;
    let (mut ring, mut buf) = (Setup::new(8).build()?, Vec::with_capacity(4096));
    loop {
        let read = ring.submit(Read::new(file, buf))?; // The ring has both now.
        let outcome = ring.wait(read)?;
        if outcome.result? == 0 {
            return Ok(()); // The end of the file.
        }
        (file, buf) = (outcome.fd, outcome.buf); // And we have them again.
        io::stdout().write_all(&buf)?;
    }
}
// ANCHOR_END: main
