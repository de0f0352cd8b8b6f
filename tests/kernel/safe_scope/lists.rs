//! Chains whose length is known only at run time.

use std::cell::Cell;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{
    Fsync, Gather, Nop, Op, Poll, PollEvents, Read, ReadV, SendMsg, SendMsgZc, Write, WriteV,
};
use annulus::{ChainEnd, Rejection, StepExt as _};
use libtest_mimic::{Failed, Trial};

use super::{scratch, silent, small};
use crate::harness::test;
use crate::watched::{Panics, Watched, quietly};

const HOUR: Duration = Duration::from_secs(3600);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_chain_of_a_list_gives_a_list", &[], list),
        test("a_list_of_steps_and_one_more_are_a_chain", &[], and_one_more),
        test("a_list_breaks_where_a_step_is_short", &[], breaks),
        test("a_step_larger_than_an_operation_breaks_no_promise", &[], cut),
        test("a_list_without_steps_is_refused", &[], empty),
        test("a_list_longer_than_the_ring_is_given_back", &[], too_long),
        test("op1_a_panic_within_a_list_submits_none_of_it", &[], panics),
        test("a_list_is_taken_apart_and_given_up", &[], apart),
        test("a_chain_of_any_length_is_given_up", &[], given_up),
        test("a_chain_ends_though_it_waits_for_what_was_detached", &[], after_detached),
        test("a_list_borrows_within_a_scope", &[], scoped),
    ]
}

fn list() -> Result<(), Failed> {
    let mut ring = small();
    for count in 1..=4 {
        let chain = ring.submit_chain(vec![Nop; count])?;
        let chain = ring.wait_chain(chain)?;
        assert_eq!(chain.end, ChainEnd::Complete);
        assert_eq!(chain.outputs.len(), count);
        assert!(chain.outputs.into_iter().all(|output| output.is_ok()));
    }
    assert_eq!((ring.vacant(), ring.in_flight()), (8, 0));
    Ok(())
}

/// The kernel would not notice that it wrote less than it was given, and would go on.
fn cut() -> Result<(), Failed> {
    let mut ring = small();
    let file = scratch()?;
    let parts = |count| WriteV::new(Rc::clone(&file), vec![[7_u8; 8]; count]);
    let sync = || Fsync::new(Rc::clone(&file));
    let rejected = ring.submit_chain((parts(1025), sync())).expect_err("it would be cut").why;
    assert!(matches!(rejected, Rejection::Invalid { .. }), "{rejected}");
    let forced = ring.submit_chain((Nop, parts(1025).forced())).expect_err("it would be cut").why;
    assert_eq!(forced, rejected);
    let fill = ReadV::new(Rc::clone(&file), vec![[0_u8; 8]; 1025]).at(0);
    assert_eq!(ring.submit_chain((fill, Nop)).expect_err("it would be cut").why, rejected);
    let boxed = WriteV::boxed(Rc::clone(&file), Gather::boxed(vec![[7_u8; 8]; 1025]));
    assert_eq!(ring.submit_chain((boxed, Nop)).expect_err("it would be cut").why, rejected);
    let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    let send = SendMsg::new(socket, vec![[7_u8; 8]; 1025]);
    assert_eq!(ring.submit_chain((send, Nop)).expect_err("it would be cut").why, rejected);
    let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    let send = SendMsgZc::new(socket, vec![[7_u8; 8]; 1025]);
    assert_eq!(ring.submit_chain((send, Nop)).expect_err("it would be cut").why, rejected);
    // As many as fit; and alone it says how many it wrote.
    let chain = ring.submit_chain((parts(1024), sync()))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    assert_eq!(chain.outputs.0.result?, 1024 * 8);
    let alone = ring.submit(parts(1025))?;
    assert_eq!(ring.wait(alone)?.result?, 1024 * 8);
    assert_eq!((ring.vacant(), ring.in_flight()), (8, 0));
    Ok(())
}

/// The read ends when the detached poll has ended, and its output, the write end, is dropped.
fn after_detached() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = silent();
    let poll = ring.submit(Poll::new(writer, PollEvents::OUT))?;
    ring.detach(poll);
    let chain = ring.submit_chain((Read::new(reader, [0; 8]), Nop))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    assert_eq!(chain.outputs.0.result?, 0);
    Ok(())
}

fn and_one_more() -> Result<(), Failed> {
    let mut ring = small();
    let file = scratch()?;
    let write = |text, at| Write::new(Rc::clone(&file), text).at(at);
    let chain = ring.submit_chain((vec![write("one", 0), write("two", 3)], Fsync::new(file)))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    let (writes, sync) = chain.outputs;
    assert_eq!(writes.into_iter().map(|write| write.buf).collect::<Vec<_>>(), ["one", "two"]);
    sync.result?;
    Ok(())
}

fn breaks() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = silent();
    writer.write_all(b"12345")?;
    let reader = Rc::new(reader);
    let reads = (0..3).map(|_| Read::new(Rc::clone(&reader), [0_u8; 4])).collect::<Vec<_>>();
    let chain = ring.submit_chain((reads, Nop))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 1 });
    let (reads, nop) = chain.outputs;
    let counts: Vec<_> = reads.into_iter().map(|read| read.result.ok()).collect();
    assert_eq!(counts, [Some(4), Some(1), None]);
    assert_eq!(nop.expect_err("it never began").raw_os_error(), Some(libc::ECANCELED));
    Ok(())
}

fn empty() -> Result<(), Failed> {
    let mut ring = small();
    let refused = [
        ring.submit_chain(Vec::<Nop>::new()).map(drop).map_err(|rejected| rejected.why),
        ring.submit_chain((Vec::<Nop>::new(), Nop)).map(drop).map_err(|rejected| rejected.why),
    ];
    for refused in refused {
        let why = refused.expect_err("it has no steps");
        assert!(matches!(why, Rejection::Invalid { .. }), "{why}");
        assert!(why.to_string().contains("empty"), "{why}");
    }
    assert_eq!(ring.submit_all()?, 0);
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let mut ring = small();
    let rejected = ring.submit_chain(vec![Nop; 5]).expect_err("five of four");
    assert_eq!(rejected.why, Rejection::ChainTooLong { count: 5, entries: 4 });
    assert_eq!(rejected.op.len(), 5);
    let timed = (vec![Nop.within(HOUR), Nop.within(HOUR)], Nop);
    let rejected = ring.submit_chain(timed).expect_err("each takes two");
    assert_eq!(rejected.why, Rejection::ChainTooLong { count: 5, entries: 4 });
    assert_eq!((ring.vacant(), ring.submit_all()?), (8, 0));
    Ok(())
}

fn panics() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, _writer) = silent();
    let reader = Rc::new(reader);
    let read = |panics| Read::new(Rc::clone(&reader), Watched::new(&drops, panics));
    let all = [Panics::Never, Panics::Never, Panics::InRegion].map(read);
    let chain = (Vec::from(all), read(Panics::Never));
    assert!(quietly(|| ring.submit_chain(chain).is_ok()).is_err());
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (4, 0, 8));
    assert_eq!(ring.submit_all()?, 0);
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = silent();
    let reader = Rc::new(reader);
    let read = || Read::new(Rc::clone(&reader), Watched::new(&drops, Panics::Never));
    let one = ring.submit_chain((read(),))?;
    let two = ring.submit_chain((read(), read()))?;
    let four = ring.submit_chain((read(), read(), read(), read()))?;
    ring.detach_chain(four);
    ring.detach_chain(one);
    ring.detach_chain(two);
    writer.write_all(&[1; 7 * 8])?;
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        ring.reap(|_| {})?;
    }
    assert_eq!((drops.get(), ring.vacant()), (7, 8));
    Ok(())
}

fn apart() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = silent();
    let reader = Rc::new(reader);
    let read = || Read::new(Rc::clone(&reader), Watched::new(&drops, Panics::Never));
    let tickets = ring.submit_chain(vec![read(), read()])?.into_tickets();
    writer.write_all(&[1; 16])?;
    for ticket in tickets {
        assert_eq!(ring.wait(ticket)?.result?, 8);
    }
    let chain = ring.submit_chain((vec![read(), read()], Nop))?;
    ring.detach_chain(chain);
    writer.write_all(&[1; 16])?;
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        ring.reap(|_| {})?;
    }
    assert_eq!((drops.get(), ring.vacant()), (4, 8));
    Ok(())
}

fn scoped() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = silent();
    let texts = [String::from("bor"), String::from("rowed")];
    let end = ring.scope(|s| {
        let writes = texts.iter().map(|text| Write::new(&writer, text.as_str())).collect();
        let chain = s.submit_chain::<Vec<_>>(writes).map_err(|rejected| rejected.why)?;
        Ok::<_, Failed>(s.wait_chain(chain)?.end)
    })?;
    let mut buf = [0; 8];
    std::io::Read::read_exact(&mut { reader }, &mut buf)?;
    assert_eq!((end, &buf), (ChainEnd::Complete, b"borrowed"));
    Ok(())
}
