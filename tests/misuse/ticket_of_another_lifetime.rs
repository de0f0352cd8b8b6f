//! lifetime may not live long enough: an operation is read as the very type that it was written as,
//! since types that differ in lifetimes only may be different buffers.

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
