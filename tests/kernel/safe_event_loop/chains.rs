//! Chains of an event loop, and operations with a time limit.

use std::cell::RefCell;
use std::io::{self, Write as _, pipe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::op::{Nop, Read, Write};
use annulus::{Io, Rejection, WaitOptions};
use libtest_mimic::{Failed, Trial};

use super::{BOUNDED, events, is_cancelled, run, waiting};
use crate::harness::test;
use crate::watched::{Panics, Watched, quietly, unwind};

const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(60);

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_steps_of_a_loops_chain_run_in_order", &[], in_order),
        test("a_loops_chain_breaks_and_every_closure_is_called", &[], breaks),
        test("a_hard_step_of_a_loop_lets_the_next_begin", &[], hard),
        test("an_operation_of_a_loop_ends_when_its_time_is_up", &[], within),
        test("a_loops_chain_waits_for_slots", &[], waits),
        test("a_loops_chain_that_never_fits_comes_back", &[], never_fits),
        test("a_loops_chain_is_cancelled_at_the_step_that_runs", &[], cancelled),
        test("op1_a_loops_chain_drops_each_closure_once", &BOUNDED, drops),
        test("a_panic_in_a_step_of_a_loop_harms_no_other", &[], panics),
    ]
}

/// Notes that a step has ended.
fn note(io: &mut Io<'_, Vec<u32>>, step: u32) {
    io.state.push(step);
}

fn in_order() -> Result<(), Failed> {
    let mut events = events(8, Vec::new());
    let slots = events.ring().vacant();
    let (reader, writer) = pipe()?;
    let mut io = events.io();
    let chain = io
        .chain()
        .then(Nop, |io, nop| {
            note(io, 1);
            nop
        })
        .then(Write::new(writer, "four"), |io, wrote| {
            note(io, 2);
            wrote.result
        })
        .then(Read::new(reader, [0; 4]), |io, read| {
            note(io, 3);
            assert_eq!(read.result?, 4);
            assert_eq!(&read.buf, b"four");
            Ok(())
        })
        .then(Nop, |io, nop| {
            note(io, 4);
            nop
        });
    io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    assert_eq!(io.unfinished(), 4);
    run(&mut events);
    assert_eq!(events.state, [1, 2, 3, 4]);
    assert_eq!(events.ring().vacant(), slots);
    Ok(())
}

fn breaks() -> Result<(), Failed> {
    let mut events = events(8, Vec::new());
    let null = std::fs::File::open("/dev/null")?;
    let mut io = events.io();
    let chain = io
        .chain()
        .then(Read::new(null, [0; 4]), |io, read| {
            note(io, 1);
            assert_eq!(read.result?, 0); // Shorter than asked.
            Ok(())
        })
        .then(Nop, |io, nop| {
            note(io, 2);
            assert!(is_cancelled(&nop));
            Ok(())
        })
        .then(Nop, |_, nop| nop);
    io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    let errors = RefCell::new(Vec::new());
    events.run(|_, error| errors.borrow_mut().push(error.raw_os_error()))?;
    events.state.sort_unstable();
    assert_eq!(events.state, [1, 2]);
    assert_eq!(*errors.borrow(), [Some(libc::ECANCELED)]);
    Ok(())
}

fn hard() -> Result<(), Failed> {
    let mut events = events(8, Vec::new());
    let null = std::fs::File::open("/dev/null")?;
    let mut io = events.io();
    let chain = io
        .chain()
        .then_hard(Read::new(null, [0; 4]), |io, read| {
            note(io, 1);
            read.result
        })
        .then(Nop, |io, nop| {
            note(io, 2);
            nop
        });
    io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    run(&mut events);
    assert_eq!(events.state, [1, 2]);
    Ok(())
}

fn within() -> Result<(), Failed> {
    let mut events = events(8, Vec::new());
    let slots = events.ring().vacant();
    let (silent, _open) = waiting();
    let (told, mut writer) = waiting();
    let begin = Instant::now();
    events
        .io()
        .submit_within(silent, SOON, |io, read| {
            assert!(is_cancelled(&read.result));
            note(io, 1);
            Ok(())
        })
        .map_err(|rejected| rejected.why)?;
    events
        .io()
        .submit_within(told, LATE, |io, read| {
            note(io, 2);
            read.result
        })
        .map_err(|rejected| rejected.why)?;
    writer.write_all(b"x")?;
    run(&mut events);
    assert!(begin.elapsed() >= SOON, "not before its time");
    assert!(begin.elapsed() < LATE, "the clock of what has ended is no work");
    events.state.sort_unstable();
    assert_eq!(events.state, [1, 2]);
    assert_eq!(events.ring().vacant(), slots, "the clocks' slots are free");
    // A step with a limit, in the middle.
    let (silent, _open) = waiting();
    let mut io = events.io();
    let chain = io
        .chain()
        .then(Nop, |_, nop| nop)
        .then_within(silent, SOON, |io, read| {
            assert!(is_cancelled(&read.result));
            note(io, 3);
            Ok(())
        })
        .then(Nop, |io, nop| {
            assert!(is_cancelled(&nop));
            note(io, 4);
            Ok(())
        });
    io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    run(&mut events);
    events.state.sort_unstable();
    assert_eq!(events.state, [1, 2, 3, 4]);
    Ok(())
}

fn waits() -> Result<(), Failed> {
    let mut events = events(4, Vec::new());
    let slots = events.ring().vacant();
    let rounds = slots * 3;
    for round in 0..rounds {
        let mut io = events.io();
        let chain = io
            .chain()
            .then(Nop, move |io, nop| {
                note(io, 2 * round);
                nop
            })
            .then_within(Nop, LATE, move |io, nop| {
                note(io, 2 * round + 1);
                nop
            });
        io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    }
    run(&mut events);
    events.state.sort_unstable();
    assert_eq!(events.state, (0..2 * rounds).collect::<Vec<_>>());
    assert_eq!(events.ring().vacant(), slots);
    Ok(())
}

fn never_fits() -> Result<(), Failed> {
    let mut events = events(2, Vec::new());
    assert!(events.ring().raw().sq_entries() < 4, "or it fits");
    let (_reader, writer) = pipe()?;
    let mut io = events.io();
    let chain = io
        .chain()
        .then(Write::new(writer, "first"), |_, wrote| wrote.result)
        .then_within(Nop, SOON, |_, nop| nop)
        .then_hard(Nop, |_, nop| nop);
    let rejected = io.submit_chain(chain).expect_err("four entries");
    assert_eq!(rejected.why, Rejection::ChainTooLong { count: 4, entries: 2 });
    let ((write, _), (Nop, _), (Nop, _)) = rejected.op.into_parts();
    io.submit(write, |io, wrote| {
        note(io, 1);
        wrote.result
    })
    .map_err(|rejected| rejected.why)?;
    run(&mut events);
    assert_eq!(events.state, [1]);
    let mut io = events.io();
    io.stop();
    // However long it is, all of it comes back.
    let chain = io.chain().then(Nop, |_, nop| nop);
    let rejected = io.submit_chain(chain).expect_err("stopped");
    assert_eq!(rejected.why, Rejection::Stopping);
    let ((Nop, _),) = rejected.op.into_parts();
    let chain = io.chain().then(Nop, |_, nop| nop).then(Nop, |_, nop| nop);
    let ((Nop, _), (Nop, _)) = io.submit_chain(chain).expect_err("stopped").op.into_parts();
    let chain = io.chain().then(Nop, |_, nop| nop).then(Nop, |_, nop| nop);
    let chain = chain.then(Nop, |_, nop| nop).then(Nop, |_, nop| nop);
    let all = io.submit_chain(chain).expect_err("stopped").op.into_parts();
    let ((Nop, _), (Nop, _), (Nop, _), (Nop, _)) = all;
    let late = io.submit_within(Nop, SOON, |_, nop| nop).expect_err("stopped");
    assert_eq!(late.why, Rejection::Stopping);
    let Nop = late.op;
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut events = events(8, Vec::new());
    let slots = events.ring().vacant();
    // So that the step that runs is not the first that is found: the slots are taken backwards.
    for _ in 0..3 {
        events.io().submit(Nop, |_, nop| nop).map_err(|rejected| rejected.why)?;
    }
    run(&mut events);
    let (silent, _open) = waiting();
    let mut io = events.io();
    let chain = io
        .chain()
        .then(Nop, |io, nop| {
            note(io, 1);
            nop
        })
        .then(silent, |io, read| {
            assert!(is_cancelled(&read.result));
            note(io, 2);
            Ok(())
        })
        .then(Nop, |io, nop| {
            assert!(is_cancelled(&nop));
            note(io, 3);
            Ok(())
        });
    let id = io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    while events.state.is_empty() {
        events.turn(&WaitOptions::default(), |_, error| panic!("{error}"))?;
    }
    events.io().cancel(id)?;
    run(&mut events);
    events.state.sort_unstable();
    assert_eq!(events.state, [1, 2, 3]);
    // One that waits for slots: it is cancelled when it has them.
    let (mut held, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..slots {
        let (silent, open) = waiting();
        held.push(events.io().submit(silent, |_, _| Ok(())).map_err(|rejected| rejected.why)?);
        opened.push(open);
    }
    let (silent, _open) = waiting();
    let mut io = events.io();
    let chain = io.chain().then(silent, |io, read| {
        assert!(is_cancelled(&read.result));
        note(io, 4);
        Ok(())
    });
    let id = io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    io.cancel(id)?;
    drop(opened);
    run(&mut events);
    assert_eq!(events.state, [1, 2, 3, 4]);
    Ok(())
}

fn drops() -> Result<(), Failed> {
    let token = Rc::new(());
    for slots_are_taken in [false, true] {
        let mut events = events(4, ());
        let slots = events.ring().vacant();
        let mut opened = Vec::new();
        for _ in 0..if slots_are_taken { slots } else { 0 } {
            let (silent, open) = waiting();
            events.io().submit(silent, |_, _| Ok(())).map_err(|rejected| rejected.why)?;
            opened.push(open);
        }
        let (silent, _open) = waiting();
        let (first, second) = (Rc::clone(&token), Rc::clone(&token));
        let mut io = events.io();
        let chain = io
            .chain()
            .then_within(silent, LATE, move |_, _| {
                drop(first);
                Ok(())
            })
            .then(Nop, move |_, _| {
                drop(second);
                Ok(())
            });
        io.submit_chain(chain).map_err(|rejected| rejected.why)?;
        assert_eq!(Rc::strong_count(&token), 3);
        events.turn(&WaitOptions::at_most(SOON), |_, error| panic!("{error}"))?;
        events.shutdown(LATE)?;
        assert_eq!(Rc::strong_count(&token), 1, "OP1: dropped once, with the loop");
    }
    Ok(())
}

/// The operation and the closure of a step are the caller's code.
fn panics() -> Result<(), Failed> {
    let mut events = events(8, Vec::new());
    let slots = events.ring().vacant();
    let mut io = events.io();
    let chain = io
        .chain()
        .then(Nop, |io, _| -> io::Result<()> {
            note(io, 1);
            unwind();
        })
        .then(Nop, |io, nop| {
            note(io, 2);
            nop
        });
    io.submit_chain(chain).map_err(|rejected| rejected.why)?;
    assert!(quietly(|| run(&mut events)).is_err());
    run(&mut events);
    assert_eq!(events.state, [1, 2]);
    // While its entry is written: nothing is submitted, and all of it is dropped.
    let drops = Rc::default();
    let write = Write::new(pipe()?.1, Watched::new(&drops, Panics::InRegion));
    let mut io = events.io();
    let chain = io.chain().then(Nop, |_, nop| nop).then(write, |_, _| Ok(()));
    assert!(quietly(|| io.submit_chain(chain).is_ok()).is_err());
    assert_eq!(drops.get(), 1);
    run(&mut events);
    assert_eq!(events.state, [1, 2]);
    assert_eq!(events.ring().vacant(), slots);
    Ok(())
}
