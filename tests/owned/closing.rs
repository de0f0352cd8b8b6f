//! Chains that close their descriptor, where the kernel has no memory for a request and cuts them.
//!
//! ```text
//!   read ─► read ─✂─ read ─► close      what is left of a chain begins at once: were the close
//!                                       among it, the reads before would name a closed number
//! ```
//!
//! The kernel here takes any number of the entries that it is given. When it gets a close with a
//! descriptor, it has just been given all reads of that descriptor (OP1).

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

use annulus::op::{ChainFd, Close, Closing, Nop, Read};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{CqeFlags, SetupFlags, SqeFlags};
use annulus::sys::opcode::Opcode;
use annulus::sys::sq::Turn;
use annulus::{ChainEnd, Rejection, Ring, Setup};

use super::chance::Chance;
use crate::support::backend::{Enter, Script, ScriptedKernel};
use crate::support::fake_kernel::FakeKernel;

/// What the kernel was given, a list for each enter.
type Given = Arc<Mutex<Vec<Vec<Sqe>>>>;

fn ring(flags: SetupFlags) -> (Ring, Arc<Script>, Given) {
    let (kernel, script) = ScriptedKernel::new();
    let ring = Setup::plain(16).with(flags).kernel(kernel).build().expect("a ring");
    (ring, script, Given::default())
}

/// The next enter takes at most `most` entries, and completes each.
fn takes(script: &Script, given: &Given, most: u32) {
    let given = Arc::clone(given);
    script.enters(Enter::Run(Box::new(move |kernel, to_submit| {
        let count = most.min(to_submit);
        let next = |at| match kernel.shape().turn {
            Turn::Round => kernel.consume(),
            Turn::Rewind => Some(kernel.read_slot(at)),
        };
        let taken: Vec<Sqe> = (0..count).map_while(next).collect();
        complete(kernel, &taken);
        given.lock().expect("no panic").push(taken);
        Ok(count)
    })));
}

/// Completes what was taken: a read with all its bytes, a close as Linux does.
fn complete(kernel: &mut FakeKernel, taken: &[Sqe]) {
    for sqe in taken {
        let res = match sqe.opcode {
            Opcode::READ => sqe.len.cast_signed(),
            // SAFETY: the operation gave the descriptor up to the kernel, so nobody else closes it.
            Opcode::CLOSE if unsafe { libc::close(sqe.fd) } < 0 => -libc::EBADF,
            _ => 0,
        };
        assert!(kernel.post(Cqe { user_data: sqe.user_data, res, flags: CqeFlags::empty() }));
    }
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("there is one").into()
}

type Steps = Vec<Read<ChainFd, [u8; 4]>>;

/// `count` reads of one file, and its close.
fn chain(count: usize) -> (RawFd, Closing<Steps>) {
    let file = null();
    let number = file.as_raw_fd();
    let reads = |file: ChainFd| (0..count).map(|_| Read::new(file.clone(), [0; 4])).collect();
    (number, Close::after(file, reads))
}

/// Submits a chain of three reads and a close, and what is behind it, to a kernel that takes
/// `first` entries, and then the rest. Whether the descriptor came back, and what was given.
fn cut_at(first: u32, flags: SetupFlags) -> (bool, Vec<Vec<Sqe>>) {
    let (mut ring, script, given) = ring(flags);
    takes(&script, &given, first);
    takes(&script, &given, u32::MAX);
    let (number, steps) = chain(3);
    let tickets = ring.submit_chain(steps).expect("room");
    let behind = ring.submit(Close::new(null())).expect("room");
    let outcome = ring.wait_chain(tickets).expect("no error");
    let (reads, close) = outcome.outputs;
    assert!(reads.iter().all(|read| read.result.as_ref().is_ok_and(|&count| count == 4)));
    assert!(ring.wait(behind).expect("no error").fd.is_none(), "it is another close");
    let back = close.fd.is_some_and(|fd| fd.as_raw_fd() == number);
    assert_eq!(close.result.is_err(), first < 4 && first > 0);
    (back, std::mem::take(&mut *given.lock().expect("no panic")))
}

#[test]
fn op1_a_close_that_is_left_of_a_cut_chain_names_no_descriptor() {
    let rewinds = SetupFlags::NO_SQARRAY | SetupFlags::SQ_REWIND;
    for flags in [SetupFlags::empty(), SetupFlags::SQE128, rewinds] {
        for first in 1..=5 {
            let (_, given) = cut_at(first, flags);
            let closes: Vec<i32> = given.iter().flatten().filter_map(closed).collect();
            assert_eq!(closes.len(), 2);
            assert_eq!(closes[0] < 0, first < 4, "cut behind {first} entries of {flags:?}");
            assert!(closes[1] >= 0, "a close of its own was changed, cut behind {first}");
        }
    }
}

/// The descriptor of a close.
fn closed(sqe: &Sqe) -> Option<i32> {
    (sqe.opcode == Opcode::CLOSE).then_some(sqe.fd)
}

/// What the kernel was given in one enter: a close with a descriptor follows all its reads.
fn check(taken: &[Sqe], reads_of: &HashMap<RawFd, usize>) {
    for (at, sqe) in taken.iter().enumerate() {
        let Some(fd) = closed(sqe).filter(|&fd| fd >= 0) else { continue };
        let reads = reads_of[&fd];
        assert!(at >= reads, "OP1: the close of {fd} came without its {reads} reads");
        for read in &taken[at - reads..at] {
            assert_eq!((read.opcode, read.fd), (Opcode::READ, fd), "OP1: of another file");
            assert!(read.flags.contains(SqeFlags::IO_LINK), "OP1: the close does not wait");
        }
    }
}

/// Chains of every length with NOPs between them, cut anywhere, more than once.
#[test]
fn op1_whatever_the_kernel_takes_no_close_comes_without_its_reads() {
    let (mut disarmed, mut whole) = (0, 0);
    for seed in 0..500 {
        let mut chance = Chance::new(seed);
        let rewinds = SetupFlags::NO_SQARRAY | SetupFlags::SQ_REWIND;
        let flags = chance.among(&[SetupFlags::empty(), SetupFlags::SQE128, rewinds]);
        let (mut ring, script, given) = ring(flags);
        let (mut reads_of, mut tickets, mut others) = (HashMap::new(), Vec::new(), Vec::new());
        for _ in 0..chance.below(4) {
            let count = 1 + chance.below(3) as usize;
            let (number, steps) = chain(count);
            assert_eq!(reads_of.insert(number, count), None);
            tickets.push(ring.submit_chain(steps).expect("room"));
            if chance.one_in(2) {
                others.push(ring.submit(Nop).expect("room"));
            }
        }
        for _ in 0..chance.below(8) {
            takes(&script, &given, 1 + chance.below(5));
        }
        takes(&script, &given, u32::MAX);
        for ticket in tickets {
            let (_, close) = ring.wait_chain(ticket).expect("no error").outputs;
            disarmed += u32::from(close.result.is_err());
            whole += u32::from(close.result.is_ok());
        }
        for ticket in others {
            ring.wait(ticket).expect("no error").expect("a NOP");
        }
        let given = given.lock().expect("no panic");
        given.iter().for_each(|taken| check(taken, &reads_of));
    }
    assert!(disarmed > 100 && whole > 100, "{disarmed} cut, {whole} whole");
}

#[test]
fn op1_no_ring_that_may_cut_a_chain_unseen_accepts_one_that_closes() {
    let polls = SetupFlags::SQPOLL;
    let mixes = SetupFlags::SQE_MIXED;
    for flags in [polls, mixes] {
        let (mut ring, _script, _) = ring(flags);
        let rejected = ring.submit_chain(chain(2).1).expect_err("it may be cut");
        assert!(matches!(rejected.why, Rejection::Invalid { .. }), "{:?}", rejected.why);
        let (steps, close) = rejected.op.into_parts();
        assert_eq!(steps.len(), 2);
        drop(close);
    }
}

/// The file is a device, which might answer a close itself; but here the close never began.
#[test]
fn a_chain_that_moved_too_little_gives_even_a_device_back() {
    let (mut ring, script, _) = ring(SetupFlags::empty());
    script.enters(Enter::Run(Box::new(|kernel, to_submit| {
        let taken: Vec<Sqe> = (0..to_submit).map_while(|_| kernel.consume()).collect();
        for (at, sqe) in taken.iter().enumerate() {
            let res = if at == 0 { 3 } else { -libc::ECANCELED };
            assert!(kernel.post(Cqe { user_data: sqe.user_data, res, flags: CqeFlags::empty() }));
        }
        Ok(to_submit)
    })));
    let (number, steps) = chain(2);
    let tickets = ring.submit_chain(steps).expect("room");
    let outcome = ring.wait_chain(tickets).expect("no error");
    assert_eq!(outcome.end, ChainEnd::Broken { at: 0 });
    let fd = outcome.outputs.1.fd.expect("it is open");
    assert_eq!(fd.as_raw_fd(), number);
}
