//! How many small programs run in a second, on one core.
//!
//! A program makes a ring, runs ten operations on a pipe, and drops the ring. Measured in release
//! on a shared virtual machine (x86_64, two cores), by the time that the thread has a core:
//!
//! | program | in a second of a core |
//! |---|---|
//! | raw ring: ten NOPs | 84,800 |
//! | raw ring: five writes and five reads on a pipe, with faults | 27,100 |
//! | safe ring: five writes and five reads on a pipe, with faults | 23,900 |
//!
//! Most of the time of the last two goes into making and closing descriptors: four system calls for
//! each end. `ANNULUS_SECONDS=3 cargo test --release --test sim speed -- --nocapture` measures
//! again; without a time, the programs only run, and break no rule.

use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::op;
use annulus::prep;
use annulus::sim::{Faults, Sim};
use annulus::{EnterCause, RawRing, Setup};

fn raw(sim: &Sim) -> RawRing {
    Setup::plain(16).kernel(sim.kernel()).build_raw().expect("a ring")
}

fn wait(ring: &mut RawRing, count: u32) {
    while let Err(error) = ring.submit_and_wait(count) {
        assert_eq!(error.cause, EnterCause::Interrupted);
    }
    while ring.pop().is_some() {}
}

fn nops(seed: u64) {
    let sim = Sim::new(seed);
    sim.allow_shared_user_data();
    let mut ring = raw(&sim);
    for _ in 0..10 {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push(prep::nop()) }.expect("room");
    }
    wait(&mut ring, 10);
    drop(ring);
    sim.check();
}

fn raw_pipe(seed: u64) {
    let sim = Sim::with_faults(seed, Faults::SOME);
    sim.allow_shared_user_data();
    let (reader, writer) = sim.pipe().expect("descriptors");
    let mut ring = raw(&sim);
    let (text, mut buf) = ([7_u8; 64], [0_u8; 64]);
    let (from, to) = (text.as_ptr().expose_provenance(), buf.as_mut_ptr().expose_provenance());
    for _ in 0..5 {
        // SAFETY: the text lives until the write has ended, below (OP1).
        unsafe { ring.push(prep::write(writer.as_raw_fd(), from as u64, 64, 0)) }.expect("room");
        // SAFETY: the buffer lives until the read has ended, below (OP1).
        unsafe { ring.push(prep::read(reader.as_raw_fd(), to as u64, 64, 0)) }.expect("room");
        wait(&mut ring, 2);
    }
    drop(ring);
    sim.check();
}

fn safe_pipe(seed: u64) {
    let sim = Sim::with_faults(seed, Faults::SOME);
    let mut ring = Setup::new(16).kernel(sim.kernel()).build().expect("a ring");
    let (reader, writer) = sim.pipe().expect("descriptors");
    let (reader, writer) = (Rc::new(reader), Rc::new(writer));
    let mut buf = Vec::with_capacity(64);
    for _ in 0..5 {
        let read = ring.submit(op::Read::new(Rc::clone(&reader), buf)).expect("room");
        let write = ring.submit(op::Write::new(Rc::clone(&writer), [7; 64])).expect("room");
        let _ = ring.wait(write).expect("it ends");
        buf = ring.wait(read).expect("it ends").buf;
    }
    drop(ring);
    sim.check();
}

/// How long this thread has had a core: others may use it, too.
fn used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live `struct timespec`, which the call fills in.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(u64::try_from(time.tv_sec).expect("it has begun"), nanos)
}

#[test]
fn speed_is_that_of_programs_that_break_no_rule() {
    let seconds = std::env::var("ANNULUS_SECONDS").map(|text| text.parse().expect("a number"));
    let seconds: u64 = seconds.unwrap_or(0);
    for (name, program) in
        [("NOPs", nops as fn(u64)), ("raw pipe", raw_pipe), ("safe pipe", safe_pipe)]
    {
        let (begun, used) = (Instant::now(), used());
        let mut count = 0;
        loop {
            (0..200).for_each(program);
            count += 200;
            if begun.elapsed().as_secs() >= seconds {
                break;
            }
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        let of_core = f64::from(count) / (self::used() - used).as_secs_f64();
        println!("{name}: {rate:.0} programs in a second, {of_core:.0} in a second of a core");
    }
}
