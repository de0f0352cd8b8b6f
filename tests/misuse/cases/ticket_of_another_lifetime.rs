//! lifetime may not live long enough: an operation is read as the exact type that was written,
//! since types that differ only in lifetimes may be different buffers.

use annulus::Ticket;
use annulus::op::Write;
use std::io::PipeWriter;

fn shorter<'a>(
    ticket: Ticket<Write<PipeWriter, &'static str>>,
) -> Ticket<Write<PipeWriter, &'a str>> {
    ticket // misuse, instead: `unreachable!("{ticket:?}")`
}

fn main() {
    let _ = shorter;
}
