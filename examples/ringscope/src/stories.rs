//! The stories: small programs on a stage, each for one idea.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use annulus::Setup;
use annulus::op::{Cancel, Nop, Read, RecvMulti, Send, SendZc, Write};
use annulus::sim::Faults;
use annulus::sys::flags::SetupFlags;

use crate::frame::Film;
use crate::stage::{Failure, Stage};

/// A story.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    pub name: &'static str,
    pub title: &'static str,
    /// Where the indices begin.
    seed: u64,
    faults: Faults,
    setup: fn() -> Setup<'static>,
    play: fn(&mut Stage) -> Result<(), Failure>,
}

/// All of them.
pub const STORIES: &[Story] = &[
    Story {
        name: "demo",
        title: "Two rings, nine moments",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(4),
        play: demo,
    },
    Story {
        name: "read",
        title: "One read",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(4),
        play: read,
    },
    Story {
        name: "wrap",
        title: "Indices wrap, slots repeat",
        seed: AT_THE_WRAP,
        faults: Faults::NONE,
        setup: || Setup::plain(4),
        play: wrap,
    },
    Story {
        name: "sqpoll",
        title: "A polling thread, awake and asleep",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(4).sqpoll(Duration::from_millis(10)),
        play: sqpoll,
    },
    Story {
        name: "defer",
        title: "Completions that wait for an enter",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || {
            let flags = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
            Setup::plain(4).with(flags | SetupFlags::TASKRUN_FLAG)
        },
        play: defer,
    },
    Story {
        name: "multishot",
        title: "One entry, many completions, buffers of a buffer ring",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(2).cq_entries(8),
        play: multishot,
    },
    Story {
        name: "chain",
        title: "Linked requests, and where the chain breaks",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(4),
        play: chain,
    },
    Story {
        name: "cancel",
        title: "A cancel has a completion of its own",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(4),
        play: cancel,
    },
    Story {
        name: "overflow",
        title: "A completion ring that is full",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(2).cq_entries(4),
        play: overflow,
    },
    Story {
        name: "zerocopy",
        title: "A send without a copy completes twice",
        seed: FROM_ZERO,
        faults: SLOW,
        setup: || Setup::plain(2),
        play: zero_copy,
    },
    Story {
        name: "fanout",
        title: "One message in, three out",
        seed: FROM_ZERO,
        faults: Faults::NONE,
        setup: || Setup::plain(4),
        play: fanout,
    },
];

/// Seeds by where the indices of the first ring begin: a test holds them to it.
const FROM_ZERO: u64 = 1;
const AT_THE_WRAP: u64 = 8;

/// Every operation takes its time.
const SLOW: Faults = Faults { delay: 1000, longest: Duration::from_micros(100), ..Faults::NONE };

impl Story {
    /// The story of that name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn named(name: &str) -> Result<Self, String> {
        let names: Vec<&str> = STORIES.iter().map(|story| story.name).collect();
        let found = STORIES.iter().find(|story| story.name == name).copied();
        found.ok_or_else(|| format!("no story `{name}`; there are {}", names.join(", ")))
    }

    /// Plays it.
    ///
    /// # Errors
    ///
    /// An operation of it fails, which is a mistake in the story.
    pub fn film(&self) -> Result<Film, Failure> {
        let mut stage = Stage::new(self.seed, self.faults, (self.setup)())?;
        (self.play)(&mut stage)?;
        Ok(stage.film(self.name, self.title))
    }
}

fn demo(stage: &mut Stage) -> Result<(), Failure> {
    let (slow, slow_peer) = stage.sim.pipe()?;
    let (fast, fast_peer) = stage.sim.pipe()?;
    stage.frame("Two rings in shared memory. Nobody has written yet: every slot is free.", "");
    let a = stage.submit("read slow pipe", Some("8 B"), Read::new(slow, [0; 8]))?;
    let b = stage.submit("read fast pipe", Some("8 B"), Read::new(fast, [0; 8]))?;
    let c = stage.submit("nop", None, Nop)?;
    let what = "The program writes three entries. Its tail has not moved: the kernel sees none.";
    stage.frame(what, "ring.submit(..)  three times");
    stage.enter()?;
    let what = "One system call: tail moves, the kernel consumes all three. Their slots are free \
                again, but only C is complete.";
    stage.frame(what, "ring.submit_all()");
    let file = stage.sim.file(&b"text"[..])?;
    let d = stage.submit("read file", Some("4 B"), Read::new(file, [0; 4]))?;
    let e = stage.submit("nop", None, Nop)?;
    let what = "The program writes two more, into slots whose first requests go on: E lies where \
                A lay.";
    stage.frame(what, "ring.submit(..)  twice");
    stage.arrives(&fast_peer, b"quick")?;
    let what = "Somebody writes to the fast pipe. A completion appears without a system call: B \
                is over before A, which came first.";
    stage.frame(what, "");
    stage.reap()?;
    let what = "The program takes both completions, without a system call: it moves head. B's \
                buffer is its own again.";
    stage.frame(what, "ring.reap(..)");
    stage.enter()?;
    let what = "The second system call: both new requests are over at once.";
    stage.frame(what, "ring.submit_all()");
    stage.arrives(&slow_peer, b"at last")?;
    stage.frame("Data for A, at last: its completion is the fifth.", "");
    stage.reap()?;
    let what = "All is taken: two system calls for five requests. Heads meet tails.";
    stage.frame(what, "ring.reap(..)");
    for ticket in [c, e] {
        stage.ring.wait(ticket)??;
    }
    assert_eq!(stage.ring.wait(a)?.buf[..7], *b"at last");
    assert_eq!(stage.ring.wait(b)?.buf[..5], *b"quick");
    assert_eq!(stage.ring.wait(d)?.buf, *b"text");
    Ok(())
}

fn read(stage: &mut Stage) -> Result<(), Failure> {
    let file = stage.sim.file(&b"Once upon a time"[..])?;
    let read = stage.submit("read file", Some("16 B"), Read::new(file, [0; 16]))?;
    stage.frame("The program writes an entry: read 16 bytes into this buffer.", "ring.submit(..)");
    stage.enter()?;
    let what = "It enters the kernel, which takes the entry, reads, and posts the result.";
    stage.frame(what, "ring.submit_all()");
    assert_eq!(stage.ring.wait(read)?.buf, *b"Once upon a time");
    stage.frame("The program takes the completion. The buffer is its own again.", "ring.wait(..)");
    Ok(())
}

fn wrap(stage: &mut Stage) -> Result<(), Failure> {
    let mut tickets = Vec::new();
    let what = "The indices are about to wrap. A slot is an index under the mask: its last bits.";
    stage.frame(what, "");
    for number in ["first", "second", "third"] {
        tickets.push(stage.submit(number, None, Nop)?);
    }
    let what = "Three entries: the indices before the wrap, and after it, lie in slots side by \
                side.";
    stage.frame(what, "ring.submit(..)  three times");
    stage.enter()?;
    let what = "Tail has wrapped, and is the smaller number. The distance to it is right still.";
    stage.frame(what, "ring.submit_all()");
    stage.reap()?;
    stage.frame("Head follows.", "ring.reap(..)");
    Ok(())
}

fn sqpoll(stage: &mut Stage) -> Result<(), Failure> {
    let _first = stage.submit("first", None, Nop)?;
    let _second = stage.submit("second", None, Nop)?;
    stage.enter()?;
    let what = "The program moves tail, and does not enter: a thread in the kernel is looking.";
    stage.frame(what, "ring.submit_all()");
    stage.sim.advance(Duration::from_millis(1));
    let what = "The thread takes both entries and posts completions. No system call so far.";
    stage.frame(what, "");
    stage.reap()?;
    stage.frame("The program takes them. No system call so far.", "ring.reap(..)");
    stage.sim.advance(Duration::from_millis(20));
    let what = "Nothing came for 10 ms: the thread sets NEED_WAKEUP, looks once more, and sleeps.";
    stage.frame(what, "");
    let _third = stage.submit("third", None, Nop)?;
    let what = "An entry is written. If tail moved now, nobody would see it.";
    stage.frame(what, "ring.submit(..)");
    stage.enter()?;
    let what = "The program moves tail, sees NEED_WAKEUP, and enters once, to wake the thread.";
    stage.frame(what, "ring.submit_all()");
    stage.sim.advance(Duration::from_millis(1));
    stage.reap()?;
    stage.frame("All is taken: one system call for three requests.", "ring.reap(..)");
    Ok(())
}

fn defer(stage: &mut Stage) -> Result<(), Failure> {
    let (pipe, peer) = stage.sim.pipe()?;
    let read = stage.submit("read pipe", Some("8 B"), Read::new(pipe, [0; 8]))?;
    stage.enter()?;
    stage.frame("The kernel has the read, and nothing to read yet.", "ring.submit_all()");
    stage.arrives(&peer, b"data")?;
    let what = "Data comes. The ring defers its work: no completion, however often one looks.";
    stage.frame(what, "");
    stage.enter_and_wait(1)?;
    let what = "The program enters to get completions. Now the work is done, and one is there.";
    stage.frame(what, "ring.submit_and_wait(1)");
    stage.ring.wait(read)?.result?;
    stage.frame("The program takes it.", "ring.wait(..)");
    Ok(())
}

fn multishot(stage: &mut Stage) -> Result<(), Failure> {
    let buffers = stage.ring.buf_ring(4, 64)?;
    let (ours, theirs) = stage.sim.socket_pair()?;
    stage.frame("Four buffers are the kernel's to choose from.", "ring.buf_ring(4, 64)");
    let recv = stage.submit("recv, multishot", None, RecvMulti::new(ours, &buffers))?;
    stage.enter()?;
    stage.frame("One entry. It is in flight until its last completion.", "ring.submit_all()");
    stage.arrives(&theirs, b"one")?;
    stage.arrives(&theirs, b"two")?;
    let what = "Two messages come: two completions of one request, each with a buffer.";
    stage.frame(what, "");
    let first = stage.ring.next(&recv)?.ok_or("no item")??;
    let second = stage.ring.next(&recv)?.ok_or("no item")??;
    let what = "The program takes them, and has the buffers on lease. A is in flight still.";
    stage.frame(what, "ring.next(..)  twice");
    drop(first);
    stage.frame("It drops the first lease: that buffer is the kernel's again.", "drop(lease)");
    drop(theirs);
    stage.sim.advance(Duration::ZERO);
    stage.frame("The peer closes: the last completion, without MORE. A is over.", "");
    drop(second);
    stage.reap()?;
    stage.frame("All is taken, and all buffers are offered again.", "ring.reap(..)");
    Ok(())
}

fn chain(stage: &mut Stage) -> Result<(), Failure> {
    let file = stage.sim.file(&b"text"[..])?;
    let log = stage.sim.file(Vec::new())?;
    let (pipe, peer) = stage.sim.pipe()?;
    let steps = (Read::new(file, [0; 4]), Read::new(pipe, [0; 8]), Write::new(log, b"done"));
    let _tickets = stage.ring.submit_chain(steps).map_err(|rejected| rejected.to_string())?;
    stage.wrote("read file, linked", Some("4 B"));
    stage.wrote("read pipe, linked", Some("8 B"));
    stage.wrote("write log", Some("4 B"));
    let what = "Three entries in one chain: each begins when the one before has done all.";
    stage.frame(what, "ring.submit_chain((read, read, write))");
    stage.enter()?;
    let what = "The kernel takes all three. A is done, so B has begun; C waits for it.";
    stage.frame(what, "ring.submit_all()");
    stage.arrives(&peer, b"short")?;
    let what =
        "B gets 5 of 8 bytes. A short read breaks the chain: C is cancelled, unbegun (-125).";
    stage.frame(what, "");
    stage.reap()?;
    stage.frame("The program takes all three.", "ring.reap(..)");
    Ok(())
}

fn cancel(stage: &mut Stage) -> Result<(), Failure> {
    let (pipe, peer) = stage.sim.pipe()?;
    let read = stage.submit("read pipe", Some("8 B"), Read::new(pipe, [0; 8]))?;
    stage.enter()?;
    stage.frame("A read waits for data, and the kernel has its buffer.", "ring.submit_all()");
    let _cancel = stage.submit("cancel A", None, Cancel::ticket(&read))?;
    let what = "To drop the buffer now would be wrong. The program asks for an end: an entry, too.";
    stage.frame(what, "ring.submit(Cancel::ticket(&read))");
    stage.enter()?;
    let what = "Two completions: A was cancelled (-125), and B has found it (0).";
    stage.frame(what, "ring.submit_all()");
    stage.reap()?;
    stage.frame("Both are taken, and only now the buffer is the program's.", "ring.reap(..)");
    drop(peer);
    Ok(())
}

fn overflow(stage: &mut Stage) -> Result<(), Failure> {
    let buffers = stage.ring.buf_ring(8, 64)?;
    let (ours, theirs) = stage.sim.socket_pair()?;
    let _recv = stage.submit("recv, multishot", None, RecvMulti::new(ours, &buffers))?;
    let _nop = stage.submit("nop", None, Nop)?;
    stage.enter()?;
    stage.frame("A request that completes many times, and one that has.", "ring.submit_all()");
    for message in [b"one", b"two", b"thr"] {
        stage.arrives(&theirs, message)?;
    }
    let what = "Three messages come, and nobody takes their completions: the ring is full.";
    stage.frame(what, "");
    stage.arrives(&theirs, b"fou")?;
    let what = "A fourth. There is no room: the kernel keeps the completion, says OVERFLOW, and \
                ends A.";
    stage.frame(what, "");
    stage.reap()?;
    let what = "The program takes four, sees OVERFLOW, enters to get the fifth, and takes it.";
    stage.frame(what, "ring.reap(..)");
    Ok(())
}

fn zero_copy(stage: &mut Stage) -> Result<(), Failure> {
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    let _listener = stage.sim.listener(address)?;
    let ours = stage.sim.connect(address)?;
    let send = stage.submit("send, zero copy", Some("5 B"), SendZc::new(ours, b"hello"))?;
    stage.enter()?;
    stage.frame("The kernel sends from the program's own buffer.", "ring.submit_all()");
    stage.until_posted();
    let what = "The bytes are sent, says the first completion. MORE: the buffer is in use still.";
    stage.frame(what, "");
    stage.reap()?;
    stage.frame("The program takes it, and must not touch the buffer yet.", "ring.reap(..)");
    stage.until_posted();
    stage.frame("The notification: the kernel no longer uses the buffer.", "");
    stage.reap()?;
    stage.frame("Taken. Now the buffer is the program's.", "ring.reap(..)");
    drop(send);
    Ok(())
}

fn fanout(stage: &mut Stage) -> Result<(), Failure> {
    let buffers = stage.ring.buf_ring(2, 64)?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (ours, theirs) = stage.sim.socket_pair()?;
        clients.push((Rc::new(ours), theirs));
    }
    let (speaker, peer) = &clients[2];
    let recv = RecvMulti::new(Rc::clone(speaker), &buffers);
    let recv = stage.submit("recv of client 3", None, recv)?;
    stage.enter()?;
    stage.frame("The server waits for what client 3 says.", "ring.submit_all()");
    stage.arrives(peer, b"news")?;
    stage.frame("Client 3 says something: a completion, with a buffer.", "");
    let lease = stage.ring.next(&recv)?.ok_or("no item")??;
    let message = Rc::new(lease.to_vec());
    drop(lease);
    let mut sends = Vec::new();
    for (name, (ours, _)) in ["send to 1", "send to 2", "send to 3"].into_iter().zip(&clients) {
        let send = Send::new(Rc::clone(ours), Rc::clone(&message));
        sends.push(stage.submit(name, Some("4 B"), send)?);
    }
    let what = "It takes the message, and writes three entries: one send to each client, all of \
                the same 4 bytes.";
    stage.frame(what, "ring.submit(..)  three times");
    stage.enter()?;
    let what = "One system call for three sends. All are complete: each socket has its copy.";
    stage.frame(what, "ring.submit_all()");
    stage.reap()?;
    stage.frame("The program takes all three. The receive is in flight still.", "ring.reap(..)");
    for send in sends {
        stage.ring.wait(send)?.result?;
    }
    assert_eq!(Rc::strong_count(&message), 1, "all have given it back");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_begin_where_they_say() {
        for story in STORIES {
            let film = story.film().expect(story.name);
            let start = film.frames[0].before.sq_head;
            let is_near = start > u32::MAX - 4;
            assert_eq!(is_near, story.seed == AT_THE_WRAP, "{}: {start}", story.name);
            assert!(is_near || start == 0, "{}: {start}", story.name);
        }
    }
}
