//! An echo server in thirty lines of `async`, for any number of clients, until it is killed.
//!
//! ```text
//!   block_on ─► tasks.run ─┬─ items of AcceptMulti
//!                          └─ a task for each client: Recv ─► Send ─► Recv ..
//! ```
//!
//! Look at: who does what. The executor is smol's, and has the tasks; `block_on` polls it, and one
//! system call submits what all of them want, and waits. A client has one buffer, which goes to the
//! ring and comes back. `echo_small` is the same with closures. Linux 5.19.

use std::{io, net::TcpListener, os::fd::OwnedFd, rc::Rc, time::Duration};

use annulus::op::{AcceptMulti, Recv, Send, SendFlags};
use annulus::{Setup, future::Reactor};

fn main() -> io::Result<()> {
    let usage = clap::Command::new("echo_future").arg(clap::arg!(<ADDRESS> "where to listen"));
    let listener = TcpListener::bind(usage.get_matches().get_one::<String>("ADDRESS").unwrap())?;
    println!("listening on {}", listener.local_addr()?);
    let (listener, tasks) = (Rc::new(listener), smol::LocalExecutor::new());
    let reactor = Reactor::new(Setup::new(256).build_for()?);
    reactor.block_on(tasks.run(async {
        loop {
            let mut clients = reactor.items(AcceptMulti::new(Rc::clone(&listener)));
            while let Some(Ok(client)) = clients.next().await {
                tasks.spawn(echo(reactor.clone(), client)).detach();
            }
            // No descriptor is left, for example: in a moment there may be one.
            reactor.sleep(Duration::from_millis(100)).await??;
        }
    }))?
}

/// Sends back what `client` sends, until it has sent everything.
async fn echo(reactor: Reactor, client: OwnedFd) -> io::Result<()> {
    let mut next = Recv::new(client, Vec::with_capacity(16 << 10));
    loop {
        let got = reactor.run(next).await?;
        if got.result? == 0 {
            return Ok(());
        }
        let sent = reactor.run(Send::new(got.fd, got.buf).flags(SendFlags::WAIT_ALL)).await?;
        next = sent.result.map(|_| Recv::new(sent.fd, sent.buf))?;
    }
}
