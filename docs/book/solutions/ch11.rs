//! Solutions of chapter 11: looks, waits, and who ends them.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use annulus::op::{Read, Timeout};
use annulus::sys::flags::{Features, SetupFlags};
use annulus::{EnterCause, Event, Ring, Setup, Woken};

use crate::ring;

// ANCHOR: looks
#[test]
fn a_look_costs_an_enter_only_when_there_is_something() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    if !ring.flags().contains(SetupFlags::DEFER_TASKRUN | SetupFlags::TASKRUN_FLAG) {
        return eprintln!("skipped: needs Linux 6.1: DEFER_TASKRUN");
    }
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let read = ring.submit(Read::new(reader, [0; 4])).expect("room");
    ring.submit_all().expect("it is taken");
    let before = ring.stats().enters;
    let look = |ring: &mut Ring| {
        let seen = ring.reap(|_| ()).expect("a look");
        (seen, ring.stats().enters - before)
    };
    assert_eq!([look(&mut ring), look(&mut ring)], [(0, 0), (0, 0)]);
    writer.write_all(b"here").expect("room in the pipe");
    assert_eq!(look(&mut ring), (1, 1));
    assert_eq!(ring.wait(read).expect("it is there").buf, *b"here");
}
// ANCHOR_END: looks

// ANCHOR: any
/// What a wait ended with.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Came {
    #[default]
    Bytes,
    Time,
    Message,
}

/// Waits for a byte, a message and 50 ms; `disturb` may write or send.
fn first(disturb: fn(std::io::PipeWriter, annulus::RingSender)) -> Option<Came> {
    let mut ring: Ring<Came> = match Setup::new(8).build_for() {
        Ok(ring) => ring,
        Err(error) => {
            eprintln!("skipped: {error}");
            return None;
        }
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let sender = ring.sender().expect("a sender");
    let _read = ring.submit_for(Read::new(reader, [0; 1]), Came::Bytes).expect("room");
    let timeout = Timeout::new(Duration::from_millis(50));
    let _timeout = ring.submit_for(timeout, Came::Time).expect("room");
    thread::spawn(move || disturb(writer, sender));
    let mut came = None;
    while came.is_none() {
        ring.submit_and_wait(1).expect("the time comes in any case");
        ring.reap(|event| match event {
            Event::Ended { user, .. } => came = came.or(Some(*user)),
            Event::Message(_) => came = came.or(Some(Came::Message)),
            _ => {}
        })
        .expect("a look");
    }
    came
}

#[test]
fn one_wait_is_for_a_byte_a_message_and_a_time() {
    let linger = |_writer, _sender| thread::sleep(Duration::from_millis(500));
    let Some(came) = first(linger) else { return };
    assert_eq!(came, Came::Time);
    let write = |mut writer: std::io::PipeWriter, _sender: annulus::RingSender| {
        writer.write_all(b"x").expect("room in the pipe");
        thread::sleep(Duration::from_millis(500));
    };
    let send = |_writer: std::io::PipeWriter, sender: annulus::RingSender| {
        sender.send(1).expect("the ring is there");
        thread::sleep(Duration::from_millis(500));
    };
    // On a machine that is very busy the time may be up before.
    assert!(matches!(first(write), Some(Came::Bytes | Came::Time)));
    assert!(matches!(first(send), Some(Came::Message | Came::Time)));
}
// ANCHOR_END: any

// ANCHOR: vain
#[test]
fn a_wait_for_more_than_can_come_is_refused_or_bounded() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    if !ring.features().contains(Features::EXT_ARG) {
        return eprintln!("skipped: needs Linux 5.11: EXT_ARG");
    }
    let (silent, _writer) = std::io::pipe().expect("a pipe");
    let _read = ring.submit(Read::new(silent, [0; 1])).expect("room");
    let why = ring.submit_and_wait(2).expect_err("one is in flight").cause;
    assert_eq!(why, EnterCause::NothingComing { want: 2, coming: 1 });
    let (limit, start) = (Duration::from_millis(5), Instant::now());
    let (_, woken) = ring.submit_and_wait_timeout(2, limit).expect("it ends");
    assert_eq!(woken, Woken::TimedOut);
    assert!(start.elapsed() >= limit);
}
// ANCHOR_END: vain
