//! Steps 8 and 9: one entry receives all that a client sends, into buffers that all clients share.
//!
//! ```text
//!   RecvMulti ─► lease ─► queue of its client ─► Send ─► dropped: the kernel may select it again
//! ```
//!
//! An operation that goes on does not give its connection back with each completion. So here is a
//! table of clients, and a queue for each, since two sends in flight on one stream have no order.
//! Step 9 is step 8 with two flags of set-up.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use annulus::lease::{BufLease, BufRing, FileTable, FixedFile};
use annulus::op::{AcceptMulti, Direct, Ended, Ending, Multishot, Outcome, RecvMulti};
use annulus::op::{Send, SendFlags};
use annulus::sys::flags::SetupFlags;
use annulus::{Event, Ring, Setup};

use crate::support::serving::Table;
use crate::support::{Failure, failed};
use crate::turns::{self, Log, Stop, Whose};
use crate::{Done, Server};

type Accepting = Direct<AcceptMulti<OwnedFd>>;
type Receiving = RecvMulti<FixedFile>;
type Sending = Send<FixedFile, BufLease>;

/// Whose thread makes completions, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deferred {
    /// The kernel interrupts ours.
    No,
    /// Ours, when it enters.
    Yes,
}

/// The server of steps 8 and 9.
pub struct Multi {
    ring: Ring<Whose>,
    table: FileTable,
    buffers: BufRing,
    clients: Table<Client>,
    /// Clients that found no buffer.
    starved: Vec<u32>,
    ready: Vec<Did>,
    log: Log,
}

struct Client {
    connection: FixedFile,
    /// What has come and is not sent, oldest first.
    queue: VecDeque<BufLease>,
    is_sending: bool,
    /// It sends no more.
    is_over: bool,
}

/// What has completed.
enum Did {
    Came(io::Result<FixedFile>),
    AcceptEnded(Ended<OwnedFd, io::Result<FixedFile>>),
    Received(u32, io::Result<BufLease>),
    ReceiveEnded(u32, Ending),
    Sent(u32, Outcome<usize, FixedFile, BufLease>),
    Stopped,
}

impl Multi {
    pub fn new(listener: OwnedFd, stop: UnixStream, deferred: Deferred) -> Result<Self, Failure> {
        // ANCHOR: setup
        let setup = Setup::plain(256).cq_entries(4096);
        let defer = SetupFlags::SINGLE_ISSUER
            .union(SetupFlags::DEFER_TASKRUN)
            .union(SetupFlags::TASKRUN_FLAG);
        let mut ring = match deferred {
            Deferred::No => setup.build_for()?,
            Deferred::Yes => setup.with(defer).build_for()?,
        };
        // ANCHOR_END: setup
        let table = ring.file_table(512).map_err(failed("there is no table"))?;
        let buffers = ring.buf_ring(1024, 4096).map_err(failed("there are no buffers"))?;
        ring.submit_unticketed(Stop::new(stop, [0]), Whose::Nobody)?;
        let accept = AcceptMulti::new(listener).direct(&table);
        ring.submit_unticketed(accept, Whose::Listener)?;
        let (clients, starved, ready) = (Table::new(), Vec::new(), Vec::new());
        Ok(Self { ring, table, buffers, clients, starved, ready, log: Log::default() })
    }

    // ANCHOR: receive
    /// Lets the kernel receive for a client, from now on.
    fn receive(&mut self, number: u32) -> Result<(), Failure> {
        let Some(client) = self.clients.get(number) else { return Ok(()) };
        let receive = RecvMulti::new(client.connection.clone(), &self.buffers);
        self.ring.submit_unticketed(receive, Whose::From(number))?;
        Ok(())
    }

    /// Sends what is next, unless a send is in flight; drops a client for whom nothing is left.
    fn send(&mut self, number: u32) -> Result<(), Failure> {
        let Some(client) = self.clients.get(number) else { return Ok(()) };
        if client.is_sending {
            return Ok(());
        }
        if let Some(lease) = client.queue.pop_front() {
            client.is_sending = true;
            let send = Send::new(client.connection.clone(), lease).flags(SendFlags::WAIT_ALL);
            self.ring.submit_unticketed(send, Whose::To(number))?;
        } else if client.is_over {
            self.clients.remove(number);
            self.log.closed += 1;
        }
        Ok(())
    }
    // ANCHOR_END: receive

    fn handle(&mut self, did: Did) -> Result<(), Failure> {
        match did {
            Did::Came(client) => {
                let connection = client.map_err(failed("cannot accept"))?;
                let (queue, is_sending, is_over) = Default::default();
                let client = Client { connection, queue, is_sending, is_over };
                let number = self.clients.insert(client);
                self.receive(number)?;
            }
            Did::AcceptEnded(ended) => {
                turns::goes_on(ended.how)?;
                let accept = AcceptMulti::new(ended.fd).direct(&self.table);
                self.ring.submit_unticketed(accept, Whose::Listener)?;
            }
            Did::Received(number, lease) => {
                if let (Some(client), Ok(lease)) = (self.clients.get(number), lease) {
                    client.queue.push_back(lease);
                }
                self.send(number)?;
            }
            Did::ReceiveEnded(number, how) => self.receive_ended(number, &how)?,
            Did::Sent(number, sent) => {
                let Some(client) = self.clients.get(number) else { return Ok(()) };
                client.is_sending = false;
                match sent.result {
                    Ok(count) => self.log.bytes += count as u64,
                    Err(_) => client.queue.clear(), // Its receive ends too.
                }
                // That was the last owner of its buffer but us.
                drop(sent.buf);
                self.send(number)?;
                std::mem::take(&mut self.starved)
                    .into_iter()
                    .try_for_each(|it| self.receive(it))?;
            }
            Did::Stopped => self.log.stopped = true,
        }
        Ok(())
    }

    /// A receive has ended: it begins again, now or when there is a buffer, or the client is gone.
    fn receive_ended(&mut self, number: u32, how: &Ending) -> Result<(), Failure> {
        match how {
            Ending::Stopped => self.receive(number),
            Ending::NoBuffers if self.buffers.leased() < self.buffers.count() => {
                self.receive(number) // One has come back meanwhile.
            }
            Ending::NoBuffers => {
                self.starved.push(number);
                Ok(())
            }
            _ => {
                if let Some(client) = self.clients.get(number) {
                    client.is_over = true;
                }
                self.send(number)
            }
        }
    }
}

/// What an event says.
fn did(event: Event<'_, Whose>) -> Option<Did> {
    let output = match event {
        Event::Multishot { user: Whose::From(number), completion, .. } => {
            return Some(Did::Received(*number, Receiving::item(completion)));
        }
        Event::Multishot { completion, .. } => return Some(Did::Came(Accepting::item(completion))),
        Event::Output(output) => output,
        _ => return None,
    };
    let output = match output.take::<Sending>() {
        Ok((Whose::To(number), sent)) => return Some(Did::Sent(number, sent)),
        Ok(_) => return None,
        Err(output) => output,
    };
    let output = match output.take::<Receiving>() {
        Ok((Whose::From(number), ended)) => return Some(Did::ReceiveEnded(number, ended.how)),
        Ok(_) => return None,
        Err(output) => output,
    };
    match output.take::<Accepting>() {
        Ok((_, ended)) => Some(Did::AcceptEnded(ended)),
        Err(output) => output.take::<Stop>().is_ok().then_some(Did::Stopped),
    }
}

impl Server for Multi {
    fn turn(&mut self) -> Result<(), Failure> {
        let ready = &mut self.ready;
        turns::turn(&mut self.ring, &mut self.log, |event| ready.extend(did(event)))?;
        std::mem::take(&mut self.ready).into_iter().try_for_each(|did| self.handle(did))
    }

    fn done(&self) -> Done {
        self.log.done(&self.ring)
    }
}
