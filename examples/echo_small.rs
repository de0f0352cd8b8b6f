//! An echo server in sixty lines: any number of clients, and a clean end at Ctrl-C.
//!
//! ```text
//!   AcceptMulti ─► echo: Recv ─► Send ─► echo: Recv ─► …     a client has one buffer and one
//!                                                            operation at a time
//! ```
//!
//! Look at: what is not there. No tickets, no tables: the closures own the client, and when `?` or
//! the end of the stream drops the last of them, the connection closes. `07_echo_server` does more:
//! no buffer for each client, limits, and no copy. Linux 5.19.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{self, AcceptMulti, SendFlags, Timeout};
use annulus::{Arrival, EventLoop, Io, Setup};
use signal_hook::{consts::SIGINT, low_level::pipe};

/// Sends back whatever its clients send, until Ctrl-C.
#[derive(clap::Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
}

/// The state of the loop: how many clients came.
#[derive(Debug, Default)]
pub struct Served(pub u64);

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(<Arguments as clap::Parser>::parse().address)?;
    println!("listening on {}; Ctrl-C ends it", listener.local_addr()?);
    let (ours, theirs) = UnixStream::pair()?;
    pipe::register(SIGINT, theirs)?;

    let mut events = EventLoop::new(Setup::new(256).build_for()?, Served::default());
    accept(&mut events.io(), listener)?;
    events.io().submit(op::Recv::new(ours, [0; 1]), |io, _| {
        io.stop();
        Ok(())
    })?;
    events.run(|_, error| eprintln!("{error}"))?;
    println!("{} clients came", events.state.0);
    Ok(())
}

// ANCHOR: accept
/// Accepts clients, without end.
pub fn accept(io: &mut Io<'_, Served>, listener: TcpListener) -> io::Result<()> {
    io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(stream) => {
            io.state.0 += 1;
            echo(io, Rc::new(TcpStream::from(stream?)), Vec::with_capacity(16 << 10))
        }
        // No descriptor is left, for example: in a moment there may be one.
        Arrival::End(ended) => {
            let pause = Timeout::new(Duration::from_millis(100));
            io.submit(pause, |io, _| accept(io, ended.fd))?;
            ended.how.ok().map(drop)
        }
    })?;
    Ok(())
}
// ANCHOR_END: accept

/// Sends back what `client` sends, until it has sent everything.
fn echo(io: &mut Io<'_, Served>, client: Rc<TcpStream>, buf: Vec<u8>) -> io::Result<()> {
    io.submit(op::Recv::new(client, buf), |io, received| {
        if received.result? == 0 {
            return Ok(());
        }
        let send = op::Send::new(received.fd, received.buf).flags(SendFlags::WAIT_ALL);
        io.submit(send, |io, sent| {
            sent.result?;
            echo(io, sent.fd, sent.buf)
        })?;
        Ok(())
    })?;
    Ok(())
}
