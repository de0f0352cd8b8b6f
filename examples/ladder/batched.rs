//! Steps 4 and 5: operations that wait by themselves, and entries that ride with the wait.
//!
//! ```text
//!   step 4   enter: submit 1, wait for 1 │ handle one │ enter: submit 1, wait for 1 │ …
//!   step 5   enter: submit n, wait for 1 │ handle all that is there, m entries │ enter: submit m …
//! ```
//!
//! There is no table of clients: the operation in flight owns its connection and its buffer.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use annulus::op::{Accept, Outcome, Recv, Send, SendFlags};
use annulus::{Event, Ring, Setup};

use crate::support::{Failure, failed};
use crate::turns::{self, Log, Stop, Whose};
use crate::{Done, Server};

type Block = Vec<u8>;

/// The server of steps 4 and 5.
pub struct Batched {
    ring: Ring<Whose>,
    ready: VecDeque<Did>,
    /// How many completions a turn handles at most.
    most: usize,
    log: Log,
}

/// What has completed.
enum Did {
    Accepted(Outcome<OwnedFd, OwnedFd>),
    Received(Outcome<usize, OwnedFd, Block>),
    Sent(Outcome<usize, OwnedFd, Block>),
    Stopped,
}

impl Batched {
    pub fn new(listener: OwnedFd, stop: UnixStream, most: usize) -> Result<Self, Failure> {
        let mut ring = Setup::plain(256).cq_entries(4096).build_for()?;
        ring.submit_unticketed(Stop::new(stop, [0]), Whose::Nobody)?;
        ring.submit_unticketed(Accept::new(listener), Whose::Listener)?;
        let ready = VecDeque::new();
        Ok(Self { ring, ready, most, log: Log::default() })
    }

    // ANCHOR: handle
    /// Queues what follows. Nothing is submitted here.
    fn handle(&mut self, did: Did) -> Result<(), Failure> {
        match did {
            Did::Accepted(accepted) => {
                self.ring.submit_unticketed(Accept::new(accepted.fd), Whose::Listener)?;
                let client = accepted.result.map_err(failed("cannot accept"))?;
                let receive = Recv::new(client, Block::with_capacity(4096));
                self.ring.submit_unticketed(receive, Whose::Client)?;
            }
            Did::Received(Outcome { result: Ok(1..), fd, buf, .. }) => {
                let send = Send::new(fd, buf).flags(SendFlags::WAIT_ALL);
                self.ring.submit_unticketed(send, Whose::Client)?;
            }
            Did::Sent(Outcome { result: Ok(count), fd, mut buf, .. }) => {
                self.log.bytes += count as u64;
                buf.clear();
                self.ring.submit_unticketed(Recv::new(fd, buf), Whose::Client)?;
            }
            // The client is gone, and its connection closes here.
            Did::Received(_) | Did::Sent(_) => self.log.closed += 1,
            Did::Stopped => self.log.stopped = true,
        }
        Ok(())
    }
    // ANCHOR_END: handle
}

/// What an event says.
fn did(event: Event<'_, Whose>) -> Option<Did> {
    let Event::Output(output) = event else { return None };
    let output = match output.take::<Recv<OwnedFd, Block>>() {
        Ok((_, received)) => return Some(Did::Received(received)),
        Err(output) => output,
    };
    let output = match output.take::<Send<OwnedFd, Block>>() {
        Ok((_, sent)) => return Some(Did::Sent(sent)),
        Err(output) => output,
    };
    match output.take::<Accept<OwnedFd>>() {
        Ok((_, accepted)) => Some(Did::Accepted(accepted)),
        Err(output) => output.take::<Stop>().is_ok().then_some(Did::Stopped),
    }
}

impl Server for Batched {
    // ANCHOR: turn
    fn turn(&mut self) -> Result<(), Failure> {
        if self.ready.is_empty() {
            let ready = &mut self.ready;
            turns::turn(&mut self.ring, &mut self.log, |event| ready.extend(did(event)))?;
        } else {
            // Step 4 has left some: there is nothing to wait for.
            self.ring.submit_all()?;
        }
        for did in self.ready.drain(..self.most.min(self.ready.len())).collect::<Vec<_>>() {
            self.handle(did)?;
        }
        Ok(())
    }
    // ANCHOR_END: turn

    fn done(&self) -> Done {
        self.log.done(&self.ring)
    }
}
