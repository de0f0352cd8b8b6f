//! Borrowed buffers in a scope, and chains.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Madvise, MemoryAdvice, Nop, Op as _, Read, SendZc, TimeoutMulti, Write};
use annulus::sys::opcode::Opcode;
use annulus::{ChainEnd, Rejection, Ring, Setup, Step, StepExt};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, Part, child_succeeds, hangs_up, safe_ring, test};
use crate::watched::{Panics, Watched, quietly, unwind};

#[path = "safe_scope/drained.rs"]
mod drained;
#[path = "safe_scope/lists.rs"]
mod lists;
#[path = "safe_scope/miscounted.rs"]
mod miscounted;

/// The parts that run in a child process, since a failure aborts it.
pub const PARTS: &[Part] = &[
    ("a step panics when it is taken back", || taken_back().expect("it goes on")),
    ("an operation panics when it is taken back", || taken_back_alone().expect("it goes on")),
];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let all = [drained::tests(), lists::tests(), miscounted::tests(), scopes_and_chains()];
    all.into_iter().flatten().collect()
}

fn scopes_and_chains() -> Vec<Trial> {
    vec![
        test("a_scope_lends_a_buffer_and_gives_it_back", &[], lends),
        test("a_buffer_can_be_lent_again_within_its_scope", &[], lends_again),
        test("op1_the_end_of_a_scope_ends_what_is_in_flight", &[], ends),
        test("op1_a_forgotten_ticket_does_not_outlive_its_scope", &[], forgotten),
        test("op1_a_panic_does_not_outrun_the_scope", &[], unwinds),
        test("a_scope_drops_outputs_that_were_not_redeemed", &[], unredeemed),
        test("a_scope_leaves_other_operations_alone", &[], others),
        test("a_scope_leaves_multishots_alone_however_long_it_ends", &TIMERS, other_multishots),
        test("nothing_of_a_scope_waits_behind_what_is_drained", &[], drained_outside),
        test("nothing_of_a_scope_waits_because_of_what_was_drained", &[], drained_before),
        test("no_zero_copy_send_waits_behind_what_is_drained", &ZERO_COPY, drained_before_a_send),
        test("a_chain_runs_in_order", &[], in_order),
        test("a_chain_breaks_where_a_step_fails", &[], breaks),
        test("a_chain_breaks_where_a_step_is_short", &[], short),
        test("a_hard_tie_holds_when_a_step_fails", &[], hard),
        test("a_clock_cancels_what_takes_too_long", &[], within_expires),
        test("a_clock_ends_with_its_operation", &[], within_in_time),
        test("a_chain_longer_than_the_ring_is_given_back", &[], too_long),
        test("a_chain_without_slots_is_given_back", &[], no_slots),
        test("op1_a_panic_within_a_chain_submits_none_of_it", &[], chain_panics),
        test("a_panic_of_what_is_taken_back_out_of_a_chain_aborts_nothing", &[], || {
            child_succeeds("a step panics when it is taken back")
        }),
        test("a_panic_of_what_is_taken_back_aborts_nothing", &[], || {
            child_succeeds("an operation panics when it is taken back")
        }),
        test("chains_follow_one_another_round_the_ring", &[], many_chains),
        test("a_chain_borrows_within_a_scope", &[], scoped_chain),
        test("a_chain_of_an_array_gives_an_array", &[], array),
    ]
}

/// Since Linux 6.4.
const TIMERS: [Need; 1] = [Need::Other(no_timers)];

fn no_timers() -> Option<String> {
    let mut ring = small();
    let once = ring.submit(TimeoutMulti::new(Duration::ZERO).times(1)).expect("a free slot");
    let missing = ring.wait(once).expect("it completes").is_err();
    missing.then(|| "needs Linux 6.4: TIMEOUT_MULTISHOT".to_owned())
}

const ZERO_COPY: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];

/// A scope could not cancel an operation behind it, since no cancel finds a request that has not
/// begun.
fn drained_outside() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = silent();
    let read = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
    let drained = ring.submit(Nop.drained()).map_err(|r| r.why)?;
    ring.submit_all()?;
    ring.scope(|s| {
        let refused = s.submit(Nop).map(drop).map_err(|rejected| rejected.why);
        assert_eq!(refused, Err(Rejection::Drained));
        let refused = s.submit_chain((Nop, Nop)).map(drop).map_err(|rejected| rejected.why);
        assert_eq!(refused, Err(Rejection::Drained));
    });
    let other = ring.submit(Nop).map_err(|r| r.why)?; // As before.
    writer.write_all(b"x")?;
    assert_eq!(ring.wait(read)?.result?, 1);
    assert_eq!(ring.wait(drained)?.ok(), Some(0));
    assert_eq!(ring.wait(other)?.ok(), Some(0));
    ring.scope(|s| {
        let nop = s.submit(Nop).map_err(|r| r.why)?;
        assert_eq!(s.wait(nop)?.ok(), Some(0));
        Ok(())
    })
}

/// The drained operation has ended; those after it have not, and later kernels let the next wait.
fn drained_before() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = silent();
    let drained = ring.submit(Nop.drained()).map_err(|r| r.why)?;
    let read = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
    assert_eq!(ring.wait(drained)?.ok(), Some(0));
    ring.scope(|s| {
        let refused = s.submit(Nop).map(drop).map_err(|rejected| rejected.why);
        assert_eq!(refused, Err(Rejection::Drained));
    });
    writer.write_all(b"x")?;
    assert_eq!(ring.wait(read)?.result?, 1);
    ring.scope(|s| {
        let nop = s.submit(Nop).map_err(|r| r.why)?;
        assert_eq!(s.wait(nop)?.ok(), Some(0));
        Ok(())
    })
}

/// The drained entry would wait for the notification of the send, and the send for that entry.
fn drained_before_a_send() -> Result<(), Failed> {
    let mut ring = small();
    let (one, _other) = connected()?;
    let one = Rc::new(one);
    let send = || SendZc::new(Rc::clone(&one), [1; 8]);
    let drained = ring.submit(Nop.drained()).map_err(|r| r.why)?;
    let refused = ring.submit(send()).map(drop).map_err(|rejected| rejected.why);
    assert_eq!(refused, Err(Rejection::Drained));
    let refused = ring.submit_chain((Nop, send())).map(drop).map_err(|rejected| rejected.why);
    assert_eq!(refused, Err(Rejection::Drained));
    assert_eq!(ring.wait(drained)?.ok(), Some(0));
    let sent = ring.submit(send()).map_err(|r| r.why)?;
    assert_eq!(ring.wait_timeout(sent, Duration::from_secs(20))?.result?.bytes, 8);
    Ok(())
}

fn connected() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    Ok((one, listener.accept()?.0))
}

fn small() -> Ring {
    safe_ring(Setup::new(4))
}

fn lends() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"lent")?;
    let mut buf = [0; 8];
    let count = ring.scope(|s| {
        let read = s.submit(Read::new(&reader, &mut buf[..])).map_err(|r| r.why)?;
        Ok::<_, Failed>(s.wait(read)?.result?)
    })?;
    assert_eq!((count, &buf[..4]), (4, &b"lent"[..]));
    Ok(())
}

fn lends_again() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let mut buf = [0; 2];
    let mut seen = Vec::new();
    ring.scope(|s| {
        let mut lent = &mut buf[..];
        for part in [b"ab", b"cd", b"ef"] {
            writer.write_all(part)?;
            let read = s.submit(Read::new(&reader, lent)).map_err(|r| r.why)?;
            lent = s.wait(read)?.ok()?.1;
            seen.extend_from_slice(lent);
        }
        Ok::<_, Failed>(())
    })?;
    assert_eq!(seen, b"abcdef");
    Ok(())
}

/// A pipe with nothing in it.
fn silent() -> (std::io::PipeReader, std::io::PipeWriter) {
    pipe().expect("a pipe")
}

fn ends() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = silent();
    let mut buf = [7; 8];
    ring.scope(|s| {
        let ticket = s.submit(Read::new(&reader, &mut buf[..])).map_err(|r| r.why)?;
        s.submit_all()?;
        drop(ticket);
        Ok::<_, Failed>(())
    })?;
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    writer.write_all(b"too late")?;
    assert_eq!(buf, [7; 8]);
    let mut late = [0; 8];
    (&reader).read_exact(&mut late)?;
    assert_eq!(&late, b"too late");
    Ok(())
}

fn forgotten() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = silent();
    let mut bufs = [[0; 4]; 3];
    ring.scope(|s| {
        for buf in &mut bufs {
            let ticket = s.submit(Read::new(&reader, &mut buf[..])).map_err(|r| r.why)?;
            let _ = ticket;
        }
        Ok::<_, Failed>(())
    })?;
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    Ok(())
}

fn unwinds() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = silent();
    let mut buf = [0; 4];
    let result = quietly(|| {
        ring.scope(|s| {
            let ticket = s.submit(Read::new(&reader, &mut buf[..])).map_err(|r| r.why);
            s.submit_all().expect("submit");
            let _ = ticket;
            unwind();
        })
    });
    assert!(result.is_err());
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    Ok(())
}

fn unredeemed() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = silent();
    writer.write_all(b"12345678")?;
    ring.scope(|s| {
        let read = Read::new(&reader, Watched::new(&drops, Panics::Never));
        let ticket = s.submit(read).map_err(|r| r.why)?;
        let nop = s.submit(Nop).map_err(|r| r.why)?;
        s.wait(nop)??;
        drop(ticket);
        Ok::<_, Failed>(())
    })?;
    assert_eq!((drops.get(), ring.vacant()), (1, 8));
    Ok(())
}

fn others() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = silent();
    let ticket = ring.submit(Read::new(reader, vec![0; 8].into_boxed_slice()));
    let ticket = ticket.map_err(|r| r.why)?;
    let (other, _open) = silent();
    let mut buf = [0; 4];
    ring.scope(|s| {
        let _ = s.submit(Read::new(&other, &mut buf[..]));
    });
    assert_eq!(ring.in_flight(), 1);
    writer.write_all(b"still on")?;
    assert_eq!(&ring.wait(ticket)?.buf[..], b"still on");
    Ok(())
}

/// A worker thread makes pages, which no cancel stops, and the scope has to wait for that. Only for
/// a multishot of its own would it let the completion queue fill, which ends all multishots.
fn other_multishots() -> Result<(), Failed> {
    let mut ring = small();
    let ticks = ring.submit(TimeoutMulti::new(Duration::from_millis(2))).map_err(|r| r.why)?;
    ring.submit_all()?;
    let mut pages = memmap2::MmapOptions::new().len(96 << 20).map_anon()?;
    ring.scope(|scope| {
        let _ = scope.submit(Madvise::new(&mut pages, MemoryAdvice::PopulateWrite));
        scope.submit_all().map(drop)
    })?;
    for _ in 0..100 {
        let tick = ring.next(&ticks)?;
        assert!(tick.is_some(), "{:?}", ring.wait(ticks)?);
    }
    // A cancel may miss so short a timer; the end of the ring does not.
    ring.detach(ticks);
    assert_eq!(ring.shutdown(Duration::from_secs(60)), Ok(()));
    Ok(())
}

/// A file of its own, empty and nameless.
fn scratch() -> Result<Rc<File>, Failed> {
    let path = std::env::temp_dir()
        .join(format!("annulus-{}-{:?}", std::process::id(), { std::thread::current().id() }));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(Rc::new(file))
}

fn in_order() -> Result<(), Failed> {
    let mut ring = small();
    let file = scratch()?;
    let write = Write::new(Rc::clone(&file), "chained").at(0);
    let read = Read::new(Rc::clone(&file), [0; 7]).at(0);
    let chain = ring.submit_chain((write, read)).map_err(|r| r.why)?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    let (write, read) = chain.outputs;
    assert_eq!((write.result?, read.result?, &read.buf), (7, 7, b"chained"));
    let mut ring = small();
    let chain = ring.submit_chain((Nop, Nop, Nop))?;
    assert_eq!(ring.wait_chain(chain)?.end, ChainEnd::Complete);
    assert_eq!(ring.stats().enters, 1, "one enter submits all, and waits for all");
    Ok(())
}

fn breaks() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let file = scratch()?;
    let (reader, writer) = silent();
    drop(reader); // Fails when it runs: an earlier failure cancels all on old kernels.
    assert!(hangs_up(&writer));
    let fails = Write::new(writer, "x");
    let never = Write::new(Rc::clone(&file), Watched::new(&drops, Panics::Never)).at(0);
    let chain = ring.submit_chain((Nop, fails, never)).map_err(|r| r.why)?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 1 });
    let (nop, fails, never) = chain.outputs;
    assert_eq!(nop?, 0);
    assert_eq!(fails.result.expect_err("EPIPE").raw_os_error(), Some(libc::EPIPE));
    assert_eq!(never.result.expect_err("never ran").raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(drops.get(), 0); // It came back.
    assert_eq!(file.metadata()?.len(), 0);
    Ok(())
}

fn short() -> Result<(), Failed> {
    let mut ring = small();
    let file = scratch()?;
    (&*file).write_all(b"12345")?;
    let read = Read::new(Rc::clone(&file), [0; 9]).at(0);
    let chain = ring.submit_chain((read, Nop)).map_err(|r| r.why)?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    assert_eq!(chain.outputs.0.result?, 5);
    assert!(chain.outputs.1.is_err());
    Ok(())
}

fn hard() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = silent();
    drop(reader);
    assert!(hangs_up(&writer));
    let fails = Write::new(writer, "x").hard();
    let chain = ring.submit_chain((fails, Nop)).map_err(|r| r.why)?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    assert!(chain.outputs.0.result.is_err());
    assert_eq!(chain.outputs.1?, 0);
    Ok(())
}

fn within_expires() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = silent();
    let read = Read::new(reader, [0; 4]).within(Duration::from_millis(1));
    let chain = ring.submit_chain((read,)).map_err(|r| r.why)?;
    let (read,) = ring.wait_chain(chain)?.outputs;
    assert!(read.expired);
    let errno = read.output.result.expect_err("nothing came").raw_os_error();
    assert!(matches!(errno, Some(libc::ECANCELED | libc::EINTR)), "{errno:?}");
    assert_eq!(ring.vacant(), 8);
    Ok(())
}

fn within_in_time() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = silent();
    writer.write_all(b"now!")?;
    let read = Read::new(reader, [0; 4]).within(Duration::from_secs(3600));
    let chain = ring.submit_chain((read, Nop)).map_err(|r| r.why)?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    let (read, nop) = chain.outputs;
    assert!(!read.expired);
    assert_eq!((read.output.result?, &read.output.buf), (4, b"now!"));
    assert_eq!(nop?, 0);
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let mut ring = small();
    let rejected = ring.submit_chain([Nop; 5]).expect_err("five of four");
    assert_eq!(rejected.why, Rejection::ChainTooLong { count: 5, entries: 4 });
    assert_eq!(rejected.op.len(), 5);
    Ok(())
}

fn no_slots() -> Result<(), Failed> {
    let mut ring = small();
    let tickets: Vec<_> = (0..6).map(|_| ring.submit(Nop)).collect::<Result<_, _>>()?;
    let rejected = ring.submit_chain([Nop; 3]).expect_err("two slots are free");
    assert_eq!(rejected.why, Rejection::NoSlot);
    let pair = ring.submit_chain((Nop, Nop)).map_err(|r| r.why)?;
    assert_eq!(ring.wait_chain(pair)?.end, ChainEnd::Complete);
    for ticket in tickets {
        ring.wait(ticket)??;
    }
    assert_eq!(ring.vacant(), 8);
    Ok(())
}

fn chain_panics() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = silent();
    let reader = Rc::new(reader);
    let read = |panics| Read::new(Rc::clone(&reader), Watched::new(&drops, panics));
    let chain = (read(Panics::Never), Nop, read(Panics::InRegion), read(Panics::Never));
    assert!(quietly(|| ring.submit_chain(chain).is_ok()).is_err());
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (3, 0, 8));
    assert_eq!(ring.submit_all()?, 0);
    writer.write_all(b"12345678")?;
    let ticket = ring.submit(read(Panics::Never)).map_err(|r| r.why)?;
    assert_eq!(ring.wait(ticket)?.result?, 8);
    Ok(())
}

/// A step panics, and one before it panics when it is taken out of its slot.
fn taken_back() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let read = |panics| Read::new(silent().0, Watched::new(&drops, panics));
    let chain = (read(Panics::InDrop), read(Panics::InDrop), Nop, read(Panics::InRegion));
    assert!(quietly(|| ring.submit_chain(chain).is_ok()).is_err());
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (3, 0, 8));
    Ok(())
}

/// An operation panics when it is asked for its entry, and again when it is dropped for that.
fn taken_back_alone() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let twice = || Read::new(silent().0, Watched::new(&drops, Panics::InRegionAndDrop));
    assert!(quietly(|| ring.submit(twice()).is_ok()).is_err());
    assert!(quietly(|| ring.submit_chain((Nop, twice())).is_ok()).is_err());
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (2, 0, 8));
    Ok(())
}

fn many_chains() -> Result<(), Failed> {
    let mut ring = small();
    let file = scratch()?;
    for round in 0..50_u8 {
        let single = ring.submit(Nop)?;
        let write = Write::new(Rc::clone(&file), [round; 3]).at(0);
        let read = Read::new(Rc::clone(&file), [0; 3]).at(0);
        let chain = ring.submit_chain((write, read)).map_err(|r| r.why)?;
        let chain = ring.wait_chain(chain)?;
        assert_eq!((chain.end, chain.outputs.1.buf), (ChainEnd::Complete, [round; 3]));
        ring.wait(single)??;
    }
    assert_eq!((ring.vacant(), ring.stale()), (8, 0));
    Ok(())
}

fn scoped_chain() -> Result<(), Failed> {
    let mut ring = small();
    let file = scratch()?;
    let text = String::from("borrowed");
    let mut buf = [0; 8];
    let end = ring.scope(|s| {
        let write = Write::new(&*file, text.as_str()).at(0);
        let read = Read::new(&*file, &mut buf[..]).at(0);
        let chain = s.submit_chain((write, read)).map_err(|r| r.why)?;
        Ok::<_, Failed>(s.wait_chain(chain)?.end)
    })?;
    assert_eq!((end, &buf), (ChainEnd::Complete, b"borrowed"));
    Ok(())
}

fn array() -> Result<(), Failed> {
    let mut ring = small();
    let chain = ring.submit_chain([Nop; 4]).map_err(|r| r.why)?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    assert!(chain.outputs.into_iter().all(|output| output.is_ok()));
    Ok(())
}
