//! An echo server: it sends back whatever comes in over a connection, and never copies it.
//!
//! ```text
//!   listener ─ AcceptMulti ─► connection ─ RecvMulti ─► lease ─► queue ─► Send ─► offered again
//!                                              │                           │
//!                                              └── no buffer is left: ◄────┘
//!                                                  waits for one that goes back
//! ```
//!
//! | what happens | what the server does |
//! |---|---|
//! | data comes | the kernel selects a buffer; the lease itself is sent, and dropping it offers the buffer again |
//! | more data comes during a send | it queues: two sends in flight on one stream have no order |
//! | a client does not read its echo | at 16 leases the server stops receiving from it; in the end it is cut off |
//! | all buffers are out | the kernel ends the receives with `NoBuffers`; each is armed again in its turn |
//! | completions overflow | the kernel ends the receive with `Stopped`; it is armed again at once |
//! | a client shuts down its sending side | the data before is echoed, then the connection is closed |
//! | a client vanishes | its receive or send fails, and nothing of it is left |
//! | more clients than there is room for | they wait in the listener |
//! | SIGINT, SIGTERM | received data is echoed, then the server ends; a second signal ends it at once |
//!
//! Look at: the enters per receive (`--stats`), far below one, since under load each enter submits
//! all sends of a turn and fetches all completions that have come meanwhile. And at what is not
//! there: no buffer per connection, and no unsafe. Linux 6.0.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::buf::{Slice, SliceExt};
use annulus::lease::{BufLease, BufRing};
use annulus::op::{AcceptMulti, Ended, Ending, Multishot, Recv, RecvMulti, Send, SendFlags};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Ring, Setup, Ticket};
use clap::Parser;
use support::serving::{self, Counts, Happened, Table};
use support::{Failure, Page, failed, up_to};

mod support;

/// Sends back what it receives, until it is told to stop (Ctrl-C).
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Where to listen; port 0 is any
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
    /// Serve so many at once, 1 to 30000
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = up_to(30_000))]
    connections: u32,
    /// Buffers: a power of two, 1 to 32768
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = up_to(32768))]
    buffers: u32,
    /// Bytes in a buffer
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = up_to(u32::MAX))]
    bytes: u32,
    /// Cut off who takes nothing for N seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = up_to(u32::MAX))]
    timeout: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// How many leases of one client may wait to be sent.
const QUEUE: usize = 16;
/// How often the server looks for clients that do not read.
const TICK: Duration = Duration::from_secs(1);
/// How long clients may take to read their echo after the server is told to stop.
const GRACE: Duration = Duration::from_secs(2);

type Receive = RecvMulti<Rc<TcpStream>>;
type SendBack = Send<Rc<TcpStream>, Slice<BufLease>>;

/// Which operation a completion belongs to.
#[derive(Debug, Clone, Copy, Default)]
enum Whose {
    #[default]
    Nobody,
    Signals,
    Listener,
    Received(u32),
    Sent(u32),
}

#[derive(Debug)]
struct Connection {
    stream: Rc<TcpStream>,
    reading: Reading,
    /// The send in flight, only one at a time, and since when.
    sending: Option<(Ticket<SendBack>, Instant)>,
    /// Received data that is to be sent, oldest first.
    queue: VecDeque<BufLease>,
}

#[derive(Debug)]
enum Reading {
    /// A receive is in flight.
    Armed(Ticket<Receive>),
    /// Waits until a buffer is free.
    Starved,
    /// Waits until the client has read some of its echo.
    Held,
    /// The client sends no more.
    Over,
}

#[derive(Debug)]
enum Accepting {
    Armed(Ticket<AcceptMulti<TcpListener>>),
    /// Until there is room.
    Paused(TcpListener),
    /// For good.
    Closed,
}

#[derive(Debug)]
struct Server {
    ring: Ring<Whose>,
    buffers: BufRing,
    accepting: Accepting,
    signals: Option<Ticket<Recv<UnixStream, [u8; 8]>>>,
    connections: Table<Connection>,
    /// Accepted while there was no room.
    waiting: VecDeque<TcpStream>,
    room: usize,
    /// Connections that wait for a buffer, longest first.
    starved: VecDeque<u32>,
    timeout: Duration,
    looked: Instant,
    /// When to end at the latest, once the server was told to stop.
    until: Option<Instant>,
    counts: Counts,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { address, connections: room, buffers, bytes, timeout, stats } = arguments;
    // It came with multishot receives, which themselves cannot be asked for.
    if !Capabilities::detect()?.has_op(Opcode::SEND_ZC) {
        return Err(Failure::Failed("receives that complete many times need Linux 6.0".into()));
    }
    let listening = format!("cannot listen on {address}");
    let listener = TcpListener::bind(&address).map_err(failed(&listening))?;
    let address = listener.local_addr().map_err(failed(&listening))?;
    // A receive and a send for each connection, and the listener and signals.
    let mut ring = Setup::new(1024).cq_entries((2 * room + 16).max(1024)).build_for()?;
    let buffers = ring.buf_ring(buffers, bytes).map_err(failed("cannot make buffers"))?;
    let mut server = Server::new(ring, buffers, room as usize, timeout.into());
    server.listen(listener)?;
    server.listen_to_signals(serving::asked_to_stop()?)?;
    let before = support::cpu_time();
    writeln!(page, "listening on {address}")?;

    server.serve()?;
    server.counts.left = server.connections.len();
    let cpu = support::cpu_time() - before;
    writeln!(page, "{}", server.counts)?;
    let (total, receives) = (server.ring.raw().stats(), server.counts.receives);
    if stats {
        writeln!(page, "{}", support::stats_line(total, receives, cpu))?;
        writeln!(page, "{}", serving::enters_per_receive(total.enters, receives))?;
    }
    server.ring.shutdown(Duration::from_secs(1)).map_err(failed("an untidy end"))
}

impl Server {
    fn new(ring: Ring<Whose>, buffers: BufRing, room: usize, seconds: u64) -> Self {
        Self {
            ring,
            buffers,
            accepting: Accepting::Closed,
            signals: None,
            connections: Table::new(),
            waiting: VecDeque::new(),
            room,
            starved: VecDeque::new(),
            timeout: Duration::from_secs(seconds),
            looked: Instant::now(),
            until: None,
            counts: Counts::default(),
        }
    }

    /// Runs until it is told to stop: waits, takes all events, acts on them.
    fn serve(&mut self) -> Result<(), Failure> {
        let mut happened = Vec::new();
        while !self.is_over() {
            let limit = self.limit();
            serving::wait(&mut self.ring, limit)?;
            self.ring.reap(|event| happened.extend(Happened::of(event)))?;
            for what in happened.drain(..) {
                self.act_on(what)?;
            }
            self.feed_the_starved()?;
            if self.looked.elapsed() >= TICK {
                self.look_around()?;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let is_empty = self.connections.len() == 0 && matches!(self.accepting, Accepting::Closed);
        self.until.is_some_and(|until| is_empty || Instant::now() >= until)
    }

    /// How long to wait for an event; forever while there is nothing to check.
    fn limit(&self) -> Option<Duration> {
        let paused = matches!(self.accepting, Accepting::Paused(_));
        if !self.starved.is_empty() && self.buffers.leased() < self.buffers.count() {
            return Some(Duration::ZERO); // There is a buffer for the next connection.
        }
        (paused || self.connections.len() > 0 || self.until.is_some()).then_some(TICK)
    }

    fn act_on(&mut self, what: Happened<Whose>) -> Result<(), Failure> {
        match what {
            Happened::Completion(Whose::Listener, completion) => {
                match AcceptMulti::<TcpListener>::item(completion) {
                    Ok(fd) => self.admit(fd.into()),
                    Err(_) => Ok(()),
                }
            }
            Happened::Completion(Whose::Received(number), completion) => {
                match Receive::item(completion) {
                    Ok(lease) => self.received(number, lease),
                    Err(_) => Ok(()),
                }
            }
            Happened::Ended(Whose::Listener) => self.accepting_ended(),
            Happened::Ended(Whose::Received(number)) => self.receiving_ended(number),
            Happened::Ended(Whose::Sent(number)) => self.sent(number),
            Happened::Ended(Whose::Signals) => self.stop(),
            Happened::Completion(..) | Happened::Ended(Whose::Nobody) => Ok(()),
        }
    }

    // Connections come ---------------------------------------------------------------------------

    fn listen(&mut self, listener: TcpListener) -> Result<(), Failure> {
        let accept = AcceptMulti::new(listener);
        self.accepting = Accepting::Armed(self.ring.submit_for(accept, Whose::Listener)?);
        Ok(())
    }

    /// Adds a new connection, or lets it wait.
    fn admit(&mut self, stream: TcpStream) -> Result<(), Failure> {
        if self.until.is_some() {
            return Ok(());
        }
        if self.connections.len() >= self.room {
            self.waiting.push_back(stream);
            return Ok(());
        }
        // Each answer is sent at once: there is no second part to wait for.
        let _ = stream.set_nodelay(true);
        let number = self.connections.insert(Connection {
            stream: Rc::new(stream),
            reading: Reading::Starved,
            sending: None,
            queue: VecDeque::new(),
        });
        self.counts.connections += 1;
        self.counts.most = self.counts.most.max(self.connections.len());
        if self.connections.len() == self.room
            && let Accepting::Armed(ticket) = &self.accepting
        {
            self.ring.cancel(ticket)?;
        }
        self.receive(number)
    }

    /// The accept has ended: starts it again, now or later, or drops the listener.
    fn accepting_ended(&mut self) -> Result<(), Failure> {
        let Accepting::Armed(ticket) = mem::replace(&mut self.accepting, Accepting::Closed) else {
            return Ok(());
        };
        let Ok(Ended { how, fd, .. }) = self.ring.try_take(ticket) else { return Ok(()) };
        if self.until.is_some() {
            return Ok(()); // Clients in the backlog are refused.
        }
        self.accepting = Accepting::Paused(fd);
        match how {
            Ending::Failed(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(Failure::of("cannot accept", error))
            }
            Ending::Failed(error) if error.kind() != ErrorKind::ConnectionAborted => {
                // Out of descriptors, or of memory: when a connection ends, or a tick later.
                if self.counts.paused == 0 {
                    support::tell(format_args!("cannot accept for now: {error}"));
                }
                self.counts.paused += 1;
                Ok(())
            }
            Ending::NoBuffers => Ok(()),
            _ => self.make_use_of_room(),
        }
    }

    /// There is room again: first for waiting connections, then for new ones.
    fn make_use_of_room(&mut self) -> Result<(), Failure> {
        while self.connections.len() < self.room {
            let Some(stream) = self.waiting.pop_front() else { break };
            self.admit(stream)?;
        }
        if self.connections.len() < self.room {
            match mem::replace(&mut self.accepting, Accepting::Closed) {
                Accepting::Paused(listener) => self.listen(listener)?,
                other => self.accepting = other,
            }
        }
        Ok(())
    }

    // Bytes come and go --------------------------------------------------------------------------

    /// Lets the kernel receive for a connection.
    fn receive(&mut self, number: u32) -> Result<(), Failure> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let receive = RecvMulti::new(Rc::clone(&connection.stream), &self.buffers);
        let ticket = self.ring.submit_for(receive, Whose::Received(number))?;
        connection.reading = Reading::Armed(ticket);
        Ok(())
    }

    /// A buffer has come, and is sent back on its connection.
    fn received(&mut self, number: u32, lease: BufLease) -> Result<(), Failure> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        self.counts.receives += 1;
        self.counts.bytes += lease.len() as u64;
        connection.queue.push_back(lease);
        if connection.queue.len() == QUEUE
            && let Reading::Armed(ticket) = &connection.reading
        {
            self.counts.held += 1;
            self.ring.cancel(ticket)?;
        }
        self.send_next(number)
    }

    /// Sends the oldest waiting lease, if no send is in flight.
    fn send_next(&mut self, number: u32) -> Result<(), Failure> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        if connection.sending.is_some() {
            return Ok(());
        }
        let Some(lease) = connection.queue.pop_front() else { return Ok(()) };
        let rest = lease.slice(..);
        self.send(number, rest)
    }

    /// Sends `rest`, all of it unless something goes wrong.
    fn send(&mut self, number: u32, rest: Slice<BufLease>) -> Result<(), Failure> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let send = Send::new(Rc::clone(&connection.stream), rest).flags(SendFlags::WAIT_ALL);
        let ticket = self.ring.submit_for(send, Whose::Sent(number))?;
        connection.sending = Some((ticket, Instant::now()));
        Ok(())
    }

    /// A send has ended: sends the next lease, or the rest of this one.
    fn sent(&mut self, number: u32) -> Result<(), Failure> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let Some((ticket, _)) = connection.sending.take() else { return Ok(()) };
        let Ok(outcome) = self.ring.try_take(ticket) else { return Ok(()) };
        match outcome.result {
            Ok(count) if count < outcome.buf.as_ref().len() => {
                let start = outcome.buf.start() + count;
                return self.send(number, outcome.buf.into_inner().slice(start..));
            }
            Ok(_) => {}
            Err(_) => connection.give_up(),
        }
        // Before the next send, so that the kernel can select the lease's buffer for it.
        drop(outcome.buf);
        let held = matches!(connection.reading, Reading::Held);
        if held && connection.queue.len() < QUEUE / 2 {
            self.receive(number)?;
        }
        self.send_next(number)?;
        self.close_if_over(number)
    }

    /// The receive has ended: starts it again, now or later, or not at all.
    fn receiving_ended(&mut self, number: u32) -> Result<(), Failure> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let Reading::Armed(ticket) = mem::replace(&mut connection.reading, Reading::Over) else {
            return Ok(());
        };
        let Ok(ended) = self.ring.try_take(ticket) else { return Ok(()) };
        self.counts.ran_out += u64::from(matches!(ended.how, Ending::NoBuffers));
        let has_enough = connection.queue.len() >= QUEUE / 2;
        match ended.how {
            Ending::Eof => {}
            Ending::Stopped | Ending::Cancelled | Ending::NoBuffers if has_enough => {
                connection.reading = Reading::Held;
            }
            Ending::Stopped | Ending::Cancelled => return self.receive(number),
            Ending::NoBuffers => {
                connection.reading = Reading::Starved;
                self.starved.push_back(number);
            }
            _ => connection.give_up(),
        }
        drop(ended.fd);
        self.close_if_over(number)
    }

    /// Arms the receives that found no buffer, as many as there are buffers now.
    fn feed_the_starved(&mut self) -> Result<(), Failure> {
        if self.starved.is_empty() {
            return Ok(());
        }
        for _ in self.buffers.leased()..self.buffers.count() {
            let Some(number) = self.starved.pop_front() else { break };
            let connection = self.connections.get(number);
            // The connection may be closed by now, and its number be another's.
            if connection.is_some_and(|it| matches!(it.reading, Reading::Starved)) {
                self.receive(number)?;
            }
        }
        Ok(())
    }

    // Connections go -----------------------------------------------------------------------------

    /// Closes a connection that has nothing to receive or to send any more.
    fn close_if_over(&mut self, number: u32) -> Result<(), Failure> {
        let connection = self.connections.get(number);
        if connection.is_some_and(|connection| connection.is_over()) {
            self.connections.remove(number);
            self.make_use_of_room()?;
        }
        Ok(())
    }

    /// Cuts off clients that have not read for too long.
    fn look_around(&mut self) -> Result<(), Failure> {
        self.looked = Instant::now();
        for connection in self.connections.iter() {
            let Some((_, since)) = &mut connection.sending else { continue };
            if since.elapsed() >= self.timeout {
                *since = self.looked;
                self.counts.cut_off += 1;
                connection.give_up();
            }
        }
        self.make_use_of_room()
    }

    fn listen_to_signals(&mut self, stream: UnixStream) -> Result<(), Failure> {
        let recv = Recv::new(stream, [0; 8]);
        self.signals = Some(self.ring.submit_for(recv, Whose::Signals)?);
        Ok(())
    }

    /// Told to stop: accepts no more clients, and lets them read their echo; told again, ends.
    fn stop(&mut self) -> Result<(), Failure> {
        let Some(ticket) = self.signals.take() else { return Ok(()) };
        let Ok(outcome) = self.ring.try_take(ticket) else { return Ok(()) };
        let grace = if self.until.is_some() { Duration::ZERO } else { GRACE };
        self.until = Some(Instant::now() + grace);
        self.listen_to_signals(outcome.fd)?;
        self.waiting.clear();
        match &self.accepting {
            Accepting::Armed(ticket) => self.ring.cancel(ticket)?,
            _ => self.accepting = Accepting::Closed,
        }
        for connection in self.connections.iter() {
            // Data that has come is still received; then the stream ends as if by the client.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        Ok(())
    }
}

impl Connection {
    /// The client is gone, or nearly so: drops the data to be sent, and ends what is in flight.
    fn give_up(&mut self) {
        self.queue.clear();
        let _ = self.stream.shutdown(Shutdown::Both);
        if !matches!(self.reading, Reading::Armed(_)) {
            self.reading = Reading::Over;
        }
    }

    fn is_over(&self) -> bool {
        let is_read = matches!(self.reading, Reading::Over);
        is_read && self.sending.is_none() && self.queue.is_empty()
    }
}
