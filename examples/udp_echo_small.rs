//! A UDP echo server in twenty-five lines: each datagram goes back to its sender, without a copy.
//!
//! ```text
//!   RecvMsgMulti ─► datagram, in a buffer that the kernel picked ─► SendTo ─► the buffer is free
//! ```
//!
//! Look at: the datagram itself is what is sent. Linux 6.0.

use std::{io, net::UdpSocket, rc::Rc};

use annulus::{Arrival, EventLoop, Io, OpId, Setup, lease::BufRing, op};

fn main() -> io::Result<()> {
    let usage = clap::Command::new("udp_echo_small").arg(clap::arg!(<ADDRESS> "where to listen"));
    let socket = UdpSocket::bind(usage.get_matches().get_one::<String>("ADDRESS").unwrap())?;
    println!("listening on {}", socket.local_addr()?);
    let mut ring = Setup::new(256).build_for()?;
    let buffers = ring.buf_ring(128, 2048)?;
    let mut events = EventLoop::new(ring, buffers);
    echo(&mut events.io(), Rc::new(socket))?;
    Ok(events.run(|_, error| eprintln!("{error}"))?)
}

fn echo(io: &mut Io<'_, BufRing>, socket: Rc<UdpSocket>) -> io::Result<OpId> {
    let receive = op::RecvMsgMulti::new(Rc::clone(&socket), io.state).with_address();
    Ok(io.submit_multishot(receive, move |io, arrival| {
        let datagram = match arrival {
            Arrival::Item(datagram) => datagram?,
            Arrival::End(ended) => return ended.how.ok().and_then(|_| echo(io, ended.fd)),
        };
        let from = datagram.from().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let send = op::SendTo::new(Rc::clone(&socket), datagram, from);
        Ok(io.submit(send, |_, sent| sent.result)?)
    })?)
}
