//! An echo server: what comes in over a connection goes out over it again, and is never copied.
//!
//! ```text
//!   listener ─ AcceptMulti ─► connection ─ RecvMulti ─► lease ─► queue ─► Send ─► offered again
//!                                              │                           │
//!                                              └── no buffer is left: ◄────┘
//!                                                  waits for one that goes back
//! ```
//!
//! | what happens | what it does |
//! |---|---|
//! | data comes | the kernel picks a buffer; the lease itself is sent, and goes back by its drop |
//! | more data comes during a send | it queues: two sends in flight on one stream have no order |
//! | a client takes nothing of what it sent | at 16 leases we receive no more of it; in the end it is cut off |
//! | all buffers are out | the kernel ends the receives with `NoBuffers`; each is armed again in its turn |
//! | completions overflow | the kernel ends it with `Stopped`; it is armed again at once |
//! | a client closes its half | what it sent before is echoed, then the connection is closed |
//! | a client vanishes | receive or send fail, and nothing of it is left |
//! | more clients than there is room for | they wait in the listener |
//! | SIGINT, SIGTERM | what was received is echoed, then it ends; a second one ends it at once |
//!
//! Look at: the enters per receive (`--stats`), far below one, since under load each enter hands
//! over all sends of a turn and brings all that has come meanwhile. And at what is not there: no
//! buffer per connection, and no unsafe.
//!
//! Linux 6.0.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
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
use support::serving::{self, Counts, Happened, Table};
use support::{Arguments, Failure, Page, failed};

mod support;

const USAGE: &str = "
usage: 07_echo_server [ADDRESS] [--connections N] [--buffers N] [--bytes N]
                      [--patience N] [--stats] [--help]

Sends back what it receives, until it is told to stop (Ctrl-C).

  ADDRESS          where to listen; 127.0.0.1:7777 unless told. Port 0: any
  --connections N  serve so many at once; 4000 unless told
  --buffers N      buffers for all of them, 1, 2, 4, and so on; 4096 unless told
  --bytes N        bytes in a buffer; 4096 unless told
  --patience N     cut off who takes nothing for N seconds; 10 unless told
  --stats          print what the ring did in all
  --help           print this";

/// So many leases of one client may wait to be sent.
const QUEUE: usize = 16;
/// How often we look for clients that take nothing.
const TICK: Duration = Duration::from_secs(1);
/// How long clients may take to get what they sent, when we are told to stop.
const GRACE: Duration = Duration::from_secs(2);

type Receive = RecvMulti<Rc<TcpStream>>;
type SendBack = Send<Rc<TcpStream>, Slice<BufLease>>;

/// Whose completion it is.
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
    /// One at a time, and since when.
    sending: Option<(Ticket<SendBack>, Instant)>,
    /// What was received and is to be sent, oldest first.
    queue: VecDeque<BufLease>,
}

#[derive(Debug)]
enum Reading {
    /// The kernel receives.
    Armed(Ticket<Receive>),
    /// Until a buffer is free.
    Starved,
    /// Until the client has taken some of what it sent.
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
    /// Accepted, and there is no room yet.
    waiting: VecDeque<TcpStream>,
    room: usize,
    /// Who waits for a buffer, longest first.
    starved: VecDeque<u32>,
    patience: Duration,
    looked: Instant,
    /// When to end at the latest, once we were told to stop.
    until: Option<Instant>,
    counts: Counts,
}

fn main() -> ExitCode {
    support::main(USAGE, run)
}

fn run(mut arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let wants_stats = arguments.flag("--stats");
    let room = arguments.number_after("--connections")?.unwrap_or(4000);
    let count = arguments.number_after("--buffers")?.unwrap_or(4096);
    let size = arguments.number_after("--bytes")?.unwrap_or(4096);
    let patience = arguments.number_after("--patience")?.unwrap_or(10);
    let address = arguments.operand().unwrap_or_else(|| "127.0.0.1:7777".into());
    arguments.end()?;
    let address = address.to_string_lossy().into_owned();
    if room > 30_000 {
        return Err(Failure::Usage("--connections: at most 30000".into()));
    }
    // Of the same release as receives that complete many times, which cannot be asked for.
    if !Capabilities::detect()?.has_op(Opcode::SEND_ZC) {
        return Err(Failure::Failed("receives that complete many times need Linux 6.0".into()));
    }
    let listening = format!("cannot listen on {address}");
    let listener = TcpListener::bind(&*address).map_err(failed(&listening))?;
    let address = listener.local_addr().map_err(failed(&listening))?;
    // A receive and a send for each connection, beside listener and signals.
    let mut ring = Setup::new(1024).cq_entries((2 * room + 16).max(1024)).build_for()?;
    let buffers = ring.buf_ring(count, size).map_err(failed("cannot make buffers"))?;
    let patience = Duration::from_secs(patience.into());
    let mut server = Server::new(ring, buffers, room as usize, patience);
    server.listen(listener)?;
    server.listen_to_signals(serving::asked_to_stop()?)?;
    let before = support::cpu_time();
    writeln!(page, "listening on {address}")?;

    server.serve()?;
    server.counts.left = server.connections.len();
    let cpu = support::cpu_time() - before;
    writeln!(page, "{}", server.counts)?;
    let (stats, receives) = (server.ring.raw().stats(), server.counts.receives);
    if wants_stats {
        writeln!(page, "{}", support::stats_line(stats, receives, cpu))?;
        writeln!(page, "{}", serving::enters_per_receive(stats.enters, receives))?;
    }
    server.ring.shutdown(Duration::from_secs(1)).map_err(failed("an untidy end"))
}

impl Server {
    fn new(ring: Ring<Whose>, buffers: BufRing, room: usize, patience: Duration) -> Self {
        Self {
            ring,
            buffers,
            accepting: Accepting::Closed,
            signals: None,
            connections: Table::new(),
            waiting: VecDeque::new(),
            room,
            starved: VecDeque::new(),
            patience,
            looked: Instant::now(),
            until: None,
            counts: Counts::default(),
        }
    }

    /// Turns until it is told to stop: wait, take all that has happened, act on it.
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

    /// How long to wait for something to happen; for ever while there is nothing to look for.
    fn limit(&self) -> Option<Duration> {
        let paused = matches!(self.accepting, Accepting::Paused(_));
        if !self.starved.is_empty() && self.buffers.leased() < self.buffers.count() {
            return Some(Duration::ZERO); // There is a buffer for the next of them.
        }
        (paused || self.connections.len() > 0 || self.until.is_some()).then_some(TICK)
    }

    fn act_on(&mut self, what: Happened<Whose>) -> Result<(), Failure> {
        match what {
            Happened::Shot(Whose::Listener, shot) => match AcceptMulti::<TcpListener>::item(shot) {
                Ok(fd) => self.admit(fd.into()),
                Err(_) => Ok(()),
            },
            Happened::Shot(Whose::Received(number), shot) => match Receive::item(shot) {
                Ok(lease) => self.received(number, lease),
                Err(_) => Ok(()),
            },
            Happened::Ended(Whose::Listener) => self.accepting_ended(),
            Happened::Ended(Whose::Received(number)) => self.receiving_ended(number),
            Happened::Ended(Whose::Sent(number)) => self.sent(number),
            Happened::Ended(Whose::Signals) => self.stop(),
            Happened::Shot(..) | Happened::Ended(Whose::Nobody) => Ok(()),
        }
    }

    // Connections come ---------------------------------------------------------------------------

    fn listen(&mut self, listener: TcpListener) -> Result<(), Failure> {
        let accept = AcceptMulti::new(listener);
        self.accepting = Accepting::Armed(self.ring.submit_for(accept, Whose::Listener)?);
        Ok(())
    }

    /// Takes a new connection in, or lets it wait.
    fn admit(&mut self, stream: TcpStream) -> Result<(), Failure> {
        if self.until.is_some() {
            return Ok(());
        }
        if self.connections.len() >= self.room {
            self.waiting.push_back(stream);
            return Ok(());
        }
        // Each answer goes at once: we have no second part to wait for.
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

    /// The kernel accepts no more: goes on, now or later, or lets go of the listener.
    fn accepting_ended(&mut self) -> Result<(), Failure> {
        let Accepting::Armed(ticket) = mem::replace(&mut self.accepting, Accepting::Closed) else {
            return Ok(());
        };
        let Ok(Ended { how, fd, .. }) = self.ring.try_take(ticket) else { return Ok(()) };
        if self.until.is_some() {
            return Ok(()); // Whoever still waits in the listener is turned away.
        }
        self.accepting = Accepting::Paused(fd);
        match how {
            Ending::Failed(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(Failure::of("cannot accept", error))
            }
            Ending::Failed(error) if error.kind() != ErrorKind::ConnectionAborted => {
                // Out of descriptors, or of memory: when a connection ends, or a tick later.
                if self.counts.paused == 0 {
                    let _ = writeln!(io::stderr(), "  cannot accept for now: {error}");
                }
                self.counts.paused += 1;
                Ok(())
            }
            Ending::NoBuffers => Ok(()),
            _ => self.make_use_of_room(),
        }
    }

    /// There is room again: for who waits, then for who comes.
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

    /// A buffer has come, and will go back the way it came.
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

    /// Sends the oldest lease that waits, if none is on its way.
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

    /// A send has ended: the next one, or the rest of this one.
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
        // Before the next one, so that its buffer can be picked for it.
        drop(outcome.buf);
        let held = matches!(connection.reading, Reading::Held);
        if held && connection.queue.len() < QUEUE / 2 {
            self.receive(number)?;
        }
        self.send_next(number)?;
        self.close_if_over(number)
    }

    /// The kernel receives no more: goes on, now or later, or not.
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
            // It may be gone by now, and its number another's.
            if connection.is_some_and(|it| matches!(it.reading, Reading::Starved)) {
                self.receive(number)?;
            }
        }
        Ok(())
    }

    // Connections go -----------------------------------------------------------------------------

    /// Closes a connection of which nothing comes, and to which nothing goes.
    fn close_if_over(&mut self, number: u32) -> Result<(), Failure> {
        let connection = self.connections.get(number);
        if connection.is_some_and(|connection| connection.is_over()) {
            self.connections.remove(number);
            self.make_use_of_room()?;
        }
        Ok(())
    }

    /// Cuts off who has taken nothing for too long.
    fn look_around(&mut self) -> Result<(), Failure> {
        self.looked = Instant::now();
        for connection in self.connections.iter() {
            let Some((_, since)) = &mut connection.sending else { continue };
            if since.elapsed() >= self.patience {
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

    /// We are told to stop: takes no more in, and lets clients have what is theirs. Told again, it
    /// does not wait for them.
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
            // What has come is still received; then it looks as if the client had ended it.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        Ok(())
    }
}

impl Connection {
    /// The client is gone, or as good as gone: what was to be sent is dropped, and whatever is in
    /// flight ends.
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
