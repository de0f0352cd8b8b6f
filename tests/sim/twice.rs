//! One seed, one trace: whatever the process did before, and wherever its memory lies.

use std::time::Duration;

use annulus::op::Op as _;
use annulus::op::{self, RecvMulti};
use annulus::sim::{Faults, Record, Sim};
use annulus::{Next, Setup};

/// A program with everything that could depend on the machine: addresses, descriptors, waits with a
/// limit, timers, delays, a polling thread, worker threads, a ring that is dropped with requests in
/// flight.
fn run(seed: u64) -> (Vec<Record>, u64) {
    let sim = Sim::with_faults(seed, Faults { delay: 500, ..Faults::SOME });
    let setup = if seed % 4 == 3 {
        Setup::plain(64).sqpoll(Duration::from_millis(1))
    } else {
        Setup::new(64)
    };
    let mut ring = setup.cq_entries(128).kernel(sim.kernel()).build().expect("a ring");
    let buffers = ring.buf_ring(4, 64).expect("a buffer ring");
    let (ours, theirs) = sim.socket_pair().expect("descriptors");
    let (reader, writer) = sim.pipe().expect("descriptors");
    let stream = ring.submit(RecvMulti::new(ours, &buffers)).expect("room");
    let read = ring.submit(op::Read::new(reader, Vec::with_capacity(100))).expect("room");
    sim.after(Duration::from_millis(3), move |sim| {
        sim.write(&theirs, b"some bytes").expect("room");
    });
    for turn in 0..20_u64 {
        let span = Duration::from_micros(turn * 50);
        let timer = ring.submit(op::Timeout::new(span)).expect("room");
        let _ = ring.submit(op::Nop.forced());
        if turn.is_multiple_of(3) {
            let _ = ring.cancel(&timer);
        }
        let _ = ring.wait_timeout(timer, Duration::from_micros(400));
        let _ = sim.write(&writer, &[7; 30]);
        while let Ok(Next::Item(_)) = ring.try_next(&stream) {}
    }
    let _ = ring.wait_timeout(read, Duration::from_secs(1));
    drop(ring);
    sim.check();
    (sim.trace(), sim.digest())
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    let mut kept = Vec::new();
    for seed in 0..200 {
        let first = run(seed);
        // Other memory, and other descriptors.
        kept.push((vec![seed; 1000], std::fs::File::open("/dev/null").expect("there")));
        let second = run(seed);
        let different = first.0.iter().zip(&second.0).find(|(one, other)| one != other);
        assert_eq!(different, None, "seed {seed}");
        assert_eq!(first.1, second.1, "seed {seed}");
    }
}

#[test]
fn seeds_give_different_traces() {
    let mut digests: Vec<u64> = (0..50).map(|seed| run(seed).1).collect();
    digests.sort_unstable();
    digests.dedup();
    assert!(digests.len() > 45);
}

/// The trace of one program, so that builds can be compared: debug, release, other machines.
#[test]
fn a_trace_is_the_same_in_every_build() {
    let sim = Sim::with_faults(7, Faults { delay: 500, ..Faults::SOME });
    let mut ring = Setup::plain(8).kernel(sim.kernel()).build_raw().expect("a ring");
    let (reader, writer) = sim.pipe().expect("descriptors");
    let mut buf = [0_u8; 8];
    let addr = buf.as_mut_ptr().expose_provenance() as u64;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
    // SAFETY: the buffer lives until the read has ended, below (OP1).
    unsafe { ring.push(annulus::prep::read(fd, addr, 8, 0)) }.expect("room");
    sim.write(&writer, b"12345678").expect("room");
    ring.submit_and_wait(1).expect("it comes");
    assert!(ring.pop().is_some_and(|cqe| cqe.res > 0));
    assert_eq!(sim.digest(), DIGEST);
    assert_eq!(run(3).1, OF_THREADS);
}

const OF_THREADS: u64 = 7_523_850_750_646_304_815;
const DIGEST: u64 = 10_963_234_819_576_349_478;
