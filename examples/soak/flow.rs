//! A stream whose bytes say which stream they are of and where they belong, from one ring to
//! another, or to itself.
//!
//! ```text
//!   writer ── send, write, zero-copy .. ──► pipe, socket ──► receive, multishot .. ── reader
//!     sent: 0 .. total                                            received: 0 .. total, the end
//! ```
//!
//! One send and one receive are in flight at a time. Whatever is cancelled says how many bytes it
//! has moved, and the next goes on from there.

use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::lease::{BufLease, FixedFile};
use annulus::op::Close;

use super::act::{Act, Hall};
use super::chance::{Chance, compare};
use super::tally::Count;
use super::trouble::{Check, Trouble, equal, finding, may_end};
use super::{receives, sends};

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    Pipe,
    Unix,
    Tcp,
}

/// One end: a descriptor, or a place in a ring's table.
#[derive(Debug, Clone)]
pub enum End {
    Fd(Rc<OwnedFd>),
    Fixed(FixedFile),
}

/// How far a stream is.
#[derive(Debug)]
pub struct Progress {
    pub key: u64,
    pub total: u64,
    pub sent: u64,
    pub received: u64,
    /// A send is in flight.
    pub sending: bool,
    /// A receive is in flight.
    pub receiving: bool,
    /// The reader has seen the end.
    pub ended: bool,
    /// Buffers that stay leased for a while, and where their bytes belong.
    pub held: Vec<(BufLease, u64)>,
}

/// What the handlers of a stream's operations share.
pub type Shared = Rc<RefCell<Progress>>;

impl Progress {
    /// These bytes have come.
    pub fn arrived(&mut self, bytes: &[u8]) -> Check {
        compare(self.key, self.received, bytes)?;
        self.received += bytes.len() as u64;
        if self.received > self.total {
            return finding(format!("stream {:#x} carries more than was sent", self.key));
        }
        Ok(())
    }

    /// These have come, and are kept for a while.
    pub fn leased(&mut self, lease: BufLease) -> Check {
        let at = self.received;
        self.arrived(&lease)?;
        self.held.push((lease, at));
        Ok(())
    }

    /// So many bytes were sent.
    pub fn went(&mut self, result: io::Result<usize>) -> Check {
        match result {
            Ok(count) => self.sent += count as u64,
            Err(error) => may_end("a send", &error)?,
        }
        if self.sent > self.total {
            return finding(format!("stream {:#x}: more was sent than offered", self.key));
        }
        Ok(())
    }

    /// The reader has seen the end.
    pub fn at_end(&mut self) -> Check {
        self.ended = true;
        let key = self.key;
        equal(format_args!("bytes of stream {key:#x} at its end"), self.received, self.total)?;
        equal(format_args!("bytes sent of stream {key:#x} at its end"), self.sent, self.total)
    }

    /// Lets go of a lease whose bytes are still as they came.
    pub fn let_go(&mut self) -> Check {
        if self.held.is_empty() {
            return Ok(());
        }
        let (lease, at) = self.held.remove(0);
        compare(self.key, at, &lease)
    }
}

/// A stream, and the desks of its ends.
pub struct Flow {
    shared: Shared,
    medium: Medium,
    writer: Option<Rc<OwnedFd>>,
    reader: Rc<OwnedFd>,
    /// How each desk names its end.
    ends: (Option<End>, End),
    desks: (usize, usize),
}

impl Flow {
    /// A stream from one desk of the hall to another.
    pub fn new(hall: &mut Hall) -> Result<Self, Trouble> {
        let chance = &mut hall.chance;
        let desks = (hall.desks.len(), chance.next());
        let from = chance.below(u32::try_from(desks.0).unwrap_or(1)) as usize;
        let to = chance.below(u32::try_from(desks.0).unwrap_or(1)) as usize;
        let media = [Medium::Pipe, Medium::Unix, Medium::Unix];
        let medium = if chance.one_in(12) { Medium::Tcp } else { chance.among(&media) };
        let (reader, writer) = open(medium)?;
        let (reader, writer) = (Rc::new(reader), Rc::new(writer));
        let most = chance.among(&[100, 3000, 100_000]);
        let total = chance.below(most).into();
        let ends = (Some(aim(hall, from, &writer)?), aim(hall, to, &reader)?);
        let shared = Rc::new(RefCell::new(Progress {
            key: hall.chance.next(),
            total,
            sent: 0,
            received: 0,
            sending: false,
            receiving: false,
            ended: false,
            held: Vec::new(),
        }));
        Ok(Self { shared, medium, writer: Some(writer), reader, ends, desks: (from, to) })
    }

    /// Everything is sent: the writer closes, by the ring now and then.
    fn close(&mut self, hall: &mut Hall) -> Check {
        self.ends.0 = None;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        match Rc::try_unwrap(writer) {
            Ok(writer) if !hall.closes_plainly && hall.chance.one_in(2) => {
                let desk = &mut hall.desks[self.desks.0];
                // If it is refused, or cancelled, it is closed as it is dropped.
                let closed =
                    |result: io::Result<()>| result.or_else(|error| may_end("a close", &error));
                desk.submit(Close::new(writer), move |close| closed(close.result)).map(drop)
            }
            Ok(_) => Ok(()),
            Err(_) => finding("a file that no operation has did not come back"),
        }
    }
}

impl Act for Flow {
    fn step(&mut self, hall: &mut Hall) -> Check {
        let (sent_all, idle, receiving, ended) = {
            let it = self.shared.borrow();
            (it.sent == it.total, !it.sending, it.receiving, it.ended)
        };
        if let Some(end) = &self.ends.0 {
            if idle && sent_all {
                self.close(hall)?;
            } else if idle {
                sends::any(&mut hall.desks[self.desks.0], self.medium, end, &self.shared)?;
            }
        }
        let desk = &mut hall.desks[self.desks.1];
        if !receiving && !ended {
            receives::any(desk, self.medium, &self.ends.1, &self.shared)?;
        }
        if desk.hungry.get() || desk.chance.one_in(4) || ended {
            self.shared.borrow_mut().let_go()?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let it = self.shared.borrow();
        it.ended && !it.receiving && it.held.is_empty()
    }

    fn end(self: Box<Self>, hall: &mut Hall, tidily: bool) -> Check {
        let Self { shared, writer, reader, ends, .. } = *self;
        drop(ends);
        let mut it = shared.borrow_mut();
        while !it.held.is_empty() {
            it.let_go()?;
        }
        hall.tally.add(Count::Bytes, it.received);
        if !tidily {
            hall.outlive(reader);
            writer.into_iter().for_each(|writer| hall.outlive(writer));
            return Ok(());
        }
        equal("users of a reader at the end", Rc::strong_count(&reader), 1)?;
        equal("a writer is left", writer.is_some(), false)
    }

    fn name(&self) -> &'static str {
        "a stream"
    }
}

/// The end as a desk names it: registered, now and then.
fn aim(hall: &mut Hall, desk: usize, fd: &Rc<OwnedFd>) -> Result<End, Trouble> {
    let desk = &mut hall.desks[desk];
    if let Some(table) = desk.table.clone()
        && desk.chance.one_in(3)
    {
        match table.insert(&mut desk.ring, fd) {
            Ok(file) => return Ok(End::Fixed(file)),
            Err(error) => may_end("an insert", &error)?,
        }
    }
    Ok(End::Fd(Rc::clone(fd)))
}

/// A reader and a writer.
fn open(medium: Medium) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(match medium {
        Medium::Pipe => {
            let (reader, writer) = io::pipe()?;
            (reader.into(), writer.into())
        }
        Medium::Unix => {
            let (reader, writer) = UnixStream::pair()?;
            (reader.into(), writer.into())
        }
        Medium::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let writer = TcpStream::connect(listener.local_addr()?)?;
            (listener.accept()?.0.into(), writer.into())
        }
    })
}

/// A random length.
pub fn length(chance: &mut Chance) -> usize {
    let most = chance.among(&[16, 300, 5000, 30_000]);
    chance.up_to(most)
}
