//! The server of `echo_small` with a planted bug: it believes that a send sends everything.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{self, AcceptMulti, Timeout};
use annulus::{Arrival, Io};

use crate::echo_small::Served;

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

/// Sends back what `client` sends, until it has sent everything.
fn echo(io: &mut Io<'_, Served>, client: Rc<TcpStream>, buf: Vec<u8>) -> io::Result<()> {
    io.submit(op::Recv::new(client, buf), |io, received| {
        if received.result? == 0 {
            return Ok(());
        }
        let send = op::Send::new(received.fd, received.buf); // The bug: without WAIT_ALL.
        io.submit(send, |io, sent| {
            sent.result?;
            echo(io, sent.fd, sent.buf)
        })?;
        Ok(())
    })?;
    Ok(())
}
