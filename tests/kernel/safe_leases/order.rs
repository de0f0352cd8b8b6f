//! Which part of a buffer a completion carries: only the order of completions tells.
//!
//! ```text
//!   many multishots ──► one buffer, part after part ──► completions in the same order
//! ```
//!
//! Each byte encodes its stream and its position in that stream.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::lease::{BufLease, BufRing};
use annulus::op::{Ended, Ending, Multishot, Op, ReadMulti, RecvMulti};
use annulus::raw::register::RingMemory;
use annulus::sys::flags::SetupFlags;
use annulus::sys::opcode::Opcode;
use annulus::{Next, Rejection, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use super::buf_ring::{PARTS, SOME, all_are_back, record, sockets};
use super::{Random, patient, pipe};
use crate::harness::{Need, safe_ring, test};

const MANY: [Need; 3] = [PARTS[0], PARTS[1], Need::Op(Opcode::READ_MULTISHOT)];
const COOP: SetupFlags = SetupFlags::COOP_TASKRUN;
const DEFER: SetupFlags = SetupFlags::DEFER_TASKRUN.union(SetupFlags::SINGLE_ISSUER);

/// After so many turns in which nothing came, one operation is cancelled and submitted again.
const MANY_TURNS: u32 = 20_000;

/// How many bytes go through each stream.
const BYTES: usize = 30_000;

pub fn tests() -> Vec<Trial> {
    let polling = || Setup::plain(8).sqpoll(Duration::from_millis(1));
    type Kind = (&'static str, SetupFlags, fn() -> Setup<'static>);
    let rings: [Kind; 4] = [
        ("plain", SetupFlags::empty(), || Setup::plain(8)),
        ("cooperative", COOP, || Setup::plain(8).with(COOP)),
        ("deferring", DEFER, || Setup::plain(8).with(DEFER)),
        ("polling", SetupFlags::SQPOLL, polling),
    ];
    let each = rings.into_iter().map(|(kind, flags, setup)| {
        let name = format!("parts_of_many_multishots_come_in_turn_on_a_{kind}_ring");
        let needs = [MANY[0], MANY[1], MANY[2], Need::Setup(flags)];
        // A queue of 64 completions, and one that overflows.
        test(&name, &needs, move || [64, 8].into_iter().try_for_each(|cq| in_turn(setup(), cq)))
    });
    each.collect()
}

/// The byte at `at` of a stream.
fn byte(stream: usize, at: usize) -> u8 {
    u8::try_from(Random(u64::try_from(stream << 32 | at).expect("64 bits")).below(256)).expect("it")
}

/// A stream, of which `came` bytes have come.
struct Stream<
    O: Multishot<Item = io::Result<BufLease>, Output = Ended<OwnedFd, io::Result<BufLease>>>,
> {
    begin: fn(OwnedFd, &BufRing) -> O,
    from: Option<OwnedFd>,
    many: Option<Ticket<O>>,
}

/// A stream of leases.
trait Leases {
    /// Takes a lease, if one has come, or begins to read. `Err` at the end.
    fn take(&mut self, ring: &mut Ring, buffers: &BufRing) -> Result<Option<BufLease>, Ending>;

    /// Cancels the operation. Where two wake-ups come together, such as one for data and one for
    /// the end of the stream, some kernels look once only, and a multishot does not complete until
    /// it is woken again (seen on 6.16, 6.17 and 6.18.15; not on 6.18.44 and 7.1).
    fn interrupt(&mut self, ring: &mut Ring);
}

impl<O> Leases for Stream<O>
where
    O: Multishot<Item = io::Result<BufLease>, Output = Ended<OwnedFd, io::Result<BufLease>>>
        + 'static,
{
    fn take(&mut self, ring: &mut Ring, buffers: &BufRing) -> Result<Option<BufLease>, Ending> {
        if let Some(from) = self.from.take() {
            self.many = Some(submit_at_last(ring, (self.begin)(from, buffers)));
            ring.submit_all().expect("submit");
        }
        let many = self.many.take().expect("begun");
        let next = ring.try_next(&many).expect("next");
        if matches!(next, Next::Ended) {
            let Ended { how, fd, remaining: left } = ring.wait(many).expect("wait");
            assert!(left.is_empty(), "all was taken before");
            self.from = Some(fd);
            let ended = matches!(how, Ending::Eof | Ending::Cancelled);
            return if ended { Err(how) } else { Ok(None) };
        }
        self.many = Some(many);
        match next {
            Next::Item(lease) => Ok(Some(lease.expect("a buffer"))),
            _ => Ok(None),
        }
    }

    fn interrupt(&mut self, ring: &mut Ring) {
        if let Some(many) = &self.many {
            ring.cancel(many).expect("cancel");
            ring.submit_all().expect("submit");
        }
    }
}

/// Submits `op`, when a polling thread has made room for it.
fn submit_at_last<O: Op + 'static>(ring: &mut Ring, mut op: O) -> Ticket<O> {
    loop {
        match ring.submit(op) {
            Ok(ticket) => return ticket,
            Err(rejected) => {
                assert_eq!(rejected.why, Rejection::QueueFull);
                op = rejected.op;
                std::thread::yield_now();
            }
        }
    }
}

fn begin(number: usize) -> (Box<dyn Leases>, Box<dyn Write + Send>) {
    if number.is_multiple_of(2) {
        let (from, to) = sockets();
        let begin = |from, buffers: &BufRing| RecvMulti::new(from, buffers);
        (Box::new(Stream { begin, from: Some(from.into()), many: None }), Box::new(to))
    } else {
        let (from, to) = pipe();
        let begin = |from, buffers: &BufRing| ReadMulti::new(from, buffers);
        (Box::new(Stream { begin, from: Some(from.into()), many: None }), Box::new(to))
    }
}

/// Writes all streams, a few bytes here and a few there, and ends them.
fn write(mut streams: Vec<Box<dyn Write + Send>>) {
    let mut random = Random(7);
    let mut sent = vec![0; streams.len()];
    while sent.iter().any(|&sent| sent < BYTES) {
        let number = random.below(streams.len());
        let most = if random.below(16) == 0 { 400 } else { 40 };
        let end = BYTES.min(sent[number] + 1 + random.below(most));
        let bytes: Vec<u8> = (sent[number]..end).map(|at| byte(number, at)).collect();
        streams[number].write_all(&bytes).expect("write");
        sent[number] = end;
    }
}

/// Several streams through one buffer ring, whose leases are held for a while.
fn in_turn(setup: Setup<'static>, cq: u32) -> Result<(), Failed> {
    let mut ring = safe_ring(setup.cq_entries(cq));
    let buffers = patient(|| ring.buf_ring_with(8, 256, RingMemory::User, SOME));
    let (mut streams, ends): (Vec<_>, Vec<_>) = (0..6).map(begin).unzip();
    let writer = std::thread::spawn(move || write(ends));
    let mut came = [0; 6];
    let mut held: VecDeque<(usize, usize, BufLease)> = VecDeque::new();
    let mut random = Random(u64::from(cq));
    let right = |stream: usize, at: usize, lease: &BufLease| {
        lease.iter().zip(at..).all(|(&found, at)| found == byte(stream, at))
    };
    let mut open: Vec<usize> = (0..6).collect();
    let mut idle = 0;
    while !open.is_empty() {
        let place = random.below(open.len());
        let number = open[place];
        match streams[number].take(&mut ring, &buffers) {
            Ok(None) if idle > MANY_TURNS => {
                streams[number].interrupt(&mut ring);
                idle = 0;
            }
            Ok(None) => {
                idle += 1;
                std::thread::yield_now();
            }
            Ok(Some(lease)) => {
                idle = 0;
                assert!(right(number, came[number], &lease), "stream {number} at {}", came[number]);
                let at = came[number];
                came[number] += lease.len();
                held.push_back((number, at, lease));
            }
            Err(_) if came[number] < BYTES => {} // Interrupted: it begins again.
            Err(_) => drop(open.swap_remove(place)),
        }
        if held.len() > random.below(6) {
            let (number, at, lease) = held.pop_front().expect("one");
            assert!(right(number, at, &lease), "BR1: nothing wrote to it");
        }
    }
    writer.join().map_err(|_| "the writer")?;
    assert_eq!(came, [BYTES; 6]);
    drop((held, streams));
    record(&mut ring);
    all_are_back(&mut ring, &buffers);
    Ok(())
}
