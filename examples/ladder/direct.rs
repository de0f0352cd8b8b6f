//! Steps 6 and 7: connections that live in the ring's table of files, and one entry that accepts
//! all of them.
//!
//! | | an accept | ten clients come at once |
//! |---|---|---|
//! | step 6 | completes once, and is submitted again | one a turn |
//! | step 7 | completes for each client | all in one turn |
//!
//! A connection has no descriptor. Closing it is a call still: it empties a place of the table.
//! Before Linux 6.13 the connection ends a second later, and not while somebody is silent who was
//! there: a server for such kernels shuts a connection down first
//! ([`Shutdown`](annulus::op::Shutdown)).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use annulus::lease::{FileTable, FixedFile};
use annulus::op::{Accept, AcceptMulti, Direct, Ended, Multishot, Outcome, Recv, Send, SendFlags};
use annulus::{Event, Ring, Setup};

use crate::support::{Failure, failed};
use crate::turns::{self, Log, Stop, Whose};
use crate::{Done, Server};

type Block = Vec<u8>;
type Once = Direct<Accept<OwnedFd>>;
type Forever = Direct<AcceptMulti<OwnedFd>>;

/// How clients are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    Once,
    Multishot,
}

/// The server of steps 6 and 7.
pub struct Tabled {
    ring: Ring<Whose>,
    table: FileTable,
    ready: Vec<Did>,
    log: Log,
}

/// What has completed.
enum Did {
    Accepted(Outcome<FixedFile, OwnedFd>),
    Came(std::io::Result<FixedFile>),
    AcceptEnded(Ended<OwnedFd, std::io::Result<FixedFile>>),
    Received(Outcome<usize, FixedFile, Block>),
    Sent(Outcome<usize, FixedFile, Block>),
    Stopped,
}

impl Tabled {
    pub fn new(listener: OwnedFd, stop: UnixStream, accepts: Accepts) -> Result<Self, Failure> {
        let mut ring = Setup::plain(256).cq_entries(4096).build_for()?;
        let table = ring.file_table(512).map_err(failed("there is no table"))?;
        ring.submit_unticketed(Stop::new(stop, [0]), Whose::Nobody)?;
        let ready = Vec::new();
        let mut server = Self { ring, table, ready, log: Log::default() };
        match accepts {
            Accepts::Once => server.accept(listener)?,
            Accepts::Multishot => server.accept_all(listener)?,
        }
        Ok(server)
    }

    // ANCHOR: accept
    /// Step 6: accepts the next client into the table.
    fn accept(&mut self, listener: OwnedFd) -> Result<(), Failure> {
        let accept = Accept::new(listener).direct(&self.table);
        self.ring.submit_unticketed(accept, Whose::Listener)?;
        Ok(())
    }

    /// Step 7: accepts all clients into the table.
    fn accept_all(&mut self, listener: OwnedFd) -> Result<(), Failure> {
        let accept = AcceptMulti::new(listener).direct(&self.table);
        self.ring.submit_unticketed(accept, Whose::Listener)?;
        Ok(())
    }
    // ANCHOR_END: accept

    fn receive(&mut self, client: FixedFile, mut buf: Block) -> Result<(), Failure> {
        buf.clear();
        self.ring.submit_unticketed(Recv::new(client, buf), Whose::Client)?;
        Ok(())
    }

    fn handle(&mut self, did: Did) -> Result<(), Failure> {
        match did {
            Did::Accepted(accepted) => {
                self.accept(accepted.fd)?;
                let client = accepted.result.map_err(failed("cannot accept"))?;
                self.receive(client, Block::with_capacity(4096))?;
            }
            Did::Came(client) => {
                let client = client.map_err(failed("cannot accept"))?;
                self.receive(client, Block::with_capacity(4096))?;
            }
            Did::AcceptEnded(ended) => {
                crate::turns::goes_on(ended.how)?;
                self.accept_all(ended.fd)?;
            }
            Did::Received(Outcome { result: Ok(1..), fd, buf, .. }) => {
                let send = Send::new(fd, buf).flags(SendFlags::WAIT_ALL);
                self.ring.submit_unticketed(send, Whose::Client)?;
            }
            Did::Sent(Outcome { result: Ok(count), fd, buf, .. }) => {
                self.log.bytes += count as u64;
                self.receive(fd, buf)?;
            }
            // The client is gone, and its place is emptied here.
            Did::Received(_) | Did::Sent(_) => self.log.closed += 1,
            Did::Stopped => self.log.stopped = true,
        }
        Ok(())
    }
}

/// What an event says.
fn did(event: Event<'_, Whose>) -> Option<Did> {
    let output = match event {
        Event::Multishot { completion, .. } => return Some(Did::Came(Forever::item(completion))),
        Event::Output(output) => output,
        _ => return None,
    };
    let output = match output.take::<Recv<FixedFile, Block>>() {
        Ok((_, received)) => return Some(Did::Received(received)),
        Err(output) => output,
    };
    let output = match output.take::<Send<FixedFile, Block>>() {
        Ok((_, sent)) => return Some(Did::Sent(sent)),
        Err(output) => output,
    };
    let output = match output.take::<Once>() {
        Ok((_, accepted)) => return Some(Did::Accepted(accepted)),
        Err(output) => output,
    };
    match output.take::<Forever>() {
        Ok((_, ended)) => Some(Did::AcceptEnded(ended)),
        Err(output) => output.take::<Stop>().is_ok().then_some(Did::Stopped),
    }
}

impl Server for Tabled {
    fn turn(&mut self) -> Result<(), Failure> {
        let ready = &mut self.ready;
        turns::turn(&mut self.ring, &mut self.log, |event| ready.extend(did(event)))?;
        std::mem::take(&mut self.ready).into_iter().try_for_each(|did| self.handle(did))
    }

    fn done(&self) -> Done {
        self.log.done(&self.ring)
    }
}
