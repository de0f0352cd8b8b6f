//! Recording: the small echo server of the examples, on Linux, behind a recorder.
//!
//! ```text
//!   clients (threads, std) ◄─ TCP ─► echo_small::accept ─► EventLoop ─► Recorder ─► Linux
//! ```
//!
//! The server's file is the one of `examples/`. What a recorder can see stands at the head of
//! `annulus::sim::recorder`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use annulus::op::Recv;
use annulus::sim::{Record, Recorder};
use annulus::{EventLoop, Setup};

use crate::stage::Failure;

#[expect(dead_code, reason = "the program around the server")]
#[path = "../../echo_small.rs"]
mod echo_small;

const TEXT: &[u8] = b"hello, ring";

/// The records of a server that so many clients ask, `rounds` times each.
///
/// # Errors
///
/// There is no io_uring here, or the network fails.
pub fn echo(clients: u16, rounds: u16) -> Result<Vec<Record>, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let recorder = Recorder::new();
    let setup = Setup::new(8).cq_entries(64).kernel(recorder.kernel());
    let mut events = EventLoop::new(setup.build_for()?, echo_small::Served::default());
    echo_small::accept(&mut events.io(), listener)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    events.io().submit(Recv::new(ours, [0; 1]), |io, _| {
        io.stop();
        Ok(())
    })?;
    let asking = thread::spawn(move || -> std::io::Result<()> {
        let outcome = (0..clients).try_for_each(|_| ask(address, rounds));
        theirs.write_all(b"!")?;
        outcome
    });
    events.run(|_, error| eprintln!("a client: {error}"))?;
    asking.join().map_err(|_| "the clients panicked")??;
    drop(events);
    Ok(recorder.trace())
}

fn ask(address: SocketAddr, rounds: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut echo = [0; TEXT.len()];
    for _ in 0..rounds {
        stream.write_all(TEXT)?;
        stream.read_exact(&mut echo)?;
    }
    Ok(())
}
