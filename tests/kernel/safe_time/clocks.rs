//! Link timeouts: which operations they end, what they report, and where a chain broke.
#![allow(unsafe_code, reason = "makes a listener with a short queue")]

use std::fmt::Debug;
use std::io::{self, PipeReader, PipeWriter, Write as _, pipe};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use annulus::op::{
    Cancel, Connect, Domain, FutexSet, FutexWait, FutexWaitV, Nop, Op, Read, ReadV, Socket,
    SocketKind, Splice, Timeout, Write,
};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{ChainEnd, ChainOutcome, Ring, Setup, Step, StepExt as _, Timed};
use libtest_mimic::{Failed, Trial};

use super::{BY_FLAGS, HOUR, SOON, errno, run, small};
use crate::harness::{Need, safe_ring, test};

const FUTEX: Need = Need::Op(Opcode::FUTEX_WAIT);
const SPLICE: Need = Need::Op(Opcode::SPLICE);
/// A cancel that waits for nothing.
const AT_ONCE: Need = Need::Register(RegisterOp::SYNC_CANCEL);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_chain_breaks_at_the_step_that_ran_out_of_time", &[], ran_out),
        test("a_clock_that_ended_a_wait_at_a_futex_says_so", &[FUTEX], futexes),
        test("a_clock_that_ended_what_a_worker_runs_says_so", &[BY_FLAGS], connects),
        test("a_clock_ends_what_blocks_in_a_worker", &[SPLICE], splices),
        test("a_clock_ends_what_blocks_in_a_worker_of_a_polling_ring", &[SPLICE], polled_splices),
        test("a_chain_goes_on_behind_a_hard_step_that_ran_out_of_time", &[SPLICE], hard),
        test("a_clock_of_a_step_starts_when_that_begins", &[], not_yet),
        test("a_clock_of_what_is_drained_starts_when_that_begins", &[], held),
        test("a_clock_ends_what_was_held_up_when_that_has_begun", &[], held_and_silent),
        test("a_clock_ends_what_something_drained_waits_for", &[SPLICE, AT_ONCE], waited_for),
        test("a_step_that_was_cancelled_while_it_ran_is_named", &[BY_FLAGS], cancelled),
    ]
}

/// A step that has a little time, and a NOP after it.
type Timely<T> = ChainOutcome<(Timed<T>, io::Result<u32>)>;

fn timely<O: Op + 'static>(ring: &mut Ring, op: O) -> Timely<O::Output> {
    let chain = ring.submit_chain((op.within(SOON), Nop)).map_err(|rejected| rejected.why);
    ring.wait_chain(chain.expect("room")).expect("it completes")
}

/// The output of `op` when it has a little time.
fn in_time<O: Op + 'static>(ring: &mut Ring, op: O) -> Timed<O::Output> {
    let chain = timely(ring, op);
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    assert_eq!(errno(chain.outputs.1), Some(libc::ECANCELED));
    chain.outputs.0
}

/// Like `timely`, for an operation after whose cancel the kernel may let the next one begin: the
/// chain's end must agree with the outcome of the next one.
fn at_futex_word<O: Op + 'static>(ring: &mut Ring, op: O) -> Timed<O::Output> {
    let chain = timely(ring, op);
    let (timed, last) = chain.outputs;
    let broken = ChainEnd::Broken { at: 0 };
    assert_eq!(chain.end, if last.is_ok() { ChainEnd::Complete } else { broken });
    timed
}

/// Cancelled, or interrupted where a worker thread ran it.
fn is_over<T: Debug>(result: std::io::Result<T>) -> bool {
    matches!(errno(result), Some(libc::ECANCELED | libc::EINTR))
}

fn ran_out() -> Result<(), Failed> {
    let mut ring = small();
    let (silent, _writer) = pipe()?;
    let chain = ring.submit_chain((Nop, Read::new(silent, [0; 8]).within(SOON), Nop))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 1 });
    let (first, read, last) = chain.outputs;
    first?;
    assert!(read.expired);
    assert_eq!(errno(read.output.result), Some(libc::ECANCELED));
    assert_eq!(errno(last), Some(libc::ECANCELED));
    Ok(())
}

fn futexes() -> Result<(), Failed> {
    let mut ring = small();
    let word = || Arc::new(AtomicU32::new(0));
    let timed = at_futex_word(&mut ring, FutexWait::new(word(), 0));
    assert!(timed.expired && is_over(timed.output.result));
    let timed = at_futex_word(&mut ring, FutexWaitV::new(FutexSet::new().with(word(), 0)));
    assert!(timed.expired && is_over(timed.output.result));
    let in_time = ring.submit_chain((FutexWait::new(word(), 1).within(HOUR),))?;
    assert!(!ring.wait_chain(in_time)?.outputs.0.expired);
    Ok(())
}

/// To a unix socket whose queue is full.
fn connects() -> Result<(), Failed> {
    let mut ring = small();
    let name = format!("annulus-clocks-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    // SAFETY: numbers only, because that is what `listen(2)` takes.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _first = UnixStream::connect_addr(&address)?; // The queue is full now.
    let socket = run(&mut ring, Socket::new(Domain::UNIX, SocketKind::STREAM))?;
    let timed = in_time(&mut ring, Connect::new(socket, &address));
    assert!(timed.expired && is_over(timed.output.result));
    Ok(())
}

fn end_of_splice(ring: &mut Ring) -> Result<(), Failed> {
    let (from, _writer) = pipe()?;
    let (_reader, to) = pipe()?;
    let timed = in_time(ring, Splice::new(from, to, 8));
    assert!(timed.expired && is_over(timed.output.result));
    Ok(())
}

fn splices() -> Result<(), Failed> {
    let mut ring = small();
    end_of_splice(&mut ring)?;
    end_of_splice(&mut ring)
}

fn polled_splices() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8).sqpoll(SOON));
    end_of_splice(&mut ring)
}

fn hard() -> Result<(), Failed> {
    let mut ring = small();
    let (from, _writer) = pipe()?;
    let (_reader, to) = pipe()?;
    let chain = ring.submit_chain((Splice::new(from, to, 8).within(SOON).hard(), Nop))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    assert!(chain.outputs.0.expired);
    chain.outputs.1?;
    Ok(())
}

/// The first step takes far longer than the second may.
fn not_yet() -> Result<(), Failed> {
    let mut ring = small();
    let (ready, writer) = pipe()?;
    run(&mut ring, Write::new(writer, "x")).result?;
    let first = Timeout::new(100 * SOON).hard();
    let chain = ring.submit_chain((first, Read::new(ready, [0; 1]).within(50 * SOON)))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.outputs.1.output.result?, 1);
    Ok(())
}

/// A pipe with a byte in it.
fn ready(ring: &mut Ring) -> Result<PipeReader, Failed> {
    let (ready, writer) = pipe()?;
    run(ring, Write::new(writer, "x")).result?;
    Ok(ready)
}

/// The step is held up far longer than its timeout allows.
fn held() -> Result<(), Failed> {
    let mut ring = small();
    let (first, time) = (|| Timeout::new(200 * SOON), 100 * SOON);
    let read = Read::new(ready(&mut ring)?, [0; 1]);
    let _first = ring.submit(first())?;
    let _drained = ring.submit(Nop.drained())?;
    let chain = ring.submit_chain((read.within(time),))?;
    let read = ring.wait_chain(chain)?.outputs.0;
    assert_eq!((read.output.result?, read.expired), (1, false));
    let read = Read::new(ready(&mut ring)?, [0; 1]);
    let _first = ring.submit(first())?;
    let chain = ring.submit_chain((read.drained().within(time).hard(), Nop))?;
    let read = ring.wait_chain(chain)?.outputs.0;
    assert_eq!((read.output.result?, read.expired), (1, false));
    Ok(())
}

/// Writes to the pipe after a while, unless the returned value was dropped by then: so a test that
/// would hang ends, and fails.
fn rescue(mut writer: PipeWriter) -> Sender<()> {
    let (alive, gone) = mpsc::channel();
    std::thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            writer.write_all(b"too late").expect("the reader is there");
        }
    });
    alive
}

fn held_and_silent() -> Result<(), Failed> {
    let mut ring = small();
    let (silent, writer) = pipe()?;
    let _rescue = rescue(writer);
    let _first = ring.submit(Timeout::new(SOON))?;
    let read = Read::new(silent.try_clone()?, [0; 1]).drained().within(SOON);
    let chain = ring.submit_chain((read,))?;
    let read = ring.wait_chain(chain)?.outputs.0;
    assert!(read.expired && is_over(read.output.result));
    let (_reader, to) = pipe()?;
    let _first = ring.submit(Timeout::new(SOON))?;
    let _drained = ring.submit(Nop.drained())?;
    let chain = ring.submit_chain((Splice::new(silent, to, 8).within(SOON),))?;
    let splice = ring.wait_chain(chain)?.outputs.0;
    assert!(splice.expired && is_over(splice.output.result));
    Ok(())
}

/// A cancel that is an entry would wait behind the drained operation.
fn waited_for() -> Result<(), Failed> {
    let mut ring = small();
    let (from, writer) = pipe()?;
    let _rescue = rescue(writer);
    let (_reader, to) = pipe()?;
    let chain = ring.submit_chain((Splice::new(from, to, 8).within(SOON),))?;
    let drained = ring.submit(Nop.drained())?;
    let splice = ring.wait_chain(chain)?.outputs.0;
    assert!(splice.expired && is_over(splice.output.result));
    ring.wait(drained)??;
    Ok(())
}

/// Cancels the read of the second step when the first step has completed in full.
fn cancelled() -> Result<(), Failed> {
    let mut ring = small();
    // Sockets, not pipes: a worker thread's read of a pipe may end with EINTR without reason (6.1).
    let (silent, _writer) = UnixStream::pair()?;
    let silent = Rc::new(silent);
    let (full, writer) = UnixStream::pair()?;
    run(&mut ring, Write::new(writer, "abc")).result?;
    let read = || Read::new(Rc::clone(&silent), [0; 8]);
    let all = ReadV::new(full, ([0_u8; 1], [0; 2]));
    let chain = ring.submit_chain((Nop, all, read(), Nop))?;
    ring.submit_and_wait(2)?;
    // Until the read has begun.
    while run(&mut ring, Cancel::fd(Rc::clone(&silent))).0.count() == 0 {}
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 2 });
    assert_eq!(errno(chain.outputs.2.result), Some(libc::ECANCELED));
    let (short, writer) = UnixStream::pair()?;
    run(&mut ring, Write::new(writer, "abc")).result?;
    let chain = ring.submit_chain((Nop, Read::new(short, [0; 8]), read()))?;
    assert_eq!(ring.wait_chain(chain)?.end, ChainEnd::Broken { at: 1 });
    Ok(())
}
