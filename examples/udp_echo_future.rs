//! A UDP echo server in fifteen lines of `async`: each datagram goes back to its sender.
//!
//! Look at: an operation owns its buffer, and gives it back with the output. `udp_echo_small` has
//! many datagrams at once, in buffers that the kernel picks. Every datagram of UDP has a sender, so
//! that there is always one to unwrap. Linux 6.0.

use std::{io, net::UdpSocket, rc::Rc};

use annulus::{Setup, future::Reactor, op::RecvMsg, op::SendTo};

fn main() -> io::Result<()> {
    let usage = clap::Command::new("udp_echo_future").arg(clap::arg!(<ADDRESS> "where to listen"));
    let udp = UdpSocket::bind(usage.get_matches().get_one::<String>("ADDRESS").unwrap())?;
    println!("listening on {}", udp.local_addr()?);
    let (udp, reactor) = (Rc::new(udp), Reactor::new(Setup::new(8).build_for()?));
    reactor.block_on(async {
        loop {
            let recv = RecvMsg::new(Rc::clone(&udp), [Vec::with_capacity(65536)]).with_address();
            let (got, [buf]) = reactor.run(recv).await?.ok()?;
            reactor.run(SendTo::new(Rc::clone(&udp), buf, got.from.unwrap())).await?.result.ok();
        }
    })?
}
