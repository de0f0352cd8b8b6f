//! What 1,000 echoes cost at each step of the echo ladder: ten connections, a hundred rounds.
//!
//! | the server | system calls | entries | completions |
//! |---|---|---|---|
//! | enters for each entry | 2,000 | 2,000 | 2,000 |
//! | enters for ten receives, then for ten sends | 200 | 2,000 | 2,000 |
//! | the same, by the safe event loop | 200 | 2,000 | 2,000 |
//! | links the next receive to each send | 101 | 2,000 | 2,000 |
//! | receives without end, over a buffer ring | 101 | 1,010 | 2,000 |
//! | and is not told of sends that succeed | 101 | 1,010 | 1,000 |
//! | and has its sockets in the file table | 101 | 1,010 | 1,000 |
//!
//! The counts do not depend on time: see `sockets`.
//!
//! What a call costs is not counted here: that a receive polls first, or that a send copies
//! nothing, shows only in time (`benches`, `echo`).

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use annulus::op;
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{CqeFlags, RecvSendFlags, SqeFlags};
use annulus::{EventLoop, Io, RawRing, prep};

use crate::linux::Linux;
use crate::or_skip;
use crate::sockets::{
    Blocks, CONNECTIONS, Clients, LEN, connection, file, group, pairs, push, taken,
};

const ROUNDS: usize = 100;
/// A completion for each connection.
const EACH: u32 = 10;
/// A block for each message that comes, and for each answer on its way.
const BLOCKS: u16 = 20;
const NONE: RecvSendFlags = RecvSendFlags::empty();

/// What was counted.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    calls: u64,
    entries: u64,
    completions: u64,
}

/// A server: its ring, and the sockets of its clients.
struct Server {
    ring: RawRing,
    linux: Arc<Linux>,
    streams: Vec<UnixStream>,
}

/// What `serve` costs, after `prepare`, while a thread of clients sends in each round, and waits
/// for its answers.
fn cost<T>(
    prepare: impl FnOnce(&mut Server) -> Result<T, String>,
    serve: impl FnOnce(&mut Server, T),
) -> Result<Cost, String> {
    let (mut clients, streams) = pairs();
    let mut server = Server::new(streams)?;
    let prepared = prepare(&mut server)?;
    // If the server fails, its streams close, and the clients end.
    thread::scope(move |scope| {
        let talk = scope.spawn(move || {
            for round in 0..ROUNDS {
                clients.send(1, round);
                clients.receive(1, round);
            }
            clients
        });
        let cost = server.cost(|server| serve(server, prepared));
        // Not earlier: a receive that goes on would complete with the end of its stream.
        drop(talk.join());
        Ok(cost)
    })
}

impl Server {
    fn new(streams: Vec<UnixStream>) -> Result<Self, String> {
        let (ring, linux) = Linux::ring(256)?;
        Ok(Self { ring, linux, streams })
    }

    fn cost(&mut self, serve: impl FnOnce(&mut Self)) -> Cost {
        let before = self.linux.calls();
        serve(self);
        let (calls, stats) = (self.linux.calls() - before, self.ring.stats());
        assert_eq!(stats.enters, calls, "the ring counts its own enters");
        Cost { calls, entries: stats.sqes, completions: stats.cqes }
    }

    fn receive(&mut self, at: usize, blocks: &mut Blocks) {
        let sqe = prep::recv(file(&self.streams[at]), blocks.address(at), LEN, 0, NONE);
        push(&mut self.ring, sqe);
    }

    fn send(&mut self, at: usize, blocks: &mut Blocks, flags: SqeFlags) {
        let sqe = prep::send(file(&self.streams[at]), blocks.address(at), LEN, 0, NONE);
        push(&mut self.ring, Sqe { flags, ..sqe });
    }

    /// Receives again and again, into blocks that the kernel selects.
    fn receive_on(&mut self, at: usize, how: RecvSendFlags, files: SqeFlags) {
        let sqe = prep::recv_provided(self.named(at, files), 0, 0, 0, how);
        push(&mut self.ring, Sqe { user_data: at as u64, flags: sqe.flags | files, ..sqe });
    }

    /// A socket as an entry with the flags `files` names it.
    fn named(&self, at: usize, files: SqeFlags) -> i32 {
        match files {
            SqeFlags::FIXED_FILE => i32::try_from(at).expect("ten of them"),
            _ => file(&self.streams[at]),
        }
    }

    /// Puts the sockets into the ring's file table.
    fn register_streams(&mut self) -> Result<(), String> {
        let files: Vec<_> = self.streams.iter().map(|it| Some(it.as_fd())).collect();
        self.ring.register_files(&files).map_err(|error| error.to_string())
    }

    /// A turn that takes `want` completions, each of a whole message.
    fn turn(&mut self, want: u32) {
        let mut each = |cqe: Cqe| assert_eq!(cqe.res, LEN.cast_signed(), "a whole message");
        assert_eq!(self.ring.turn(want, &mut each), Ok(want));
    }
}

#[test]
fn an_enter_for_each_entry_is_two_for_each_echo() {
    let mut blocks = Blocks::new(CONNECTIONS);
    let cost = cost(nothing, |server, ()| {
        for at in (0..ROUNDS).flat_map(|_| 0..CONNECTIONS) {
            server.receive(at, &mut blocks);
            server.turn(1);
            server.send(at, &mut blocks, SqeFlags::empty());
            server.turn(1);
        }
    });
    assert_eq!(or_skip!(cost), Cost { calls: 2_000, entries: 2_000, completions: 2_000 });
}

#[test]
fn an_enter_for_all_that_is_ready_is_two_for_ten_echoes() {
    let mut blocks = Blocks::new(CONNECTIONS);
    let cost = cost(nothing, |server, ()| {
        for _ in 0..ROUNDS {
            (0..CONNECTIONS).for_each(|at| server.receive(at, &mut blocks));
            server.turn(EACH);
            (0..CONNECTIONS).for_each(|at| server.send(at, &mut blocks, SqeFlags::empty()));
            server.turn(EACH);
        }
    });
    assert_eq!(or_skip!(cost), Cost { calls: 200, entries: 2_000, completions: 2_000 });
}

/// The clients of an event loop, in its own thread, and how many answers were sent.
struct Clientele {
    clients: Clients,
    answers: usize,
}

impl Clientele {
    /// An answer was sent; after the last of a round, the clients send again. Whether they go on.
    fn answered(&mut self) -> bool {
        let round = self.answers / CONNECTIONS;
        self.answers += 1;
        if self.answers.is_multiple_of(CONNECTIONS) {
            self.clients.receive(1, round);
            if round + 1 < ROUNDS {
                self.clients.send(1, round + 1);
            }
        }
        round + 1 < ROUNDS
    }
}

/// Receives, sends back, and goes on.
fn answer(
    io: &mut Io<'_, Clientele>,
    stream: Rc<UnixStream>,
    block: Vec<u8>,
) -> std::io::Result<()> {
    let receive = io.submit(op::Recv::new(stream, block), |io, received| {
        assert_eq!(received.result?, LEN as usize, "a whole message");
        let send = io.submit(op::Send::new(received.fd, received.buf), |io, mut sent| {
            assert_eq!(sent.result?, LEN as usize, "a whole message");
            sent.buf.clear();
            if io.state.answered() { answer(io, sent.fd, sent.buf) } else { Ok(()) }
        });
        Ok(send.map(drop)?)
    });
    Ok(receive.map(drop)?)
}

#[test]
fn the_event_loop_enters_once_for_all_that_is_ready() {
    or_skip!(Linux::ring(8));
    let (setup, linux) = Linux::setup(256);
    let (mut clients, streams) = pairs();
    clients.send(1, 0);
    let clientele = Clientele { clients, answers: 0 };
    let mut events = EventLoop::new(setup.build_for().expect("a ring"), clientele);
    for stream in streams {
        answer(&mut events.io(), Rc::new(stream), Vec::with_capacity(64)).expect("room");
    }
    events.run(|_, error| panic!("{error}")).expect("it runs");
    let stats = events.ring().stats();
    let cost = Cost { calls: linux.calls(), entries: stats.sqes, completions: stats.cqes };
    assert_eq!(cost, Cost { calls: 200, entries: 2_000, completions: 2_000 });
}

#[test]
fn a_receive_that_follows_its_send_saves_an_enter() {
    let mut blocks = Blocks::new(CONNECTIONS);
    let cost = cost(nothing, |server, ()| {
        (0..CONNECTIONS).for_each(|at| server.receive(at, &mut blocks));
        server.turn(EACH);
        for _ in 1..ROUNDS {
            for at in 0..CONNECTIONS {
                server.send(at, &mut blocks, SqeFlags::IO_LINK);
                server.receive(at, &mut blocks);
            }
            server.turn(2 * EACH);
        }
        (0..CONNECTIONS).for_each(|at| server.send(at, &mut blocks, SqeFlags::empty()));
        server.turn(EACH);
    });
    assert_eq!(or_skip!(cost), Cost { calls: 101, entries: 2_000, completions: 2_000 });
}

/// Needs nothing but a ring.
#[expect(clippy::unnecessary_wraps, reason = "other preparations can fail")]
fn nothing(_: &mut Server) -> Result<(), String> {
    Ok(())
}

/// The `user_data` of a send, where that of a receive is its connection.
const SENT: u64 = u64::MAX;

/// Each connection is received from by one entry, into buffers that the kernel selects. `sends` and
/// `all` are the flags of the sends, and of all entries.
fn multishot(sends: SqeFlags, all: SqeFlags) -> Result<Cost, String> {
    let silent = sends == SqeFlags::CQE_SKIP_SUCCESS;
    let mut blocks = Blocks::new(BLOCKS.into());
    let prepare = |server: &mut Server| {
        server.register_streams()?;
        group(&server.ring, 0, BLOCKS.into())
    };
    cost(prepare, |server, mut group| {
        blocks.offer(&mut group, 0..BLOCKS);
        (0..CONNECTIONS).for_each(|at| server.receive_on(at, RecvSendFlags::RECV_MULTISHOT, all));
        let (mut came, mut sent, mut want) = (Vec::new(), Vec::new(), EACH);
        for round in 0..ROUNDS {
            let each = |cqe: Cqe| {
                if cqe.user_data != SENT {
                    came.push(cqe);
                }
            };
            assert_eq!(server.ring.turn(want, each), Ok(want));
            taken(&mut group, EACH);
            // Whoever sends again has its last answer.
            blocks.offer(&mut group, sent.drain(..));
            for cqe in came.drain(..) {
                assert_eq!(cqe.res, LEN.cast_signed(), "a whole message");
                assert!(cqe.flags.contains(CqeFlags::MORE), "it goes on");
                let id = cqe.buffer_id().expect("a block was selected");
                let to = server.named(connection(&cqe), all);
                let sqe = prep::send(to, blocks.address(id.into()), LEN, 0, NONE);
                push(&mut server.ring, Sqe { user_data: SENT, flags: sends | all, ..sqe });
                sent.push(id);
            }
            want = if silent || round + 1 == ROUNDS { EACH } else { 2 * EACH };
        }
        let last = if silent { 0 } else { EACH };
        assert_eq!(server.ring.turn(last, |_| ()), Ok(last));
    })
}

#[test]
fn a_receive_that_goes_on_saves_its_entries() {
    let cost = multishot(SqeFlags::empty(), SqeFlags::empty());
    assert_eq!(or_skip!(cost), Cost { calls: 101, entries: 1_010, completions: 2_000 });
}

#[test]
fn a_send_that_is_silent_saves_its_completion() {
    let cost = multishot(SqeFlags::CQE_SKIP_SUCCESS, SqeFlags::empty());
    assert_eq!(or_skip!(cost), Cost { calls: 101, entries: 1_010, completions: 1_000 });
}

#[test]
fn sockets_in_the_file_table_take_as_many_calls() {
    let cost = multishot(SqeFlags::CQE_SKIP_SUCCESS, SqeFlags::FIXED_FILE);
    assert_eq!(or_skip!(cost), Cost { calls: 101, entries: 1_010, completions: 1_000 });
}
