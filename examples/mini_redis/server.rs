//! A thread of the server: its ring, its clients, and what happens at the end of each turn.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem};

use annulus::lease::BufRing;
use annulus::op::{self, AcceptMulti, Message, SendFlags, Timeout};
use annulus::{Arrival, EventLoop, Io, OpId, RingSender, WaitOptions};

use crate::channels::{Outbox, Owner};
use crate::client::{self, Client};
use crate::commands::Shared;
use crate::support;
use crate::support::Failure;
use crate::support::serving::Table;

/// The state of the loop of a thread.
#[derive(Debug)]
pub struct Server {
    pub buffers: BufRing,
    pub clients: Table<Option<Rc<Client>>>,
    pub shared: Arc<Mutex<Shared>>,
    /// The number of this thread.
    pub thread: usize,
    /// How to reach each thread.
    pub peers: Arc<[RingSender]>,
    /// Of this thread, those that something has changed for in this turn.
    pub dirty: Vec<u32>,
    /// Of any thread, those that something was published for.
    pub told: Vec<Owner>,
    /// The clock, and when it rings.
    pub clock: Option<(Instant, OpId)>,
    /// The longest string.
    pub longest: usize,
    /// Bytes that may wait for a client, and of its longest reply.
    pub longest_reply: usize,
    pub counts: Counts,
}

/// The figures of a thread.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub came: u64,
    pub refused: u64,
    pub sends: u64,
    pub bytes: u64,
    pub cut_off: u64,
    pub messages: u64,
}

/// Keys that expire in one go.
const AT_ONCE: usize = 1000;
/// The longest that the clock is set to.
const HOUR: Duration = Duration::from_secs(3600);
const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// What the threads share.
pub fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves, until it is asked to stop.
pub fn serve(
    events: &mut EventLoop<Server>,
    listener: TcpListener,
    asked_to_stop: UnixStream,
) -> Result<(), Failure> {
    events.on_message(|io, number| {
        io.state.dirty.extend(u32::try_from(number));
        Ok(())
    });
    accept(&mut events.io(), listener).map_err(support::failed("cannot accept"))?;
    let stop = op::Recv::new(asked_to_stop, [0; 1]);
    events.io().submit(stop, |io, _| {
        io.stop();
        Ok(())
    })?;
    loop {
        let tell = |error: io::Error| {
            if !is_usual(&error) {
                support::tell(error);
            }
        };
        match events.turn(&WaitOptions::default(), |_, error| tell(error)) {
            Ok(false) => return Ok(()),
            Err(error) if error.cause != annulus::EnterCause::Interrupted => {
                return Err(error.into());
            }
            _ => end_turn(&mut events.io()).unwrap_or_else(tell),
        }
    }
}

/// A client that has gone is no trouble.
fn is_usual(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// Accepts clients, without end.
fn accept(io: &mut Io<'_, Server>, listener: TcpListener) -> io::Result<()> {
    io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(stream) => join(io, stream?.into()),
        // No descriptor is left, for example: in a moment there may be one.
        Arrival::End(ended) => {
            io.submit(Timeout::new(Duration::from_millis(100)), |io, _| accept(io, ended.fd))?;
            ended.how.ok().map(drop)
        }
    })?;
    Ok(())
}

/// A client has come.
fn join(io: &mut Io<'_, Server>, stream: std::net::TcpStream) -> io::Result<()> {
    let server = &mut *io.state;
    {
        let mut shared = lock(&server.shared);
        if shared.clients >= shared.most_clients {
            drop(shared);
            server.counts.refused += 1;
            let send = op::Send::new(Rc::new(stream), FULL).flags(SendFlags::WAIT_ALL);
            return io.submit(send, |_, sent| sent.result).map(drop).map_err(io::Error::from);
        }
        shared.clients += 1;
    }
    server.counts.came += 1;
    let number = server.clients.insert(None);
    let outbox = Outbox::new((server.thread, number), server.longest_reply);
    let client = Rc::new(Client::new(stream, outbox, server.longest));
    if let Some(place) = server.clients.get(number) {
        *place = Some(Rc::clone(&client));
    }
    client::receive(io, &client)
}

// ANCHOR: end_turn
/// Sends what has come together in this turn, tells other threads, and sets the clock.
fn end_turn(io: &mut Io<'_, Server>) -> io::Result<()> {
    if io.is_stopping() {
        return Ok(());
    }
    let own = io.state.thread;
    while !(io.state.told.is_empty() && io.state.dirty.is_empty()) {
        for (thread, number) in mem::take(&mut io.state.told) {
            match thread == own {
                true => io.state.dirty.push(number),
                false => tell(io, thread, number)?,
            }
        }
        for number in mem::take(&mut io.state.dirty) {
            if let Some(client) = io.state.clients.get(number).and_then(|client| client.clone()) {
                client::flush(io, &client)?;
            }
        }
    }
    set_clock(io)
}
// ANCHOR_END: end_turn

/// Tells another thread that a client of it has something to be sent.
fn tell(io: &mut Io<'_, Server>, thread: usize, number: u32) -> io::Result<()> {
    let Some(peer) = io.state.peers.get(thread) else { return Ok(()) };
    let message = Message::new(peer, number.into())?;
    io.state.counts.messages += 1;
    io.submit(message, |_, sent| sent)?;
    Ok(())
}

// ANCHOR: clock
/// Sets the clock to when the next key expires, unless it rings before.
fn set_clock(io: &mut Io<'_, Server>) -> io::Result<()> {
    let Some(next) = lock(&io.state.shared).store.next_deadline() else { return Ok(()) };
    match io.state.clock {
        Some((at, _)) if at <= next => return Ok(()),
        Some((_, later)) => io.cancel(later)?,
        None => {}
    }
    let span = next.saturating_duration_since(Instant::now()).min(HOUR);
    let clock = io.submit(Timeout::new(span), move |io, _| {
        if io.state.clock.is_some_and(|(at, _)| at == next) {
            io.state.clock = None;
        }
        let store = &mut lock(&io.state.shared).store;
        store.now = Instant::now();
        store.expire(AT_ONCE);
        Ok(())
    })?;
    io.state.clock = Some((next, clock));
    Ok(())
}
// ANCHOR_END: clock
