//! A client: bytes come and go, and what happens in between.
//!
//! ```text
//!   lease ─► parser ─► command ─► replies ─► outbox ─► at the end of the turn: one Send for all
//!              ▲                                │
//!              └── holds what is not done yet ◄─┘ while the outbox is full; then the receive is
//!                                                 cancelled, and the client's own socket fills
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use annulus::op::{self, Ending, RecvMulti, SendFlags};
use annulus::{Arrival, Io, OpId};

use crate::channels::Outbox;
use crate::commands::{self, Context, Talk};
use crate::reply::Replies;
use crate::resp::{Broken, Parser};
use crate::server::{self, Server};

/// A client. Its socket closes when neither the table nor an operation is left to own it.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    outbox: Arc<Outbox>,
    parser: RefCell<Parser>,
    talk: RefCell<Talk>,
    /// The receive in flight.
    receiving: Cell<Option<OpId>>,
    is_sending: Cell<bool>,
    /// Its commands wait until it has taken replies.
    is_held: Cell<bool>,
    /// It sends nothing more, or what it sends is not looked at any more.
    is_last: Cell<bool>,
    is_gone: Cell<bool>,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Client {
    /// A client that has just come.
    pub fn new(stream: TcpStream, outbox: Outbox, longest: usize) -> Self {
        Self {
            stream,
            outbox: Arc::new(outbox),
            parser: RefCell::new(Parser::new(longest)),
            talk: RefCell::default(),
            receiving: Cell::default(),
            is_sending: Cell::default(),
            is_held: Cell::default(),
            is_last: Cell::default(),
            is_gone: Cell::default(),
        }
    }

    fn number(&self) -> u32 {
        self.outbox.owner.1
    }
}

// ANCHOR: receive
/// Receives from a client, until it sends no more. A lease goes back as soon as it is read.
pub fn receive(io: &mut Io<'_, Server>, client: &Rc<Client>) -> io::Result<()> {
    let receive = RecvMulti::new(Rc::clone(client), &io.state.buffers);
    let hearer = Rc::clone(client);
    let op = io.submit_multishot(receive, move |io, arrival| match arrival {
        Arrival::Item(lease) => {
            hearer.parser.borrow_mut().feed(&lease?);
            match hearer.is_held.get() || hearer.is_gone.get() {
                true => Ok(()),
                false => work(io, &hearer),
            }
        }
        Arrival::End(ended) => over(io, &ended.fd, ended.how),
    })?;
    client.receiving.set(Some(op));
    Ok(())
}
// ANCHOR_END: receive

/// A receive has ended.
fn over(io: &mut Io<'_, Server>, client: &Rc<Client>, how: Ending) -> io::Result<()> {
    client.receiving.set(None);
    let is_over = client.talk.borrow().is_over;
    match how {
        _ if client.is_gone.get() => Ok(()),
        // Never again, or when it has taken its replies.
        Ending::Stopped | Ending::NoBuffers | Ending::Cancelled
            if is_over || client.is_held.get() =>
        {
            Ok(())
        }
        Ending::Stopped | Ending::NoBuffers | Ending::Cancelled => receive(io, client),
        Ending::Eof => {
            client.is_last.set(true);
            io.state.dirty.push(client.number());
            Ok(())
        }
        how => {
            leave(io, client);
            how.ok().map(drop)
        }
    }
}

// ANCHOR: work
/// Runs the commands that are there, as long as there is room for replies.
fn work(io: &mut Io<'_, Server>, client: &Rc<Client>) -> io::Result<()> {
    let Server { shared, dirty, told, longest_reply, .. } = &mut *io.state;
    let mut replies = Replies::new(*longest_reply);
    let (mut parser, mut talk) = (client.parser.borrow_mut(), client.talk.borrow_mut());
    client.is_held.set(false);
    while !talk.is_over {
        if replies.len() >= client.outbox.room() {
            client.is_held.set(true);
            break;
        }
        match parser.next() {
            Ok(None) => break,
            Ok(Some(command)) => {
                let mut shared = server::lock(shared);
                shared.store.now = Instant::now();
                let outbox = &client.outbox;
                let (shared, client) = (&mut *shared, &mut *talk);
                let mut context = Context { shared, client, outbox, told };
                commands::run(&mut context, command, &mut replies);
            }
            Err(Broken(why)) => {
                replies.begin();
                replies.error(format_args!("ERR {why}"));
                talk.is_over = true;
            }
        }
    }
    client.outbox.put(&mut replies);
    dirty.push(client.number());
    match client.receiving.get() {
        Some(receive) if client.is_held.get() || talk.is_over => Ok(io.cancel(receive)?),
        _ => Ok(()),
    }
}
// ANCHOR_END: work

// ANCHOR: flush
/// At the end of a turn: sends all that waits for a client, unless a send is on its way.
pub fn flush(io: &mut Io<'_, Server>, client: &Rc<Client>) -> io::Result<()> {
    if client.is_gone.get() || (client.is_sending.get() && !client.outbox.is_cut()) {
        return Ok(());
    }
    if client.outbox.is_cut() {
        io.state.counts.cut_off += 1;
        leave(io, client);
        return Ok(());
    }
    let Some(bytes) = client.outbox.take() else {
        if client.is_last.get() || client.talk.borrow().is_over {
            leave(io, client);
        }
        return Ok(());
    };
    send(io, client, bytes)?;
    if client.is_held.get() {
        work(io, client)?;
        if !client.is_held.get() && client.receiving.get().is_none() && !client.is_last.get() {
            return receive(io, client);
        }
    }
    Ok(())
}
// ANCHOR_END: flush

fn send(io: &mut Io<'_, Server>, client: &Rc<Client>, bytes: Vec<u8>) -> io::Result<()> {
    let len = bytes.len();
    client.is_sending.set(true);
    io.state.counts.sends += 1;
    io.state.counts.bytes += len as u64;
    let send = op::Send::new(Rc::clone(client), bytes).flags(SendFlags::WAIT_ALL);
    io.submit(send, move |io, sent| {
        sent.fd.is_sending.set(false);
        match sent.result {
            Ok(count) if count == len => {
                io.state.dirty.push(sent.fd.number());
                Ok(())
            }
            // Part of a reply: nothing that follows could be read.
            failed => {
                leave(io, &sent.fd);
                failed.map(drop)
            }
        }
    })?;
    Ok(())
}

/// Forgets a client. What is in flight ends, since its socket is shut.
fn leave(io: &mut Io<'_, Server>, client: &Rc<Client>) {
    if client.is_gone.replace(true) {
        return;
    }
    let _ = client.stream.shutdown(Shutdown::Both);
    io.state.clients.remove(client.number());
    let mut shared = server::lock(&io.state.shared);
    for channel in std::mem::take(&mut client.talk.borrow_mut().channels) {
        shared.channels.remove(&channel, client.outbox.owner);
    }
    shared.clients -= 1;
}
