//! Step 3: epoll's loop, word for word, on a ring. What was a call is an entry now, and each entry
//! is handed over by an enter of its own.
//!
//! ```text
//!   Poll ─► readable ─► Recv ─► received ─► Send ─► sent ─► Poll ─► …     three enters a request
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use annulus::op::{Accept, Op, Outcome, Poll, PollEvents, Recv, Send, SendFlags};
use annulus::{Event, Ring, Setup};

use crate::support::{Failure, failed};
use crate::turns::{self, Log, Stop, Whose};
use crate::{Done, Server};

type Block = Vec<u8>;

/// The server of step 3.
pub struct OneByOne {
    ring: Ring<Whose>,
    /// What has completed, and is not handled.
    ready: VecDeque<Did>,
    log: Log,
}

/// What has completed.
enum Did {
    Readable(Whose, OwnedFd),
    Accepted(Outcome<OwnedFd, OwnedFd>),
    Received(Outcome<usize, OwnedFd, Block>),
    Sent(Outcome<usize, OwnedFd, Block>),
    Stopped,
}

impl OneByOne {
    pub fn new(listener: OwnedFd, stop: UnixStream) -> Result<Self, Failure> {
        let ring = Setup::plain(8).cq_entries(4096).build_for()?;
        let ready = VecDeque::new();
        let mut server = Self { ring, ready, log: Log::default() };
        server.submit(Stop::new(stop, [0]), Whose::Nobody)?;
        server.submit(Poll::new(listener, PollEvents::IN), Whose::Listener)?;
        Ok(server)
    }

    // ANCHOR: submit
    /// One entry, one enter.
    fn submit<O: Op + 'static>(&mut self, op: O, whose: Whose) -> Result<(), Failure> {
        self.ring.submit_unticketed(op, whose)?;
        self.ring.submit_all()?;
        Ok(())
    }
    // ANCHOR_END: submit

    // ANCHOR: handle
    fn handle(&mut self, did: Did) -> Result<(), Failure> {
        let ready = PollEvents::IN;
        match did {
            Did::Readable(Whose::Listener, fd) => self.submit(Accept::new(fd), Whose::Nobody),
            Did::Readable(_, fd) => {
                self.submit(Recv::new(fd, Block::with_capacity(4096)), Whose::Client)
            }
            Did::Accepted(accepted) => {
                self.submit(Poll::new(accepted.fd, ready), Whose::Listener)?;
                let client = accepted.result.map_err(failed("cannot accept"))?;
                self.submit(Poll::new(client, ready), Whose::Client)
            }
            Did::Received(Outcome { result: Ok(1..), fd, buf, .. }) => {
                self.submit(Send::new(fd, buf).flags(SendFlags::WAIT_ALL), Whose::Client)
            }
            Did::Sent(Outcome { result: Ok(count), fd, .. }) => {
                self.log.bytes += count as u64;
                self.submit(Poll::new(fd, ready), Whose::Client)
            }
            // The client is gone, and its connection closes here.
            Did::Received(_) | Did::Sent(_) => {
                self.log.closed += 1;
                Ok(())
            }
            Did::Stopped => {
                self.log.stopped = true;
                Ok(())
            }
        }
    }
    // ANCHOR_END: handle
}

/// What an event says.
fn did(event: Event<'_, Whose>) -> Option<Did> {
    let Event::Output(output) = event else { return None };
    let output = match output.take::<Poll<OwnedFd>>() {
        Ok((whose, poll)) => return Some(Did::Readable(whose, poll.fd)),
        Err(output) => output,
    };
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

impl Server for OneByOne {
    fn turn(&mut self) -> Result<(), Failure> {
        if self.ready.is_empty() {
            let ready = &mut self.ready;
            turns::turn(&mut self.ring, &mut self.log, |event| ready.extend(did(event)))?;
        }
        // One at a time: what else has completed waits for the next turn.
        self.ready.pop_front().map_or(Ok(()), |did| self.handle(did))
    }

    fn done(&self) -> Done {
        self.log.done(&self.ring)
    }
}
