//! Solutions of chapter 8: who failed, and what is left to do.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::buf::SliceExt as _;
use annulus::op::{Nop, Read, Write};
use annulus::sim::{Faults, Sim};
use annulus::sys::flags::Features;
use annulus::{EnterCause, Rejection, Ring, Setup};

use crate::ring;

// ANCHOR: short
/// Reads exactly as much as fits into `buf`.
fn read_all(ring: &mut Ring, mut fd: OwnedFd, mut buf: Box<[u8]>) -> std::io::Result<Box<[u8]>> {
    let mut filled = 0;
    while filled < buf.len() {
        let read = ring.submit(Read::new(fd, buf.slice(filled..)).at(filled as u64))?;
        let outcome = ring.wait(read)?;
        let count = match outcome.result {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            result => result?,
        };
        (fd, buf, filled) = (outcome.fd, outcome.buf.into_inner(), filled + count);
    }
    Ok(buf)
}

#[test]
fn a_loop_survives_a_thousand_seeds_of_short_reads() {
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let path = std::env::temp_dir().join(format!("annulus-book-short-{}", std::process::id()));
    std::fs::write(&path, &bytes).expect("it can be written");
    let mut turns = 0;
    for seed in 0..1_000 {
        let sim = Sim::with_faults(seed, Faults { short: 500, ..Faults::SOME });
        let mut ring = Setup::new(8).kernel(sim.kernel()).build().expect("a simulated ring");
        let file = File::open(&path).expect("it is there").into();
        let read = read_all(&mut ring, file, vec![0; 5_000].into()).expect("all is there");
        assert!(*read == bytes[..], "seed {seed}");
        turns += ring.stats().sqes;
        drop(ring);
        sim.check();
    }
    std::fs::remove_file(path).expect("it is there");
    assert!(turns > 1_200, "{turns} reads: some were short");
}
// ANCHOR_END: short

// ANCHOR: channels
#[test]
fn three_failures_come_through_three_channels() {
    let Some(mut ring) = ring(Setup::new(2).cq_entries(2)) else { return };
    // The operation's own: in its output. The ring has nothing to say about it.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let write = ring.submit(Write::new(writer, "lost")).expect("room");
    let error = ring.wait(write).expect("the ring goes on").result.expect_err("nobody reads");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    // The call's: a wait that could never end.
    let why = ring.submit_and_wait(1).expect_err("nothing is in flight").cause;
    assert_eq!(why, EnterCause::NothingComing { want: 1, coming: 0 });
    // The submission's: the operation comes back.
    let _both = [(); 2].map(|()| ring.submit(Nop).expect("room"));
    assert_eq!(ring.submit(Nop).expect_err("every slot is taken").why, Rejection::NoSlot);
}
// ANCHOR_END: channels

// ANCHOR: late
#[test]
fn a_wait_that_times_out_loses_nothing() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    if !ring.features().contains(Features::EXT_ARG) {
        return eprintln!("skipped: needs Linux 5.11: EXT_ARG");
    }
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let read = ring.submit(Read::new(reader, [0; 4])).expect("room");
    let unfinished = ring.wait_timeout(read, Duration::from_millis(1)).expect_err("silence");
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    writer.write_all(b"late").expect("room in the pipe");
    // The very operation, waited for again.
    assert_eq!(ring.wait(unfinished.ticket).expect("it goes on").buf, *b"late");
}
// ANCHOR_END: late
