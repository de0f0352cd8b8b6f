//! What has a ring of its own, or borrows: scopes, lanes, event loops.
//!
//! | | what is done | what is checked |
//! |---|---|---|
//! | scope | bytes through a pipe, from and to borrowed memory; or left before they came | the bytes; the slots |
//! | lane | reads of a file, some cancelled; the lane ends, or is dropped with reads in flight | the bytes; an output for each |
//! | event loop | bytes there and back between two sockets, by closures | the bytes; the loop ends by itself |

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{self, Outcome, Read, SendFlags, Write};
use annulus::{EnterError, EventLoop, Io, Lane, Setup};

use super::act::Hall;
use super::chance::{bytes, compare};
use super::make::{LONG, patient};
use super::record::nameless;
use super::tally::Count;
use super::trouble::{Check, Trouble, equal, finding, may_end, may_pass, may_refuse};

/// One of them.
pub fn any(hall: &mut Hall) -> Check {
    match hall.chance.below(4) {
        0..=1 => scope(hall),
        2 => lane(hall),
        _ => event_loop(hall),
    }
}

/// Operations that borrow, on a ring that has others in flight.
fn scope(hall: &mut Hall) -> Check {
    let (reader, writer) = io::pipe()?;
    let (key, len, leaves) = (hall.chance.next(), hall.chance.up_to(4000), hall.chance.one_in(3));
    let desk = hall.chance.below(u32::try_from(hall.desks.len()).unwrap_or(1)) as usize;
    let ring = &mut hall.desks[desk].ring;
    let (ours, mut theirs) = (bytes(key, 0, len), vec![0; len]);
    let result = ring.scope(|scope| {
        let read = match scope.submit(Read::new(&reader, theirs.as_mut_slice())) {
            Ok(read) => read,
            Err(rejected) => return may_refuse(rejected.why).map(|()| None),
        };
        if leaves {
            return Ok(None); // The read is cancelled, for nothing came.
        }
        let write = match scope.submit(Write::new(&writer, ours.as_slice())) {
            Ok(write) => write,
            Err(rejected) => return may_refuse(rejected.why).map(|()| None),
        };
        let written = scope.wait(write).map(|out| out.result).map_err(|late| late.why);
        // Nothing comes for the read if the write failed, as it may where a worker thread runs it;
        // then the scope cancels it.
        if !has_moved(written, len)? {
            return Ok(None);
        }
        let read = scope.wait(read).map(|out| out.result).map_err(|late| late.why);
        if !has_moved(read, len)? {
            return Ok(None);
        }
        Ok(Some(()))
    })?;
    match result {
        Some(()) => {
            hall.tally.add(Count::Bytes, len as u64);
            compare(key, 0, &theirs)
        }
        None => Ok(()),
    }
}

/// Whether all bytes were moved, by an operation of a scope that ended or was waited for like that.
fn has_moved(ended: Result<io::Result<usize>, EnterError>, len: usize) -> Result<bool, Trouble> {
    match ended {
        Ok(Ok(count)) => equal("bytes through a pipe", count, len).map(|()| true),
        Ok(Err(error)) => may_end("work in a scope", &error).map(|()| false),
        Err(why) => may_pass(why).map(|_| false),
    }
}

type LaneRead = Read<Rc<OwnedFd>, Vec<u8>>;

/// Reads of a file.
fn lane(hall: &mut Hall) -> Check {
    let (key, size) = (hall.chance.next(), 64 * 512);
    let file = nameless(&mut hall.chance)?;
    file.write_all_at(&bytes(key, 0, size), 0)?;
    let file = Rc::new(OwnedFd::from(file));
    let entries = hall.chance.among(&[2, 8, 32]);
    let mut lane: Lane<LaneRead, u64> = patient(|| Setup::new(entries).build_lane())?;
    lane.set_drop_timeout(LONG);
    hall.tally.add(Count::Rings, 1);
    let (count, mut submitted, mut taken) = (u64::from(hall.chance.below(200)), 0, 0);
    let leaves = hall.chance.one_in(4);
    let mut wrong = Ok(());
    while taken < count {
        while submitted < count {
            let place = u64::from(hall.chance.below(64 * 512 - 300));
            let read = Read::new(Rc::clone(&file), Vec::with_capacity(256)).at(place);
            match lane.submit(read, place) {
                Ok(key) => {
                    submitted += 1;
                    if hall.chance.one_in(10) {
                        lane.cancel(&key).or_else(|error| may_pass(error).map(drop))?;
                        hall.tally.add(Count::Cancels, 1);
                    }
                }
                Err(rejected) => {
                    may_refuse(rejected.why)?;
                    break;
                }
            }
        }
        if leaves && submitted == count {
            break;
        }
        let each = |place, out: Outcome<usize, _, Vec<u8>>| {
            taken += 1;
            let seen = match out.result {
                Ok(read) => equal("bytes of a read in a lane", (read, out.buf.len()), (256, 256)),
                Err(error) => may_end("a read in a lane", &error),
            };
            let seen = seen.and_then(|()| compare(key, place, &out.buf));
            if wrong.is_ok() {
                wrong = seen;
            }
        };
        lane.turn(1, each).map(drop).or_else(|error| may_pass(error).map(drop))?;
    }
    hall.tally.add(Count::Operations, submitted);
    hall.tally.add(Count::LeftInFlight, submitted - taken);
    wrong?;
    if !leaves {
        equal("operations of a lane", lane.in_flight(), 0)?;
    }
    if hall.chance.one_in(2) {
        drop(lane);
    } else if let Err(error) = lane.shutdown(LONG) {
        return finding(error.to_string());
    }
    equal("users of a lane's file", Rc::strong_count(&file), 1)
}

/// What a loop counts.
struct Echo {
    key: u64,
    left: u32,
    bytes: u64,
    operations: Rc<Cell<u64>>,
}

/// Sends the next bytes to the other socket, which sends them back.
fn ping(io: &mut Io<'_, Echo>, ours: Rc<UnixStream>, theirs: Rc<UnixStream>) -> io::Result<()> {
    if io.state.left == 0 {
        return Ok(());
    }
    io.state.left -= 1;
    let (key, at) = (io.state.key, io.state.bytes);
    let count = |io: &Io<'_, Echo>| io.state.operations.set(io.state.operations.get() + 1);
    let send = op::Send::new(ours, bytes(key, at, 500)).flags(SendFlags::WAIT_ALL);
    io.submit(send, move |io, sent| {
        count(io);
        sent.result?;
        let ours = sent.fd;
        let receive = op::Recv::new(Rc::clone(&theirs), Vec::with_capacity(1000));
        io.submit(receive, move |io, received| {
            count(io);
            let len = received.result?;
            io.state.bytes += len as u64;
            compare(key, at, &received.buf)
                .map_err(|_| io::Error::other("a loop received other bytes than it sent"))?;
            if len != 500 {
                return Err(io::Error::other("a loop received too few bytes"));
            }
            ping(io, theirs, ours)
        })?;
        Ok(())
    })?;
    Ok(())
}

fn event_loop(hall: &mut Hall) -> Check {
    let entries = hall.chance.among(&[2, 8, 64]);
    let ring = patient(|| Setup::new(entries).build_for())?;
    hall.tally.add(Count::Rings, 1);
    let (turns, operations) = (hall.chance.below(40), Rc::new(Cell::new(0)));
    let (key, mut wrong) = (hall.chance.next(), None);
    let state = Echo { key, left: turns, bytes: 0, operations: Rc::clone(&operations) };
    let mut events = EventLoop::new(ring, state);
    let (ours, theirs) = UnixStream::pair()?;
    let (ours, theirs) = (Rc::new(ours), Rc::new(theirs));
    ping(&mut events.io(), Rc::clone(&ours), Rc::clone(&theirs))?;
    let clock = op::Timeout::new(Duration::from_micros(hall.chance.below(500).into()));
    match events.io().submit(clock, |io, _| {
        io.state.operations.set(io.state.operations.get() + 1);
        Ok(())
    }) {
        Ok(_) => {}
        Err(rejected) => may_refuse(rejected.why)?,
    }
    events.run(|_, error| wrong = Some(error)).or_else(|error| may_pass(error).map(drop))?;
    if let Some(error) = wrong {
        return finding(format!("an event loop: {error}"));
    }
    equal("outputs in a loop", operations.get(), u64::from(turns) * 2 + 1)?;
    equal("bytes in a loop", events.state.bytes, u64::from(turns) * 500)?;
    hall.tally.add(Count::Operations, operations.get());
    hall.tally.add(Count::Bytes, events.state.bytes);
    match events.shutdown(LONG) {
        Ok(_) => equal("users of a loop's socket", Rc::strong_count(&ours), 1),
        Err(error) => finding(error.to_string()),
    }
}
