//! A server that receives without end: no buffer for a client that is silent, and no copy of what
//! is sent back in time.
//!
//! ```text
//!   AcceptMulti ─► RecvMulti ─► lease ─► queue ─► Send ─► dropped: the kernel may select it again
//!                      ▲                            │
//!                      └───────── again, if it ended ◄── the queue is empty
//! ```
//!
//! | the receive ends with | then it is submitted again |
//! |---|---|
//! | `Eof` | never: the client has sent all, and its last send drops it |
//! | `Failed` | never: the error is printed, and the client dropped |
//! | `Stopped` | at once: the completion queue was full |
//! | `NoBuffers`, or `Cancelled` since its queue was long | when its queue is empty, or in a moment |
//!
//! Look at: `send_all`, which has one send in flight for each client. What is not there: a limit of
//! time for a client that reads nothing; `07_echo_server` has one. Linux 6.0.

use std::os::fd::{AsFd, BorrowedFd};
use std::{cell::Cell, cell::RefCell, collections::VecDeque, io, net, rc::Rc, time::Duration};

use annulus::buf::IoBuf;
use annulus::lease::{BufLease, BufRing};
use annulus::op::{self, AcceptMulti, Ending, RecvMulti, SendFlags, Timeout};
use annulus::{Arrival, EventLoop, Io, OpId, Setup};

// ANCHOR: client
/// How many leases of a client may wait to be sent.
const MOST: usize = 16;

/// What waits to be sent.
enum Part {
    Lease(BufLease),
    /// What came after `MOST` leases, until the cancel arrived: that may be hundreds of buffers.
    Copy(Vec<u8>),
}

/// A client. It closes when none of its operations is left to own it.
struct Client {
    stream: net::TcpStream,
    queue: RefCell<VecDeque<Part>>,
    is_sending: Cell<bool>,
    /// `None` while it waits to be submitted again.
    receive: Cell<Option<OpId>>,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
// ANCHOR_END: client

// ANCHOR: main
fn main() -> io::Result<()> {
    let usage = clap::Command::new("multishot_small").arg(clap::arg!(<ADDRESS> "where to listen"));
    let address = usage.get_matches().remove_one::<String>("ADDRESS").unwrap();
    let listener = net::TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut ring = Setup::new(256).cq_entries(4096).build_for()?;
    let buffers = ring.buf_ring(256, 4096)?;
    let mut events = EventLoop::new(ring, buffers);
    accept(&mut events.io(), listener)?;
    Ok(events.run(|_, error| eprintln!("{error}"))?)
}
// ANCHOR_END: main

// ANCHOR: accept
/// Accepts clients, without end. The state of the loop are the buffers.
pub fn accept(io: &mut Io<'_, BufRing>, listener: net::TcpListener) -> io::Result<()> {
    io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(stream) => {
            let (queue, is_sending, receive) = Default::default();
            let client = Client { stream: stream?.into(), queue, is_sending, receive };
            self::receive(io, &Rc::new(client))
        }
        Arrival::End(ended) => {
            io.submit(Timeout::new(Duration::from_millis(100)), |io, _| accept(io, ended.fd))?;
            ended.how.ok().map(drop)
        }
    })?;
    Ok(())
}
// ANCHOR_END: accept

// ANCHOR: receive
fn receive(io: &mut Io<'_, BufRing>, client: &Rc<Client>) -> io::Result<()> {
    let (receive, client_too) = (RecvMulti::new(Rc::clone(client), io.state), Rc::clone(client));
    let id = io.submit_multishot(receive, move |io, arrival| match arrival {
        Arrival::Item(lease) => {
            let (lease, count) = (lease?, client_too.queue.borrow().len());
            let part = if count < MOST { Part::Lease(lease) } else { Part::Copy(lease.to_vec()) };
            client_too.queue.borrow_mut().push_back(part);
            if count + 1 >= MOST {
                client_too.receive.get().map_or(Ok(()), |id| io.cancel(id))?;
            }
            send(io, &client_too)
        }
        Arrival::End(ended) => match ended.how {
            Ending::Eof => Ok(()),
            Ending::Failed(error) => Err(error),
            Ending::Stopped => self::receive(io, &ended.fd),
            // No buffer, or cancelled. The others may have all buffers, so look again in a moment.
            _ => {
                ended.fd.receive.set(None);
                let moment = Timeout::new(Duration::from_millis(10));
                io.submit(moment, move |io, _| send(io, &ended.fd)).map(drop)?;
                Ok(())
            }
        },
    })?;
    client.receive.set(Some(id));
    Ok(())
}
// ANCHOR_END: receive

// ANCHOR: send
/// Sends the next part, unless one is on its way; when there is none, receives again.
fn send(io: &mut Io<'_, BufRing>, client: &Rc<Client>) -> io::Result<()> {
    if client.is_sending.get() {
        return Ok(());
    }
    let part = client.queue.borrow_mut().pop_front();
    match part {
        Some(Part::Lease(lease)) => send_all(io, client, lease),
        Some(Part::Copy(bytes)) => send_all(io, client, bytes),
        None if client.receive.get().is_none() => receive(io, client),
        None => Ok(()),
    }
}

fn send_all<B: IoBuf + 'static>(
    io: &mut Io<'_, BufRing>,
    to: &Rc<Client>,
    part: B,
) -> io::Result<()> {
    to.is_sending.set(true);
    let send = op::Send::new(Rc::clone(to), part).flags(SendFlags::WAIT_ALL);
    io.submit(send, |io, sent| {
        sent.result?;
        drop(sent.buf);
        sent.fd.is_sending.set(false);
        self::send(io, &sent.fd)
    })?;
    Ok(())
}
// ANCHOR_END: send
