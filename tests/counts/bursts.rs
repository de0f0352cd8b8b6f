//! What 1,000 messages cost that come in bursts: ten at once on each of ten connections.
//!
//! | the server | system calls | entries | completions |
//! |---|---|---|---|
//! | receives into a buffer for each message, and sends each | 20 | 1,010 | 2,000 |
//! | receives and sends bundles of buffers | 20 to 24 | 110 | 300 at most |
//!
//! The clients send when the server would wait, so one thread plays both. How many bundles a burst
//! becomes is up to the kernel. One that does not know how much has come selects one buffer first,
//! and then the rest: two, then, and one since Linux 6.16 or so. Now and then it lets other work go
//! first, and the server finds too few and enters once more.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;

use annulus::raw::register::BufferGroup;
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{Features, RecvSendFlags};
use annulus::{RawRing, prep};

use crate::linux::Linux;
use crate::or_skip;
use crate::sockets::{
    BYTES, Blocks, CONNECTIONS, LEN, connection, file, group, pairs, push, taken,
};

const ROUNDS: usize = 10;
/// How many messages come at once.
const BURST: usize = 10;
/// The blocks of a round.
const BLOCKS: u16 = 100;
/// The `user_data` of a send, where that of a receive is its connection.
const SENT: u64 = u64::MAX;

/// A server that answers bursts.
struct Server {
    ring: RawRing,
    streams: Vec<UnixStream>,
    blocks: Blocks,
    /// What receives select from, and which blocks are there, in order.
    group: BufferGroup,
    offered: VecDeque<u16>,
    /// What came, and is to be sent back: on which connection, from which block.
    came: Vec<(usize, u16)>,
}

/// Serves all rounds, in each of which the messages come with `want` completions or more; `answer`
/// sends them back with as many, and has a group of buffers for each connection. Returns system
/// calls, entries and completions.
fn serve(
    how: RecvSendFlags,
    want: u32,
    answer: impl Fn(&mut Server, &mut [BufferGroup]),
) -> Result<[u64; 3], String> {
    let (ring, linux) = Linux::ring(256)?;
    if !ring.features().contains(Features::RECVSEND_BUNDLE) {
        return Err("needs Linux 6.10: RECVSEND_BUNDLE".to_owned());
    }
    let (mut clients, streams) = pairs();
    let blocks = Blocks::new(BLOCKS.into());
    let selected = group(&ring, 0, BLOCKS.into())?;
    let (offered, came) = (VecDeque::new(), Vec::new());
    let mut server = Server { ring, streams, blocks, group: selected, offered, came };
    for at in 0..CONNECTIONS {
        let how = how | RecvSendFlags::RECV_MULTISHOT;
        let sqe = prep::recv_provided(file(&server.streams[at]), 0, 0, 0, how);
        push(&mut server.ring, Sqe { user_data: at as u64, ..sqe });
    }
    let sending: Result<Vec<_>, _> = (1..=10).map(|id| group(&server.ring, id, 10)).collect();
    let mut sending = sending?;
    server.offer();
    server.ring.submit().map_err(|error| error.to_string())?;
    let (before, stats) = (linux.calls(), server.ring.stats());
    for round in 0..ROUNDS {
        clients.send(BURST, round);
        server.receive(want);
        answer(&mut server, &mut sending);
        let each = |cqe: Cqe| assert!(cqe.res > 0, "{cqe:?}");
        assert_eq!(server.ring.turn(want, each), Ok(want));
        clients.receive(BURST, round);
        server.offer();
    }
    let now = server.ring.stats();
    Ok([linux.calls() - before, now.sqes, now.cqes - stats.cqes])
}

impl Server {
    /// Offers all blocks.
    fn offer(&mut self) {
        let missing: Vec<u16> = (0..BLOCKS).filter(|it| !self.offered.contains(it)).collect();
        self.blocks.offer(&mut self.group, missing.iter().copied());
        self.offered.extend(missing);
    }

    /// Waits for `want` completions, and for more until all of a round has come.
    fn receive(&mut self, mut want: u32) {
        while self.came.len() < CONNECTIONS * BURST {
            let (offered, came) = (&mut self.offered, &mut self.came);
            let mut count = 0;
            let each = |cqe: Cqe| {
                assert!(cqe.res > 0, "{cqe:?}");
                assert_eq!(cqe.buffer_id(), offered.front().copied(), "the next block");
                let filled = usize::try_from(cqe.res).expect("a length") / BYTES;
                came.extend(offered.drain(..filled).map(|id| (connection(&cqe), id)));
                count += filled;
            };
            self.ring.turn(want, each).expect("a turn");
            want = 1;
            taken(&mut self.group, u32::try_from(count).expect("at most a hundred"));
        }
    }
}

#[test]
fn messages_that_come_at_once_take_an_entry_each() {
    let cost = serve(RecvSendFlags::empty(), 100, |server, _| {
        for (at, id) in server.came.drain(..) {
            let (to, from) = (file(&server.streams[at]), server.blocks.address(id.into()));
            let sqe = prep::send(to, from, LEN, 0, RecvSendFlags::empty());
            push(&mut server.ring, Sqe { user_data: SENT, ..sqe });
        }
    });
    assert_eq!(or_skip!(cost), [20, 1_010, 2_000]);
}

#[test]
fn bundles_take_an_entry_for_many_messages() {
    let cost = serve(RecvSendFlags::BUNDLE, 10, |server, sending| {
        for (at, id) in server.came.drain(..) {
            server.blocks.offer(&mut sending[at], [id]);
        }
        for (group, stream) in sending.iter_mut().zip(&server.streams) {
            let flags = RecvSendFlags::BUNDLE;
            let sqe = prep::send_provided(file(stream), 0, group.id(), 0, flags);
            push(&mut server.ring, Sqe { user_data: SENT, ..sqe });
            taken(group, 10); // All of them, once it is submitted.
        }
    });
    let [calls, entries, completions] = or_skip!(cost);
    println!("bundles: {calls} calls, {completions} completions");
    assert!((20..=24).contains(&calls), "{calls}");
    assert_eq!(entries, 110);
    assert!(completions <= 300, "{completions}");
}
