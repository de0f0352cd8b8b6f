//! A server whose clients never have a descriptor, in forty lines: each is answered once, in
//! capitals.
//!
//! ```text
//!   one chain      Accept ─► place 0 of the table ─► ReadFixed into buffer 0
//!   another        WriteFixed of buffer 0 ─► ClearFile: closed, and the place is still ours
//! ```
//!
//! Look at: the number of the connection, which is known before there is one. So the read can be
//! linked to the accept, and a client is two chains: `strace` shows enters, and no other call. Who
//! says nothing within a second gets no answer. Linux 5.19.

use std::{io, net::TcpListener, time::Duration};

use annulus::op::{Accept, ClearFile, ReadFixed, WriteFixed};
use annulus::{Setup, Step as _, StepExt as _};

fn main() -> io::Result<()> {
    let usage = clap::Command::new("fixed_small").arg(clap::arg!(<ADDRESS> "where to listen"));
    let address = usage.get_matches().remove_one::<String>("ADDRESS").unwrap();
    let mut listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    // ANCHOR: make
    let mut ring = Setup::new(8).build()?;
    let (table, pool) = (ring.file_table(1)?, ring.fixed_pool(1, 4096)?);
    let (mut place, mut buf) = (table.reserve(&mut ring)?, pool.get().expect("it is free"));
    // ANCHOR_END: make
    // ANCHOR: turn
    loop {
        let accept = Accept::new(listener).direct_to(&place);
        let read = ReadFixed::new(place.clone(), buf).within(Duration::from_secs(1));
        let tickets = ring.submit_chain((accept, read))?;
        let (accepted, read) = ring.wait_chain(tickets)?.outputs;
        (listener, buf) = (accepted.fd, read.output.buf);
        accepted.result?;
        match read.output.result {
            Ok(_) => buf.make_ascii_uppercase(),
            Err(_) => buf.set_len(0), // What the client before has said is not for this one.
        }
        let write = WriteFixed::new(place.clone(), buf).hard();
        let tickets = ring.submit_chain((write, ClearFile::new(place)))?;
        let (written, cleared) = ring.wait_chain(tickets)?.outputs;
        (place, buf) = (cleared.fd, written.buf);
        cleared.result?;
    }
    // ANCHOR_END: turn
}
