//! The records of real rings: in form and order those of the simulated kernel.

use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::op;
use annulus::prep;
use annulus::sim::trace::What;
use annulus::sim::{Record, Recorder, Sim};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{NopFlags, SetupFlags};
use annulus::sys::kernel::Kernel;
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup};

/// A ring on Linux; `None`, with the reason, where none can be made.
fn raw(kernel: Kernel, flags: SetupFlags) -> Option<RawRing> {
    match Setup::plain(4).with(flags).kernel(kernel).build_raw() {
        Ok(ring) => Some(ring),
        Err(why) => {
            println!("skipped on {flags:?}: {why}");
            None
        }
    }
}

fn push(ring: &mut RawRing, user_data: u64) {
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(Sqe { user_data, ..prep::nop() }) }.expect("room");
}

fn whats(records: &[Record]) -> Vec<What> {
    records.iter().map(|record| record.what.clone()).collect()
}

/// Round after round, over the end of the slots, on rings of every layout.
#[test]
fn each_entry_and_each_completion_is_recorded_once() {
    let rewinds = SetupFlags::NO_SQARRAY | SetupFlags::SQ_REWIND;
    let deferred = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let layouts = [
        SetupFlags::empty(),
        SetupFlags::SQE128,
        SetupFlags::CQE32,
        SetupFlags::SQE128 | SetupFlags::CQE32,
        SetupFlags::NO_SQARRAY,
        rewinds,
        deferred,
        SetupFlags::CQE_MIXED,
    ];
    for flags in layouts {
        let recorder = Recorder::new();
        let Some(mut ring) = raw(recorder.kernel(), flags) else { continue };
        let mut expected = vec![What::Made(4, 8)];
        let (mut id, mut untaken) = (0, 0);
        for round in 0..7_u32 {
            let count = 1 + round % 4;
            for number in 0..count {
                push(&mut ring, u64::from(number));
            }
            ring.submit_and_wait(count).expect("no error");
            if untaken > 0 {
                expected.push(What::Taken(untaken));
            }
            expected.push(What::Entered(count, count));
            let first = id + 1;
            id += count;
            expected.extend((first..=id).map(|id| What::Began(id, Opcode::NOP, 0, None)));
            expected.extend((first..=id).map(|id| What::Posted(id, 0, 0)));
            expected.push(What::Returned(Ok(count)));
            while ring.pop().is_some() {}
            untaken = count;
        }
        assert_eq!(whats(&recorder.trace()), expected, "{flags:?}");
    }
}

/// A program that runs on both kernels: a write and a read of a pipe, and a multishot timeout.
fn program(kernel: Kernel, reader: OwnedFd, writer: OwnedFd) {
    let mut ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
    let (write, read) = (op::Write::new(writer, "hello"), op::Read::new(reader, [0; 5]));
    let chain = ring.submit_chain((write, read, op::Nop)).expect("room");
    let chain = ring.wait_chain(chain).expect("no error");
    assert_eq!(chain.outputs.1.buf, *b"hello");
    let timeout = op::Timeout::new(Duration::from_millis(1));
    let timeout = ring.submit(timeout).expect("room");
    let _ = ring.wait(timeout).expect("no error");
}

/// What both kernels have to tell: which requests ran, and how they ended.
fn told(records: &[Record]) -> Vec<What> {
    let told = |what: &What| match what {
        What::Began(id, opcode, len, _) => Some(What::Began(*id, *opcode, *len, None)),
        What::Posted(..) => Some(what.clone()),
        _ => None,
    };
    records.iter().filter_map(|record| told(&record.what)).collect()
}

fn is_posted(what: &What) -> bool {
    matches!(what, What::Posted(..))
}

#[test]
fn both_kernels_tell_the_same_of_a_program() {
    let (sim, recorder) = (Sim::new(1), Recorder::new());
    let (reader, writer) = sim.pipe().expect("no fault");
    program(sim.kernel(), reader, writer);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    program(recorder.kernel(), reader.into(), writer.into());
    let (simulated, real) = (told(&sim.trace()), told(&recorder.trace()));
    // On Linux, all entries of an enter are seen before all completions.
    let parts = |told: Vec<What>| told.into_iter().partition::<Vec<What>, _>(is_posted);
    assert_eq!(parts(real), parts(simulated));
}

/// Other threads, a ring that is entered by its index, and one that is dropped with a request in
/// flight.
#[test]
fn each_ring_has_records_of_its_own() {
    let recorder = Recorder::new();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let kernel = recorder.kernel();
            std::thread::spawn(move || {
                let mut ring = Setup::plain(4).kernel(kernel).build_raw().expect("a ring");
                let registered = ring.register_ring_fd();
                if let Err(why) = &registered {
                    println!("not registered: {why}");
                }
                for round in 0..50 {
                    push(&mut ring, round);
                    ring.submit_and_wait(1).expect("no error");
                    assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(round));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let records = recorder.trace();
    for ring in 0..3 {
        let of = |what: fn(&What) -> bool| {
            records.iter().filter(|it| it.ring == Some(ring) && what(&it.what)).count()
        };
        assert_eq!(of(|what| matches!(what, What::Began(..))), 50);
        assert_eq!(of(|what| matches!(what, What::Posted(id, 0, 0) if *id > 0)), 50);
        assert_eq!(of(|what| matches!(what, What::Returned(Ok(1)))), 50);
    }
    assert!(records.is_sorted_by_key(|record| record.at));
}

fn posted(what: &What) -> Option<i32> {
    match what {
        What::Posted(_, res, _) => Some(*res),
        _ => None,
    }
}

#[test]
fn a_resized_ring_is_recorded_on() {
    let recorder = Recorder::new();
    let flags = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN | SetupFlags::NO_SQARRAY;
    let Some(mut ring) = raw(recorder.kernel(), flags) else { return };
    if let Err(why) = ring.resize(8, None) {
        println!("skipped: {why:?}");
        return;
    }
    // In the last round the indices pass the length that the queues had at first.
    for (round, size) in [(0, 4), (1, 16), (2, 32)] {
        for number in 0..3 {
            // A result by which its completion is known, wherever the queues lie.
            let nop = prep::nop_with(NopFlags::INJECT_RESULT, 3 * round + number, -1, 0);
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop) }.expect("room");
        }
        ring.submit_and_wait(3).expect("no error");
        while ring.pop().is_some() {}
        let trace = recorder.trace();
        let results: Vec<i32> = trace.iter().filter_map(|it| posted(&it.what)).collect();
        assert_eq!(results, (0..3 * (round + 1)).collect::<Vec<_>>());
        ring.resize(size, None).expect("it is empty");
        let began = recorder.trace().iter().filter(|it| matches!(it.what, What::Began(..))).count();
        assert_eq!(i32::try_from(began), Ok(3 * (round + 1)));
    }
}
